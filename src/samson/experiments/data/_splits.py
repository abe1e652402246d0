"""A data set in three parts, how validation examples are split off, and batches as a network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from samson._errors import choose, require
from samson.experiments.data._augment import AUGMENTATIONS
from samson.experiments.data._loading import (
    RESIDENT_BYTES,
    Batches,
    Pair,
    first_example,
    loaded,
    training_view,
    worker_count,
)
from samson.experiments.data._pictures import Pictures
from samson.noise import generator_for

Split = Pair | Dataset[Any]
FEW = 8
"""Batches from which input ranges are taken."""

SPLIT_SEED = 2211
"""Seed of every split; part of each data set's definition."""
SPLITS = ("train", "validation", "test")
TASKS = ("classification", "language", "regression", "own")


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set, in memory as pairs of tensors, or read from elsewhere as data sets of torch with a length.

    Inputs are images (n, channels, height, width), uint8 or float32; series (n, steps, channels), float32; or tokens
    (n, length), int64. Targets are class numbers (n,) or next tokens (n, length), int64, of which −100 does not count;
    or values, float32; or, for a task of one's own, what its loss takes, with an axis of examples.

    Args:
        train: What networks learn from.
        validation: Chooses hyper-parameters.
        test: Is only ever reported.
        outputs: Classes, size of the vocabulary, or predicted values, ≥ 1.
        task: "classification", "language" or "regression"; or "own", which a comparison must name.
        mean: Of each channel, of inputs scaled to 0..1; for uint8 inputs. () leaves them at 0..1.
        std: The same for the standard deviation, > 0.
        augment: Names in `AUGMENTATIONS` that training uses by default.
    """

    train: Split
    validation: Split
    test: Split
    outputs: int
    task: str = "classification"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: tuple[str, ...] = ()
    _examples: dict[str | torch.device, Pair] = field(default_factory=dict, init=False, repr=False)
    """In memory: prepared ones by their split, and the raw training split by a device."""
    _loaded: dict[tuple[str, int], Batches] = field(default_factory=dict, init=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's input."""
        return tuple(self.train[0].shape[1:] if isinstance(self.train, tuple) else first_example(self.train)[0].shape)

    def prepared(self, inputs: Tensor) -> Tensor:
        """A batch as the network sees it: uint8 becomes float32, (inputs / 255 - mean) / std; anything else stays."""
        if inputs.dtype != torch.uint8:
            return inputs
        scaled = inputs.to(torch.float32).div_(255)
        if self.mean:
            mean, std = (_moved(torch.tensor(each), inputs.device).view(-1, 1, 1) for each in (self.mean, self.std))
            scaled.sub_(mean).div_(std)
        return scaled

    def examples(self, split: str, batch_size: int = 256) -> Pair | Batches:
        """All examples of a split, prepared and in a fixed order.

        Args:
            split: "train", "validation" or "test".
            batch_size: Of a split that is not in memory, ≥ 1.

        Returns:
            The pair of a split in memory, which is kept; otherwise batches that can be run through again and again.
        """
        data: Split = getattr(self, choose("`split`", split, SPLITS))
        if isinstance(data, Dataset):
            fresh = Batches(data, length(data), batch_size, self.prepared)
            return self._loaded.setdefault((split, batch_size), fresh)
        if split not in self._examples:
            self._examples[split] = self.prepared(data[0]), data[1]
        return self._examples[split]

    def some(self, split: str, count: int | None) -> Pair | Batches:
        """So many examples of a split, always the same ones; all of them for None, or if there are no more.

        Raises:
            SetupError: If the split is not in memory.
        """
        found = self.examples(split)
        if count is None:
            return found
        require(
            isinstance(found, tuple), "`examples`", "left out for data that are not in memory", count, "Leave it out."
        )
        inputs, targets = found
        chosen = torch.randperm(len(targets), generator=generator_for(0, "some", split))[:count]
        return inputs[chosen], targets[chosen]

    def few_inputs(
        self, batch_size: int, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor]]:
        """The inputs of a few training batches, from which input ranges are taken; none is loaded unless they are."""
        batches = self.batches(batch_size, seed=seed, epoch=0, device=device, augment=(), workers=0)
        yield from ((inputs,) for inputs, _ in islice(batches, FEW))

    def steps(self, batch_size: int) -> int:
        """Whole batches in one epoch of training.

        Raises:
            SetupError: If there is none.
        """
        size = length(self.train)
        mend = (
            f"Write recipe = {{ batch_size = {size} }} in a suite's file, or for `samson train` this key as its recipe."
        )
        require(1 <= batch_size <= size, "`batch_size`", f"from 1 to {size} for these data", batch_size, mend)
        return size // batch_size

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        device: torch.device | str,
        augment: Sequence[str],
        workers: int | None = None,
        start: int = 0,
    ) -> Iterator[Pair]:
        """The batches of one epoch of training, augmented and prepared.

        A batch is a pure function of seed, epoch, its number and `batch_size`; global random state is neither seen nor
        changed.

        Args:
            batch_size: Examples in a batch, ≥ 1; a smaller last one is left out.
            seed: Seed of order and augmentation, ≥ 0.
            epoch: Number of the epoch, from 0.
            device: Where the batches are wanted.
            augment: Names in `AUGMENTATIONS`, carried out in this order.
            workers: Processes that load a split that is not in memory; 0 loads in this one, None is `worker_count`.
            start: Batches at the beginning that are skipped and cost nothing; the others are as without it.

        Raises:
            SetupError: If there is no whole batch, no augmentation of that name, or the inputs are no images.
        """
        steps = self.steps(batch_size)
        for name in augment:
            choose("`augment`", name, AUGMENTATIONS)
        images = not augment or len(self.shape) == 3
        require(images, "`augment`", "left out unless inputs are images", ",".join(augment), "Leave it out.")
        order = torch.randperm(length(self.train), generator=generator_for(seed, "order", epoch))
        numbers = order[: steps * batch_size].view(steps, batch_size)[start:]
        place = torch.device(device)

        def made() -> Iterator[Pair]:
            done = Pictures.own if isinstance(self.train, Pictures) else ()
            raw: Iterator[Pair]
            if isinstance(self.train, tuple):
                held = self._resident(place)
                raw = ((held[0][each], held[1][each]) for each in numbers.to(held[0].device))
            else:
                view = training_view(self.train, augment, seed, epoch)
                count = worker_count() if workers is None else workers
                raw = loaded(view, list(numbers), count, pin=place.type == "cuda")
            for number, batch in enumerate(raw, start):
                inputs, targets = (_moved(part, place) for part in batch)
                for name in augment:
                    if name not in done:
                        inputs = AUGMENTATIONS[name](inputs, generator_for(seed, "augment", epoch, number, name))
                yield self.prepared(inputs), targets

        return made()

    def _resident(self, device: torch.device) -> Pair:
        """The training split in memory of a device, raw; there it is moved once, if it is small enough."""
        inputs, targets = cast("Pair", self.train)
        if device.type == "cpu" or inputs.nbytes > RESIDENT_BYTES:
            return inputs, targets
        if device not in self._examples:
            self._examples[device] = inputs.to(device), targets.to(device)
        return self._examples[device]


def divide(count: int, part: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of `count` examples that stay in training and of the `part` that validate, both in order."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[part:].sort().values, order[:part].sort().values


def split_off(train: Split, share: int = 10) -> tuple[Split, Split]:
    """Split validation examples off the training examples: one in `share`, and at least one.

    Raises:
        SetupError: If there are fewer than two.
    """
    count = length(train)
    require(count >= 2, "`data`", "a set of two training examples at least", count, "Give a `validation` split too.")
    first, second = (_part(train, numbers) for numbers in divide(count, max(1, round(count / share)), SPLIT_SEED))
    return first, second


def _part(split: Split, numbers: Tensor) -> Split:
    if isinstance(split, tuple):
        return split[0][numbers], split[1][numbers]
    if isinstance(split, Pictures):
        return split.part(numbers)
    return Subset(split, numbers.tolist())


def length(split: Split) -> int:
    """The number of examples."""
    return len(split[1]) if isinstance(split, tuple) else len(split)  # type: ignore[arg-type]


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=device.type == "cuda")  # waits for nothing that the GPU still computes
