"""Chips on disk: what a chip holds, as safetensors, with a header that says whose it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from numbers import Real
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from samson._select import Select
from samson.noise._base import State, WeightNoise
from samson.noise._chip import LOCK, Chip, noise_and_periphery, require_free
from samson.noise._periphery import Periphery
from samson.noise._presets import ChipModel
from samson.noise._selection import ChipTensor, on_chip
from samson.noise._types import require_type

VERSION = 5


def save_chip(path: Path | str, chip: Chip) -> None:
    """Write a chip to a file, in one step: an interruption leaves the old file or the new one.

    The file holds the chip's programmed state and, in its header, the noise, the seed and trial, the number of the
    next reading, and for each tensor its shape, dtype and a digest of the weight that was programmed. The model is
    not in it.

    Args:
        path: The file, `….safetensors`; its folder must exist.
        chip: The chip.

    Raises:
        RuntimeError: If the model lies on a chip just now, so that its own weights are not to be seen.

    Example:
        >>> import tempfile
        >>> from samson.noise import Gaussian, deploy
        >>> model, noise = nn.Linear(3, 2), Gaussian(0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_chip(Path(folder, "chip.safetensors"), deploy(model, noise, seed=7))
        ...     chip = load_chip(Path(folder, "chip.safetensors"), model, noise)
    """
    require_type("chip", chip, Chip)
    with LOCK:
        require_free(chip.tensors)
        tensors = {t.name: _identity(t) for t in chip.tensors}
    header = {
        "version": VERSION,
        "noise": _text(chip.noise),
        "periphery": _text(chip.periphery),
        "seed": chip.seed,
        "trial": chip.trial,
        "readings": chip.readings,
        "tensors": tensors,
    }
    held = {
        json.dumps([t.name, key]): value.detach().clone(memory_format=torch.contiguous_format)
        for t in chip.tensors
        for key, value in chip.states[t.name].items()
    }
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(save(held, metadata={"samson_chip": json.dumps(header)}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_chip(
    path: Path | str,
    model: nn.Module,
    noise: WeightNoise | ChipModel,
    *,
    select: Select = None,
    periphery: Periphery | None = None,
) -> Chip:
    """Read a chip from a file, for the model and noise that it was made of.

    Its readings go on where they stopped, and reading n is the same as before.

    Args:
        path: A file that `save_chip` wrote.
        model: The model that was deployed, with the same weights, on the same kind of device.
        noise: The noise, or the kind of chip, that was deployed.
        select: As for `deploy`.
        periphery: The periphery that was deployed.

    Raises:
        ValueError: If the file is no chip, or of another version, noise, selection, model or kind of device.
        FileNotFoundError: If there is no file.
    """
    noise, periphery = noise_and_periphery(noise, periphery)
    content = Path(path).read_bytes()
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["samson_chip"])
        version, held = header["version"], load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`path` must be a file that `save_chip` wrote, got {str(path)!r}: {error!r}.") from error
    if version != VERSION:
        raise ValueError(f"`path` {str(path)!r} has format version {version}; this library reads {VERSION}.")
    for name, given in (("noise", noise), ("periphery", periphery)):
        if header[name] != _text(given):
            raise ValueError(f"`{name}` must be the chip's own, {header[name]}, got {_text(given)}.")
    with LOCK:
        tensors = on_chip(model, select)
        require_free(tensors)
        _require_same(header["tensors"], {t.name: _identity(t) for t in tensors})
        devices = {t.name: t.weight.device for t in tensors}
        states: dict[str, State] = {name: {} for name in devices}
        for key, value in held.items():
            name, part = json.loads(key)
            states[name][part] = value.to(devices[name])
        return Chip(model, noise, header["seed"], header["trial"], tensors, states, header["readings"], periphery)


def _text(value: object) -> str:
    """The `repr` of a dataclass, in which equal settings have equal texts: numbers as float, tables in order."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return repr(float(value)).removesuffix(".0")
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_text(value[key])}' for key in sorted(value))}}}"
    if is_dataclass(value):
        settings = (f"{field.name}={_text(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__qualname__}({', '.join(settings)})"
    return repr(value)


def _require_same(saved: dict[str, dict[str, object]], now: dict[str, dict[str, object]]) -> None:
    if list(saved) != list(now):
        raise ValueError(
            f"`model` must have the chip's tensors, {', '.join(saved)}, got {', '.join(now)}. Was `select` another?"
        )
    for name, what in ((name, what) for name, expected in saved.items() for what in expected):
        if (own := now[name][what]) != (value := saved[name][what]):
            raise ValueError(
                f"`model` must be the one that was deployed, but `{name}` has {what} {own}, and the chip has {value}."
            )


def _identity(t: ChipTensor) -> dict[str, object]:
    weight: Tensor = t.weight
    raw = weight.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return {
        "shape": list(weight.shape),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device kind": weight.device.type,
        "digest of the weights": blake2b(raw, digest_size=16).hexdigest(),
    }
