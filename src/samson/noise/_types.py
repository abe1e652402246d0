"""Checks that arguments are of the types that they are declared with."""

from __future__ import annotations

import collections.abc
import dataclasses
import sys
import types
import typing
from numbers import Integral, Real
from typing import Any

from samson._checks import require
from samson._decoding import hints_of

_NOUNS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "a word",
    types.NoneType: "None",
}


_LARGEST = sys.float_info.max


def require_types(made: Any) -> None:
    """Require that the fields of a dataclass are what their annotations say: True and "1" are no numbers.

    Whole numbers are numbers, also those of numpy, which become Python's: small ones would overflow. Tensors are none.

    Raises:
        ValueError: Names the field, the value and what it must be.

    Example:
        >>> @dataclasses.dataclass
        ... class Converter:
        ...     steps: int | None
        >>> require_types(Converter(254))
        >>> require_types(Converter(True))
        Traceback (most recent call last):
        ValueError: `steps` must be a whole number or None, got True.
    """
    kind: Any = type(made)
    hints = hints_of(kind)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        require_type(field.name, value, hints[field.name])
        if isinstance(value, Integral) and not isinstance(value, int):
            object.__setattr__(made, field.name, int(value))


def require_type(name: str, value: object, hint: Any) -> None:
    """Require that an argument of that name is of an annotated type."""
    require(_fits(value, hint), name, f"be {_noun(hint)}", value)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if isinstance(value, tuple) and arguments[-1] is Ellipsis else arguments
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is collections.abc.Mapping:
        return isinstance(value, origin) and all(
            _fits(key, arguments[0]) and _fits(one, arguments[1]) for key, one in value.items()
        )
    if hint is float:
        small = not isinstance(value, Integral) or abs(int(value)) <= _LARGEST
        return isinstance(value, Real) and not isinstance(value, bool) and small
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, hint)


def _noun(hint: Any, many: str = "") -> str:
    """What a type is called, in the plural with many="s"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_noun, arguments))
    if origin is tuple:
        what = "tuple" if arguments[-1] is Ellipsis else "pair"
        return f"{f'{what}s' if many else f'a {what}'} of {_noun(arguments[0], 's')}"
    if origin is collections.abc.Mapping:
        return f"a mapping to {_noun(arguments[1], 's')}"
    noun = _NOUNS.get(hint) or f"a {hint.__name__}"
    return f"{noun.removeprefix('a ')}s" if many else noun
