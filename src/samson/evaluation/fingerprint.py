"""One hash over all that a value holds, the same in every process: what a computation with it depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from hashlib import sha256
from types import NoneType
from typing import Any

import torch

from samson.evaluation.code_contents import own
from samson.evaluation.contents import contents, has_influence

LENGTH = 16
"""Hexadecimal digits of a fingerprint."""

_PLAIN = {
    *(bool, int, float, complex, str, bytes, NoneType),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme),
}
_INSIDE = {"_modules", "_parameters", "_buffers"}
"""Where a module keeps what is its attribute."""


def fingerprint(value: Any) -> str:
    """A hash of a value: data of any nesting, models, functions, and objects by what pickle makes them again from.

    Tensors and arrays count with dtype, shape, strides and bits, not with their device. Functions and classes count
    with name, compiled code, constants, defaults, attributes and what they close over; those of torch, numpy, samson
    and the standard library with their names. Of a model, modes and hooks for the backward pass do not count. Locks,
    weak references, logs and the state of torch's compiler have no influence on a forward pass and do not count.

    What cannot be told: a change in a function that another one calls, in a global variable, in an operator that was
    registered with torch, or in a compiled function of an extension, which count by name; what an object's own
    `__getstate__` or `__reduce__` leaves out; a file that is read in the forward pass; environment variables; and
    backend and options of `torch.compile`. Python's `hash`, addresses and the order of sets play no part.

    Raises:
        ValueError: If something is held that does not show what it holds, such as an open file.

    Example:
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(2)})
        True
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(1, 2)})
        False
    """
    walk = _Walk()
    try:
        return walk.digest(value).hex()[:LENGTH]
    except RecursionError:
        raise _refusal(walk.path[:4], "holds things that hold others, and so on, too deep to be followed") from None


class _Walk:
    """Hashes from the leaves up; what is found again within itself counts by how far up it is."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self._open: list[int] = []
        self._done: dict[int, tuple[object, bytes]] = {}  # with the object, so that no other one gets its id

    def digest(self, value: Any) -> bytes:
        if type(value) in _PLAIN:
            return _hashed(type(value).__name__.encode(), repr(value).encode())
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return _hashed(b"within", str(len(self._open) - self._open.index(id(value))).encode())
        self._open.append(id(value))
        found = _hashed(*self._parts(value))
        self._open.pop()
        self._done[id(value)] = value, found
        return found

    def _parts(self, value: Any) -> Iterable[bytes]:
        if not has_influence(value):
            return [self.digest("without influence")]
        if isinstance(value, Set):
            return [*map(self.digest, ("set", type(value), own(value))), *sorted(map(self._member, value))]
        if isinstance(value, Mapping) and not isinstance(value, type):
            about = "mapping", _exact(value), getattr(value, "default_factory", None), _attributes(value)
            pairs = [part for key, one in value.items() for part in (self.digest(key), self._at(key, one))]
            return [*map(self.digest, about), *pairs]
        if isinstance(value, list | tuple):
            about = "sequence", _exact(value), None, _attributes(value)
            return [*map(self.digest, about), *(self._at(number, one) for number, one in enumerate(value))]
        try:
            parts = contents(value)
        except RecursionError:
            raise
        except Exception as error:  # of any kind, as `contents` says
            kind = f"is a {type(value).__module__}.{type(value).__qualname__}, which cannot be told from others"
            raise _refusal(self.path, f"{kind} ({error})") from error
        return list(map(self.digest, parts))

    def _at(self, name: object, value: Any) -> bytes:
        self.path.append(str(name))
        found = self.digest(value)
        self.path.pop()
        return found

    def _member(self, value: Any) -> bytes:
        """Of a set: not by what others of it led to before, which come in any order."""
        if type(value) in _PLAIN:
            return self.digest(value)
        apart = _Walk()
        apart.path, apart._open, apart._done = self.path, list(self._open), dict(self._done)
        return apart.digest(value)


def _exact(value: object) -> Any:
    """The class of a collection; of Python's own, its name."""
    return type(value).__name__ if type(value) in (dict, list, tuple) else type(value)


def _attributes(value: object) -> dict[str, Any] | None:
    return None if type(value) in (dict, list, tuple) else own(value)


def _refusal(path: Iterable[str], what: str) -> ValueError:
    where = ".".join(name for name in path if name not in _INSIDE) or "the value"
    return ValueError(
        f"`{where}` {what}: whether a trial that is kept was computed with the same one is not known. Leave out `Kept` "
        "(--resume), or give the object a `__getstate__` that tells what it holds."
    )


def _hashed(*parts: bytes) -> bytes:
    return sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()
