"""Dataclasses to JSON and back, checked field by field; nothing in a file is trusted or evaluated."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
import types
import typing
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")


class RecordError(ValueError):
    """A record that cannot be read: names the file, the field and what it should hold."""


CHECKSUM = "checksum"


def write_json(path: Path, record: Any) -> None:
    """Write a dataclass as JSON with a checksum, atomically: a reader sees the whole file or none.

    Raises:
        ValueError: If a number in it is NaN or infinite, which JSON does not have.
    """
    data = dataclasses.asdict(record)
    text = json.dumps(data | {CHECKSUM: checksum(data)}, indent=1, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (text + "\n").encode())


def checksum(data: Mapping[str, Any]) -> str:
    """A hash of JSON data, whatever the order of its keys: it shows changes that were not meant."""
    return sha256(json.dumps(data, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in place in one step, so that an interruption leaves the old one or the new one."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, kind: type[T]) -> T:
    """Read a dataclass from JSON.

    Raises:
        RecordError: If the file is no JSON, a field is missing, unknown or of the wrong type, or the file was changed
            since it was written.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"`{path}` is not readable as a record: {error}.") from error
    found = data.pop(CHECKSUM, None) if isinstance(data, dict) else None
    try:
        record = cast("T", decode(data, kind, "record"))
        if found != checksum(data):
            raise RecordError("it was changed after it was written: its checksum is another one.")
    except RecordError as error:
        raise RecordError(f"`{path}` is not a valid record: {error}") from None
    return record


def decode(value: Any, kind: Any, where: str) -> Any:
    """Turn plain JSON data into a value of a type: a dataclass, tuple, dict, union or scalar.

    Fields with a default may be missing, since a file can be older than they are.

    Raises:
        RecordError: Says where in the record, what it should be and what was found.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(_expect(value, dict, where), cast("type", kind), where)
    if origin is tuple:
        items = _expect(value, list, where)
        return tuple(decode(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        mapping = _expect(value, dict, where)
        return {key: decode(item, arguments[1], f"{where}.{key}") for key, item in mapping.items()}
    if origin is types.UnionType:
        for choice in arguments:
            if _fits(value, choice):
                return decode(value, choice, where)
        raise RecordError(f"{where} must be {kind}, got {value!r}.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where} must be a finite number, got one that is too large.")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RecordError(f"{where} must be text, got {value!r}.")
    return _expect(value, kind, where)


def _decode_dataclass(data: Mapping[str, Any], kind: type, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in data and field.default is dataclasses.MISSING:
            raise RecordError(f"{where} lacks `{field.name}`.")
    for name in data:
        if name not in hints:
            raise RecordError(f"{where} has an unknown `{name}`.")
    try:
        return kind(**{name: decode(value, hints[name], f"{where}.{name}") for name, value in data.items()})
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from None


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    base = typing.get_origin(kind) or kind
    return isinstance(value, dict if dataclasses.is_dataclass(base) else list if base is tuple else base)


def _expect(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecordError(f"{where} must be {getattr(kind, '__name__', kind)}, got {value!r}.")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
