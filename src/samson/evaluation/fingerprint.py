"""One hash over all that a value holds, the same in every process: what a computation with it depends on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from hashlib import sha256
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LENGTH = 16
"""Hexadecimal digits of a fingerprint."""

_PLAIN = bool, int, float, complex, str, bytes, NoneType, torch.dtype, torch.device, torch.layout, torch.memory_format
_OPAQUE = {"torch", "numpy", "builtins", *sys.stdlib_module_names}
"""Packages whose objects count by what they show of themselves."""
_FIXED = _OPAQUE | {"samson"}
"""Packages whose functions and classes count by name: the caller knows their versions."""
_NO_SETTING = {"training", "_torchdynamo_wrapper_id", *(name for name in vars(nn.Module()) if "hook" in name)}
"""What a module holds without an influence on a forward pass in evaluation mode; see `_settings` for its hooks."""


def fingerprint(value: Any) -> str:
    """A hash of a value: data of any nesting, models, dataclasses, functions, and objects by their attributes.

    Tensors and arrays count with dtype, shape, strides and bits, not with their device. Functions, and the methods of
    classes, count with name, compiled code, constants, defaults and what they close over; those of torch, numpy, samson
    and the standard library with their names. Of a model, modes and hooks for the backward pass do not count.

    What cannot be told: a change in a function that another one calls or in a global variable, in an object of an
    extension that shows nothing of itself, and in options of `torch.compile`. Python's `hash`, addresses and the order
    of sets play no part.

    Example:
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(2)})
        True
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(1, 2)})
        False
    """
    return _Walk().digest(value).hex()[:LENGTH]


class _Walk:
    """Hashes from the leaves up; what is found again within itself counts by how far up it is."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._done: dict[int, tuple[object, bytes]] = {}  # with the object, so that no other one gets its id

    def digest(self, value: Any) -> bytes:
        if isinstance(value, _PLAIN):
            return _hashed(type(value).__name__.encode(), repr(value).encode())
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return _hashed(b"within", str(len(self._open) - self._open.index(id(value))).encode())
        self._open.append(id(value))
        found = self._parts(value)
        self._open.pop()
        self._done[id(value)] = value, found
        return found

    def _parts(self, value: Any) -> bytes:
        match value:
            case np.ndarray() if value.dtype.hasobject:
                parts: tuple[Any, ...] = "array", value.shape, value.tolist()
            case Tensor() | np.ndarray():
                return _bits(value)
            case type() | FunctionType() | MethodType() | BuiltinFunctionType() | ModuleType() | CodeType():
                parts = self._code(value)
            case functools.partial():
                parts = "partial", value.func, value.args, value.keywords
            case Set():
                parts = "set", type(value), *sorted(map(self.digest, value))
            case Mapping():
                parts = "mapping", type(value), *(part for pair in value.items() for part in pair)
            case list() | tuple():
                parts = "sequence", type(value), *value
            case nn.Module():
                parts = "module", type(value), _settings(value)
            case torch.Generator():
                parts = "generator", value.get_state()
            case _:
                parts = "object", type(value), _state(value)
        return _hashed(*map(self.digest, parts))

    def _code(self, value: Any) -> tuple[Any, ...]:
        match value:
            case type():
                return "class", _name(value), *self._members(value)
            case CodeType():
                return "code", value.co_code, value.co_consts, value.co_names, value.co_freevars
            case MethodType():
                return "method", value.__func__, value.__self__
            case FunctionType() if _package(value) not in _FIXED:
                closed = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
                return "function", _name(value), value.__code__, value.__defaults__, value.__kwdefaults__, closed
            case _:
                return "name", _name(value)

    def _members(self, kind: type) -> Iterable[Any]:
        """The methods and plain settings of a class and of those that it is made from, with their names."""
        for one in kind.__mro__:
            if _package(one) not in _FIXED:
                for name, member in vars(one).items():
                    function = getattr(member, "fget", getattr(member, "__func__", member))  # property, static method
                    is_setting = isinstance(member, _PLAIN) and not name.startswith("__")
                    if is_setting or isinstance(function, FunctionType):
                        yield from (name, type(member), function)


def _hashed(*parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()


def _bits(value: Tensor | np.ndarray[Any, Any]) -> bytes:
    about = f"{type(value).__name__} {value.dtype} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        held = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return _hashed(f"{about} {value.strides}".encode(), sha256(held.data).digest())
    if value.layout is not torch.strided:
        return _hashed(f"{about} {value.layout}".encode(), _bits(value.detach().to_dense()))
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return _hashed(f"{about} {value.stride()}".encode(), sha256(flat.numpy().data).digest())


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a module holds, but for its mode and for hooks that no forward pass calls."""
    found = {}
    for name, value in vars(module).items():
        if name in ("_forward_hooks", "_forward_pre_hooks"):
            found[name] = list(value.values())  # their keys count up in each process
        elif name not in _NO_SETTING:
            found[name] = value
    return found


def _state(value: object) -> Any:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if _package(type(value)) in _OPAQUE:
        text = repr(value)
        return "" if " at 0x" in text else text
    return value.__getstate__()


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _package(value: Any) -> str:
    return (getattr(value, "__module__", None) or "").partition(".")[0]


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (it raises where there is none)
    except ValueError:
        return True
    return False
