"""Batches of a data set that is too large for the memory, loaded by worker processes."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from samson._errors import require
from samson.experiments.data._pictures import Pictures
from samson.noise import generator_for

Pair = tuple[Tensor, Tensor]
"""Examples and what is right for them."""

RESIDENT_BYTES = 2**31
"""Splits up to this size are kept: that for training on the device, the others in memory once they were read."""


def worker_count() -> int:
    """Worker processes that load examples: `SAMSON_WORKERS`, or up to 4 where processes are forked, or none.

    One that is not forked runs the user's program again, may not find its modules, and starts slowly.

    Raises:
        SetupError: If `SAMSON_WORKERS` is no whole number of at least 0.
    """
    asked = os.environ.get("SAMSON_WORKERS")
    if asked is not None:
        require(asked.isdecimal(), "`SAMSON_WORKERS`", "a whole number of at least 0", asked, "Write 0 for no workers.")
        return int(asked)
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if method != "fork":
        return 0
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class Seeded(Dataset[Any]):
    """A user's data set, whose random transforms draw from the global state of torch, Python or numpy.

    That state is seeded for each example from seed, epoch and its number, and is as before afterwards.
    """

    dataset: Dataset[Any]
    seed: int
    epoch: int

    def __getitem__(self, number: int) -> Any:
        drawn = generator_for(self.seed, "example", self.epoch, number).initial_seed()
        before, before_python = torch.get_rng_state(), random.getstate()
        before_numpy = np.random.get_state()  # noqa: NPY002 (a user's transforms draw from it)
        try:
            torch.default_generator.manual_seed(drawn)
            random.seed(drawn)
            np.random.seed(drawn % 2**32)  # noqa: NPY002 (the same)
            return self.dataset[number]
        finally:
            torch.set_rng_state(before)
            random.setstate(before_python)
            np.random.set_state(before_numpy)  # noqa: NPY002 (the same)


def training_view(dataset: Dataset[Any], names: Sequence[str], seed: int, epoch: int) -> Dataset[Any]:
    """A data set as it is in one epoch of training."""
    if isinstance(dataset, Pictures):
        return dataset.augmented([name for name in names if name in dataset.own], seed, epoch)
    return Seeded(dataset, seed, epoch)


def first_example(dataset: Dataset[Any]) -> Any:
    """What a data set gives for its first example; global random state stays as it is."""
    return training_view(dataset, (), seed=0, epoch=0)[0]


def loaded(dataset: Dataset[Any], batches: Sequence[Tensor], workers: int, *, pin: bool = False) -> Iterator[Pair]:
    """Load batches of the examples of given numbers, in order.

    Args:
        dataset: Gives (input, target) by number.
        batches: The numbers of each batch's examples, of shape (n,).
        workers: Worker processes, ≥ 0.
        pin: Whether the batches come in pinned memory, for a GPU.

    Yields:
        Inputs as the data set gives them, and targets, int64 or float32.
    """
    generator = Generator()  # so that the loader draws nothing from the global state
    numbers = [batch.tolist() for batch in batches]
    loader = DataLoader(dataset, batch_sampler=numbers, num_workers=workers, generator=generator, pin_memory=pin)
    for inputs, targets in loader:
        yield inputs, targets.to(torch.float32 if targets.is_floating_point() else torch.int64)


@dataclass(frozen=True, eq=False)
class Batches:
    """All batches of a data set in its own order, which can be run through again and again.

    What is not too large is read once: each chip sees the same examples, and worker processes take long to start.

    Args:
        dataset: Gives (input, target) by number.
        length: Its number of examples.
        batch_size: Examples in a batch; the last may be smaller.
        prepared: Applied to the inputs of each batch.
    """

    dataset: Dataset[Any]
    length: int
    batch_size: int
    prepared: Callable[[Tensor], Tensor]
    _kept: list[Pair] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return (self.length + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Pair]:
        for inputs, targets in self._kept or self._read():
            yield self.prepared(inputs), targets

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": []}  # another process reads for itself

    def _read(self) -> Iterator[Pair]:
        """Load the batches, and keep them once all are read, if they are small by each of them."""
        numbers = torch.split(torch.arange(self.length), self.batch_size)
        workers = worker_count() if len(self) > 1 else 0
        read, small = list[Pair](), True
        for inputs, targets in loaded(training_view(self.dataset, (), seed=0, epoch=0), numbers, workers):
            small = small and (inputs.nbytes + targets.nbytes) * self.length <= RESIDENT_BYTES * len(targets)
            if small:
                read.append((inputs.clone(), targets.clone()))  # what a worker process made holds a file open
            yield inputs, targets
        if small:
            self._kept[:] = read
