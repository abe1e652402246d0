"""Tables of a file, TOML or JSON, to dataclasses: their fields and types are the format, their own checks the rules."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import sys
import tomllib
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from samson._errors import SetupError
from samson._names import suggestion

T = TypeVar("T")

SCALARS: dict[type, tuple[str, str]] = {
    float: ("a number", "0.5"),
    int: ("a whole number", "8"),
    str: ("a text in quotes", '"…"'),
    bool: ("true or false", "true"),
}
"""What each type is called, and an example of it."""


class TableError(SetupError):
    """A table that says something wrong: names table, key, value, rule and mend."""


def decode(table: Any, kind: type[T], where: str) -> T:
    """Make a dataclass from a table, whose keys are its fields.

    Fields with a default may be left out. Whole numbers are taken for numbers; nothing else is converted.

    Args:
        table: As read from a file.
        kind: A dataclass of numbers, texts, tuples, mappings of text to these, or dataclasses.
        where: Name of the table in the file.

    Raises:
        TableError: If a key is unknown or missing, or a value is of the wrong type or refused by the dataclass.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Converter:
        ...     steps: int
        ...     bound: float = 1.0
        >>> decode({"steps": 254, "bound": 10}, Converter, "adc")
        Converter(steps=254, bound=10.0)
    """
    _expect(isinstance(table, dict), where, f"must be a table, got {table!r}. Write [{where}] and its keys below.")
    hints, fields = hints_of(kind), dataclasses.fields(kind)  # type: ignore[arg-type]  # no type says data class
    names = [field.name for field in fields if field.init]
    for key in (key for key in table if key not in names):
        raise TableError(f"[{where}]: `{key}` is unknown. {suggestion(key, names)}")
    for field in fields:
        given = field.name in table or field.default is not dataclasses.MISSING
        given = given or field.default_factory is not dataclasses.MISSING
        _expect(given, where, f"`{field.name}` is missing. Add a line `{field.name} = …`.")
    values = {key: _value(value, hints[key], where, key) for key, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise TableError(
            f"[{where}]: {error} Ranges and units: `pydoc {_room_of(kind)}.{kind.__qualname__}`."
        ) from None


def read_toml(path: Path, read: Callable[[dict[str, Any]], T]) -> T:
    """What a function makes of the table in a TOML file.

    Raises:
        ValueError: Names the file, the table, the key, the value, the rule and the mend.
        FileNotFoundError: If there is no file.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        error.add_note(f"`path` must be a TOML file, got {str(path)!r}.")
        raise
    except (ValueError, RecursionError) as error:  # too deep
        raise ValueError(f"`path` must be a TOML file, got {str(path)!r}: {error}.") from error
    try:
        return read(table)
    except (SetupError, RecursionError) as error:
        raise TableError(f"`{path}`, {error}") from None


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The types of a data class's fields."""
    return typing.get_type_hints(kind)


def _room_of(kind: type) -> str:
    """Where a class is to be had: its module without inner ones."""
    return ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))


def _value(value: Any, kind: Any, where: str, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in arguments:
            return None
        choices = [choice for choice in arguments if choice is not types.NoneType]
        return _value(value, _fitting(value, choices, where, key), where, key)
    if dataclasses.is_dataclass(kind):
        return decode(value, typing.cast("type[Any]", kind), f"{where}.{key}")
    if origin is tuple:
        _expect(isinstance(value, list), where, f"`{key}` must be a list, got {value!r}. Write {key} = [ … ].")
        # The values of many chips are looked at together.
        plain = arguments[0] is float and set(map(type, value)) == {float} and not any(map(math.isnan, value))
        return tuple(
            value if plain else (_value(item, arguments[0], where, f"{key}[{i}]") for i, item in enumerate(value))
        )
    if origin in (dict, collections.abc.Mapping):
        place = f"{where}.{key}"
        _expect(isinstance(value, dict), place, f"must be a table, got {value!r}. Write [{place}] and its keys below.")
        return {name: _value(item, arguments[1], place, name) for name, item in value.items()}
    several = (origin or kind) in (tuple, list)
    mend = "In its class, annotate it as `tuple[float, ...]`." if several else "Leave it out."
    _expect(kind in SCALARS, where, f"`{key}` has no form in a file. {mend}")
    given = value
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.nan
    noun, example = SCALARS[kind]
    plain = type(value) is kind and not (kind is float and math.isnan(value))
    plain = plain and not (kind is str and any("\ud800" <= letter <= "\udfff" for letter in value))
    _expect(plain, where, f"`{key}` must be {noun}, got {repr(given)[:99]}. Write for example {key} = {example}.")
    return value


def _fitting(value: Any, choices: list[Any], where: str, key: str) -> Any:
    """The one type of several that a value is of, or a table's keys fit; with one type, that one."""
    if len(choices) == 1:
        return choices[0]
    if not any(map(dataclasses.is_dataclass, choices)):
        given = tuple if isinstance(value, list) else type(value)
        return next((choice for choice in choices if given in (choice, typing.get_origin(choice))), choices[0])
    keys = {choice: [field.name for field in dataclasses.fields(choice)] for choice in choices}
    fitting = [choice for choice in choices if isinstance(value, dict) and set(value) <= set(keys[choice])]
    rules = " or ".join(f"{choice.__name__} ({', '.join(names)})" for choice, names in keys.items())
    _expect(bool(fitting), where, f"`{key}` must be a table with the keys of {rules}, got {value!r}.")
    return fitting[0]


def _expect(holds: bool, where: str, message: str) -> None:
    if not holds:
        raise TableError(f"[{where}]: {message}")
