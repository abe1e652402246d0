"""Dataclasses to JSON and back, checked field by field; nothing in a file is trusted or evaluated."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from samson._decoding import decode

T = TypeVar("T")


class RecordError(ValueError):
    """A record that cannot be read: names the file, the field and what it should hold."""


CHECKSUM = "checksum"


def write_json(path: Path | str, record: Any) -> None:
    """Write a dataclass as JSON with a checksum, atomically: a reader sees the whole file or none.

    Raises:
        ValueError: If a number in it is NaN or infinite, which JSON does not have.
    """
    data = dataclasses.asdict(record)
    text = json.dumps(data | {CHECKSUM: checksum(data)}, indent=1, ensure_ascii=False, allow_nan=False, default=_number)
    replace_file(path, (text + "\n").encode())


def checksum(data: Mapping[str, Any]) -> str:
    """A hash of JSON data, whatever the order of its keys: it shows changes that were not meant."""
    return sha256(json.dumps(data, sort_keys=True, allow_nan=False, default=_number).encode()).hexdigest()[:16]


def _number(value: object) -> int | float:
    """A number of another library, such as NumPy, as Python's own."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"A record must hold data alone, got {value!r} of type {type(value).__name__}.")


def replace_file(path: Path | str, content: bytes) -> None:
    """Put a file in place in one step, so that an interruption leaves the old one or the new one.

    Folders above it are made if need be.

    Raises:
        OSError: If it cannot be written; names the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:  # of a full disk it names no file, else the partial one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def delete_partial(folder: Path, below: str = "") -> None:
    """Delete what killed processes left half written, once it is a day old: younger files may yet be put in place.

    Args:
        folder: Where it lies.
        below: "**/" for the folders in it too.
    """
    for path in folder.glob(f"{below}.*.????????.partial"):
        with suppress(OSError):  # another command deletes as well
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def read_json(path: Path | str, kind: type[T]) -> T:
    """Read a dataclass from JSON.

    Raises:
        RecordError: If the file is none, such as a pipe, or no JSON, a field is missing, unknown or of the wrong type,
            or the file was changed since it was written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe or a device may have no end
        raise RecordError(f"`{path}` is not readable as a record: it is no file.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"`{path}` is not readable as a record: {error}.") from error
    found = data.pop(CHECKSUM, None) if isinstance(data, dict) else None
    version = getattr(kind, "version", None)
    if isinstance(data, dict) and data.get("version", version) != version:
        raise RecordError(
            f"`{path}` is not a valid {kind.__name__}: `version` must be {version}, the only one that this release "
            f"reads, got {data['version']!r}. Write it again with the command that made it."
        )
    try:
        record, own = decode(data, kind, "record"), checksum(data)
    except (ValueError, RecursionError) as error:  # also a number as large as 1e999, which is infinite
        raise RecordError(f"`{path}` is not a valid {kind.__name__}: {error}") from None
    if found != own:
        raise RecordError(
            f"`{path}` was changed after it was written, or is older than checksums: its own is {found}, that of its "
            f"content {own}. Write it again with the command that made it."
        )
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
