"""Batches of examples from any source: what an evaluation, a calibration and a re-estimation run a model on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, Dataset

BATCH_SIZE = 256
TARGET_KEYS = ("labels", "label", "targets", "target")
"""Keys of a dict batch under which its targets are looked for, in this order."""

Examples = Tensor | tuple[Tensor, Tensor] | Dataset[Any] | Iterable[Any]
"""Whole tensors (inputs, or inputs and targets), a data set, a DataLoader, or any iterable of batches (see `Batch`)."""


def moved(examples: Examples, device: torch.device) -> Examples:
    """Whole tensors on a device, once for all passes; of other data each batch is moved when it comes."""
    if isinstance(examples, Tensor):
        return examples.to(device)
    return (examples[0].to(device), examples[1].to(device)) if is_pair(examples) else examples


def raised(leaf: Any) -> Any:
    """A tensor of half precision in float32, in which a metric does not overflow; anything else as it is."""
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in (torch.bfloat16, torch.float16) else leaf


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and targets of some examples: the model is called as `model(*inputs, **keywords)`.

    Args:
        inputs: Positional arguments of the model.
        targets: What the outputs are compared with: a tensor whose first axis counts the examples, several of these in
            a mapping or a sequence, or a sequence with an entry for each example. None if there are none.
        keywords: Keyword arguments of the model.
    """

    inputs: tuple[Any, ...]
    targets: Any = None
    keywords: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Any) -> Batch:
        """A batch from the form that a user's loader gives.

        Args:
            raw: A sequence whose last part is the targets, as DataLoaders give it; a dict with the targets under one of
                `TARGET_KEYS`, as for Transformers; or inputs alone, as a tensor or a sequence of one.

        Raises:
            ValueError: If it is none of these, or inputs are arrays of numpy.
        """
        match raw:
            case np.ndarray() | [np.ndarray(), *_]:
                raise ValueError(
                    "A batch of `data` must hold tensors, got arrays of numpy. Give torch.as_tensor(array), or a "
                    "DataLoader, which does so."
                )
            case Batch():
                return raw
            case Tensor():
                return cls((raw,))
            case Mapping():
                key = next((key for key in TARGET_KEYS if key in raw), None)
                keywords = {name: value for name, value in raw.items() if name != key}
                return cls((), None if key is None else raw[key], keywords)
            case tuple() | list() if raw:
                return cls(tuple(raw[:-1]), raw[-1]) if len(raw) > 1 else cls(tuple(raw))
        raise ValueError(
            "A batch of `data` must be (inputs, targets), a dict with labels or a tensor of inputs, got "
            f"{type(raw).__name__}. Give `data` as a list of such batches."
        )

    def __len__(self) -> int:
        rows = self._rows_of_parts
        return len(self.targets) if rows is None else rows

    @property
    def _rows_of_parts(self) -> int | None:
        """The common length of targets of several parts; None where targets have a row, or an entry, an example."""
        parts, several = self.targets, isinstance(self.targets, Mapping)
        if not several and not (isinstance(parts, tuple | list) and all(isinstance(part, Tensor) for part in parts)):
            return None
        found, others = _lengths(parts), _lengths((self.inputs, self.keywords))
        rows = found if len(found) == 1 else found & others
        if not several and (len(rows) != 1 or (len(parts) in others and not rows <= others)):
            return None
        if len(rows) != 1:
            raise ValueError(
                "A batch of `data` must have targets with a row for each of its examples, got tensors of "
                f"{sorted(found)} rows under {', '.join(map(repr, parts))}. Leave out what has none."
            )
        return next(iter(rows))

    def part(self, start: int, end: int) -> Batch:
        """The examples from `start` to `end`: what has one row or entry an example is cut, anything else is kept."""
        size = len(self)
        cut = self._mapped(lambda t: t[start:end] if t.ndim and len(t) == size else t)
        if isinstance(self.targets, tuple | list | np.ndarray) and self._rows_of_parts is None:
            return Batch(cut.inputs, self.targets[start:end], cut.keywords)
        return cut

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """A copy on a device, which a model may write into, with 4-d inputs in channels-last order if asked."""

        def moved(tensor: Tensor) -> Tensor:
            if channels_last and tensor.ndim == 4:
                return tensor.to(device, memory_format=torch.channels_last, copy=True)
            return tensor.to(device, copy=True)

        return self._mapped(moved)

    def _mapped(self, function: Any) -> Batch:
        def one(value: Any) -> Any:
            if isinstance(value, PackedSequence):  # the sizes of its batches stay on the CPU, by torch's rule
                return PackedSequence(function(value.data), value.batch_sizes, *map(one, value[2:]))
            return function(value) if isinstance(value, Tensor) else value

        every = self.inputs, self.targets, self.keywords
        return Batch(*tree_map(one, every, is_leaf=lambda value: isinstance(value, PackedSequence)))


def _lengths(value: Any) -> set[int]:
    """Of the first axes of all tensors in a value."""
    return {len(leaf) for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.ndim}


def batches_of(data: Examples, batch_size: int = BATCH_SIZE, *, name: str = "data") -> Iterable[Any]:
    """What gives the same batches each time it is run through, in the user's own form (see `Batch.of`).

    Whole tensors and data sets are cut up in order, an iterator, which could be run through only once, becomes a list,
    and a DataLoader that draws from generators of its own is `Replayed`. Anything else is left as it is. Inputs or
    targets, not both, may be several whole tensors in a tuple or dict.

    Args:
        data: The examples.
        batch_size: Of whole tensors and data sets, ≥ 1.
        name: What errors call it.

    Raises:
        ValueError: If whole tensors have different lengths, or no example at all.
        TypeError: If it gives no batches.
    """
    if isinstance(data, Tensor):
        return [(part,) for part in torch.split(data, batch_size)]
    if _is_whole(data):
        inputs, targets = (sorted(_lengths(part)) for part in data)
        if inputs != targets or len(inputs) != 1 or not inputs[0]:
            counts = (", ".join(map(str, part)) for part in (inputs, targets))
            raise ValueError(
                f"`{name}` must pair each input with a target, got {next(counts)} inputs and {next(counts)} targets."
            )
        cuts = (slice(start, start + batch_size) for start in range(0, inputs[0], batch_size))
        return [tree_map(lambda tensor, cut=cut: tensor[cut], data) for cut in cuts]
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size)
    if isinstance(data, Iterator):
        return list(data)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        raise TypeError(
            f"`{name}` must be a pair of tensors, a data set, a DataLoader or an iterable of batches, got "
            f"{type(data).__name__}. DataLoader(data, batch_size) makes batches of a data set; put a single batch in a "
            "list: [batch]."
        )
    own = _generators(data) if isinstance(data, DataLoader) else []
    return Replayed(data, own) if own else data


class Replayed:
    """A DataLoader whose generators begin each pass as they are now: the same order again. They come back as they were.

    Args:
        loader: The loader.
        generators: From which it draws.
    """

    def __init__(self, loader: Iterable[Any], generators: list[torch.Generator]) -> None:
        self._loader, self._generators = loader, generators
        self._states = [generator.get_state() for generator in generators]

    def __iter__(self) -> Iterator[Any]:
        before = [generator.get_state() for generator in self._generators]
        try:
            for generator, state in zip(self._generators, self._states, strict=True):
                generator.set_state(state)
            yield from self._loader
        finally:
            for generator, state in zip(self._generators, before, strict=True):
                generator.set_state(state)


def replacing(data: Examples) -> str | None:
    """The class of the sampler by which a DataLoader draws examples with replacement; None where it does not."""
    samplers = _samplers(data) if isinstance(data, DataLoader) else []
    return next((type(one).__name__ for one in samplers if getattr(one, "replacement", False) is True), None)


def _samplers(loader: DataLoader[Any]) -> list[Any]:
    return [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    """The generators of a loader and its samplers."""
    found = [getattr(owner, "generator", None) for owner in (loader, *_samplers(loader))]
    return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())


def repeatable(data: Examples) -> Examples:
    """The data in a form that can be run through again: an iterator as a list, anything else as it is."""
    return list(data) if isinstance(data, Iterator) else data


def is_pair(data: object) -> TypeGuard[tuple[Tensor, Tensor]]:
    """Whether the data are a tuple of two whole tensors."""
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _is_whole(data: object) -> TypeGuard[tuple[Any, Any]]:
    """Whether the data are a tuple of inputs and targets, whole tensors all; one of both may be several.

    Where both are, they are two batches.
    """
    if not isinstance(data, tuple) or len(data) != 2 or not any(isinstance(part, Tensor) for part in data):
        return False
    parts = [part if isinstance(part, tuple | Mapping) else (part,) for part in data]
    return all(isinstance(leaf, Tensor) and leaf.ndim for part in parts for leaf in tree_leaves(part))


def require_module(model: object) -> None:
    """Refuse what is no model of torch."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be a torch.nn.Module, got {model!r:.80}. For an exported or packaged program give the model "
            "that it was made from."
        )


def is_cast(model: nn.Module) -> bool:
    """Whether Accelerate's mixed precision wraps the forward of a model, or of a part of it."""
    inner = (getattr(vars(part).get("forward"), "__wrapped__", None) for part in model.modules())
    return any(type(one).__name__ == "ConvertOutputsToFp32" for one in inner)
