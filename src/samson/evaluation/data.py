"""What a model is evaluated on: any source of batches, run through once for every chip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

BATCH = 256
TARGET_KEYS = ("labels", "label", "targets", "target")
"""Keys of a dict batch under which its targets are looked for, in this order."""

Data = Iterable[Any] | tuple[Tensor, Tensor]
"""A pair of whole tensors (inputs, targets), a DataLoader, or any iterable of batches (see `Batch`)."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, taken apart: the model is called as `model(*inputs, **keywords)`.

    A batch of the user's may be a sequence whose last part is the targets, as DataLoaders give it, or a dict with the
    targets under one of `TARGET_KEYS`, as for Transformers.

    Args:
        inputs: Positional arguments of the model.
        targets: What the outputs are compared with; its first axis counts the examples.
        keywords: Keyword arguments of the model.
    """

    inputs: tuple[Any, ...]
    targets: Any
    keywords: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, start: int, end: int) -> Batch:
        """The examples from `start` to `end`: every tensor with one row an example is cut, anything else is kept."""
        size = len(self)
        return self._mapped(lambda t: t[start:end] if t.ndim and len(t) == size else t)

    def to(self, device: torch.device, *, channels_last: bool) -> Batch:
        """A copy on a device, which a model may write into, with 4-d inputs in channels-last order if asked."""

        def moved(tensor: Tensor) -> Tensor:
            if channels_last and tensor.ndim == 4:
                return tensor.to(device, memory_format=torch.channels_last, copy=True)
            return tensor.to(device, copy=True)

        return self._mapped(moved)

    def _mapped(self, function: Any) -> Batch:
        inputs, targets, keywords = tree_map(
            lambda value: function(value) if isinstance(value, Tensor) else value,
            (self.inputs, self.targets, self.keywords),
        )
        return Batch(inputs, targets, keywords)


def as_batches(data: Data, batch_size: int = BATCH) -> Iterable[Any]:
    """Something that can be run through for every chip: whole tensors are cut up, a one-shot iterator is kept.

    Raises:
        ValueError: If a pair of tensors has different lengths, or none at all.
    """
    if is_pair(data):
        check_pair(data)
        inputs, targets = cast("tuple[Tensor, Tensor]", data)
        return list(zip(torch.split(inputs, batch_size), torch.split(targets, batch_size), strict=True))
    return cast("Iterable[Any]", kept(data))


def kept(data: Data) -> Data:
    """A one-shot iterator as a list, so that it can be run through again; anything else as it is."""
    return list(data) if isinstance(data, Iterator) else data


def check_pair(data: object) -> None:
    """Refuse whole tensors that do not pair examples with targets.

    Raises:
        ValueError: If they have different lengths, or none at all.
    """
    if is_pair(data):
        inputs, targets = cast("tuple[Tensor, Tensor]", data)
        if len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"`data` must pair each input with a target, got {len(inputs)} inputs and {len(targets)} targets."
            )


def is_pair(data: object) -> bool:
    """Whether the data are a tuple of two whole tensors."""
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def taken_apart(batches: Iterable[Any]) -> Iterator[Batch]:
    """Each batch as a `Batch`.

    Raises:
        ValueError: If the targets of a batch cannot be told.
    """
    for batch in batches:
        if isinstance(batch, Mapping):
            key = next((key for key in TARGET_KEYS if key in batch), None)
            if key is None:
                raise ValueError(
                    f"A dict batch of `data` must hold its targets under one of {', '.join(TARGET_KEYS)}, got the keys "
                    f"{', '.join(map(str, batch))}. Rename the column."
                )
            yield Batch((), batch[key], {name: value for name, value in batch.items() if name != key})
        elif isinstance(batch, (tuple, list)) and len(batch) >= 2:
            yield Batch(tuple(batch[:-1]), batch[-1])
        else:
            raise ValueError(
                "A batch of `data` must be (inputs, targets) or a dict with labels, got "
                f"{type(batch).__name__}. Give `data` as a list of such batches."
            )


def in_blocks(batches: Iterable[Batch], size: int) -> Iterator[tuple[int, Batch]]:
    """Batches cut where a block of `size` examples ends, each with the number of its block."""
    start = 0
    for batch in batches:
        done = 0
        while done < len(batch):
            end = min(len(batch), done + size - (start + done) % size)
            yield (start + done) // size, batch.part(done, end)
            done = end
        start += len(batch)
