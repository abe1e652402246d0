"""What one pass through a model computed, call by call, and what of it can stand for a call in another pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ReplayError(RuntimeError):
    """A pass that cannot be recorded, or that calls other modules than the recorded one did."""


@dataclass(eq=False)
class Call:
    """One call of a module in a recorded pass.

    Args:
        module: What was called.
        start: When, in operations and calls from the start of the pass.
        end: When it returned; 0 before.
        after: Number of the first call that is neither this one nor within it.
        output: What it returned.
        storages: Memory of the tensors in it.
        is_overwritten: Whether the pass wrote to the output's memory after the call; `output` is then a copy.
        is_reusable: Whether the output stands for the whole call: all of its memory came into being within the call,
            the call wrote to nothing else, and nothing else from within it was read after it.
    """

    module: nn.Module
    start: int
    end: int = 0
    after: int = 0
    output: Any = None
    storages: frozenset[int] = frozenset()
    is_overwritten: bool = False
    is_reusable: bool = True


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A pass through a model: every call of a module, and when each tensor's memory was first used.

    It looks at operations, not only at modules, so it knows of weights that are used without calling their layer
    (attention, tied weights, fused layers), of operations in place, and of tensors that leave a call by another way
    than its output. Outputs are kept as they were at the end of their call: what is about to be overwritten is copied.

    Attributes:
        calls: The calls, in the order in which they began.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self._clock = 0
        self._open: list[Call] = []
        self._first_use: dict[int, int] = {}
        self._births: dict[int, tuple[int, tuple[Call, ...]]] = {}
        self._keepers: dict[int, list[Call]] = {}

    def first_use(self, tensors: Iterable[Tensor]) -> float:
        """When one of the tensors was first used; infinity if none was."""
        return min(self._first_use.get(storage, float("inf")) for storage in memory(tensors))

    def opened(self, module: nn.Module) -> Call:
        """Note that a call begins."""
        self._clock += 1
        call = Call(module, self._clock)
        self.calls.append(call)
        self._open.append(call)
        return call

    def closed(self, call: Call, output: Any) -> None:
        """Note that it returns."""
        self._clock += 1
        self._open.pop()
        call.after, call.storages = len(self.calls), memory(leaves(output))
        for storage in call.storages:
            self._read(storage)
        call.end = self._clock
        call.is_reusable &= _is_plain(output) and all(self._birth(s) > call.start for s in call.storages)
        if call.is_reusable:
            call.output = output
            for storage in call.storages:
                self._keepers.setdefault(storage, []).append(call)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what an operation reads, writes and brings into being."""
        self._clock += 1
        kwargs = kwargs or {}
        used = memory(_tensors([args, kwargs]))
        for storage in used:
            self._first_use.setdefault(storage, self._clock)
            self._read(storage)
        for storage in memory(_tensors(_written(func, args, kwargs))):
            for call in self._open:
                call.is_reusable &= self._birth(storage) > call.start
            for call in self._keepers.pop(storage, []):
                call.output, call.is_overwritten = copy.deepcopy(call.output), True
        result = func(*args, **kwargs)
        for storage in memory(_tensors(result)) - used:
            self._births[storage] = self._clock, tuple(self._open)
        return result

    def _birth(self, storage: int) -> int:
        """When memory came into being; 0 if before the pass."""
        return self._births.get(storage, (0, ()))[0]

    def _read(self, storage: int) -> None:
        """Mark calls that have returned, but not this memory that came into being within them."""
        for call in self._births.get(storage, (0, ()))[1]:
            if call.end and storage not in call.storages:
                call.is_reusable = False


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in what an operation takes or gives, faster than torch's own search."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple, dict)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)


def leaves(output: Any) -> list[Tensor]:
    """The tensors in what a module gives."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def memory(tensors: Iterable[Tensor]) -> frozenset[int]:
    """Where tensors lie; empty ones lie nowhere."""
    found = set()
    for tensor in tensors:
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise ReplayError("The memory of sparse and nested tensors cannot be told.")
        found.add(tensor.untyped_storage().data_ptr())
    return frozenset(found - {0})


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operation writes to."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    names = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    given = {a.name: value for a, value in zip(schema.arguments, args, strict=False)} | kwargs
    return [given[name] for name in names if name in given]


def _is_plain(output: Any) -> bool:
    """Whether an output consists of ordinary tensors and numbers, which can be copied."""
    return all(type(leaf) in (Tensor, int, float, bool, str, type(None)) for leaf in tree_leaves(output))
