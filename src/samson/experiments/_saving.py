"""A training that can go on where it was cut off: one file, replaced in one step, with nothing in it to unpickle."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from samson._errors import SetupError
from samson.experiments._training import Run
from samson.records import replace_file

SHARE = 0.05
"""Share of the time that saving may take at most."""
LEAST_S = 1.0
"""Seconds between two savings at least."""

State = Mapping[str, Any]


class Saver:
    """Keeps the state of a training in a file, not more often than it is worth.

    Args:
        path: The file, `….safetensors`; None keeps nothing.
        identity: What the state belongs to; another one is not read.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity
        self._took, self._last = 0.0, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        waited = time.monotonic() - self._last
        return self._path is not None and waited > max(LEAST_S, self._took / SHARE)

    def save(self, state: State) -> None:
        """Write numbers, texts, lists, tables and tensors; the old file is there until the new one is whole.

        Raises:
            OSError: If it cannot be written.
        """
        if self._path is None:
            return
        started = time.monotonic()
        tensors: dict[str, Tensor] = {}
        text = json.dumps(_packed(state, "", tensors))
        about = {"state": text, "identity": self._identity, "checksum": _checksum(text, tensors)}
        replace_file(self._path, save(tensors, about))
        self._last = time.monotonic()
        self._took = self._last - started

    def load(self) -> State | None:
        """What was saved last; None if there is nothing, or the file is damaged, which is warned of.

        Raises:
            SetupError: If the file belongs to something else.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            with safe_open(self._path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if about.get("identity") != self._identity:
                raise SetupError(f"`{self._path}` belongs to another training.\nDelete it, or take another folder.")
            if about.get("checksum") != _checksum(about["state"], tensors):
                raise ValueError("its checksum is not that of its content")
            found = _unpacked(json.loads(about["state"]), tensors)
            if not isinstance(found, Mapping):
                raise ValueError("it holds no table")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, SetupError):
                raise
            warnings.warn(f"`{self._path}` is damaged ({error}): the training starts again.", stacklevel=2)
            return None
        return found


def identity_of(run: Run, model: nn.Module) -> str:
    """What decides the final weights, hashed: settings, names, the initial weights, and a look at the data."""
    inputs, targets = next(run.data.batches(1, seed=0, epoch=0, device="cpu", augment=(), workers=0))
    kind = type(model)
    said = (
        run.about,
        run.method,
        run.recipe,
        run.precision,
        run.seed,
        run.data.steps(1),
        kind.__module__,
        kind.__qualname__,
    )
    task = f"{type(run.task).__module__}.{type(run.task).__qualname__}"
    layers = [(name, type(layer).__qualname__) for name, layer in model.named_modules()]
    found = sha256(repr((*said, task, layers, inputs.tolist(), targets.tolist())).encode())
    for name, value in model.state_dict().items():
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _packed(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value, with its tensors put aside by a number, and how they lie in memory."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        last = value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": [name, last]}
    if isinstance(value, Mapping):
        return {"table": [[_key(key), _packed(inner, f"{path}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        inner = [_packed(one, f"{path}/{number}", tensors) for number, one in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": inner}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"A training with {path[1:]!r} of type {type(value).__name__} cannot be saved.")


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    found = sha256(text.encode())
    for name in sorted(tensors):
        found.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _key(key: Any) -> Any:
    if not isinstance(key, (str, int)):
        raise TypeError(f"A training with the key {key!r} cannot be saved.")
    return key


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    match kind:
        case "tensor":
            name, last = inner
            return tensors[name].contiguous(memory_format=torch.channels_last) if last else tensors[name]
        case "table":
            return {key: _unpacked(one, tensors) for key, one in inner}
        case "float":
            return float(inner)
        case _:
            found = [_unpacked(one, tensors) for one in inner]
            return found if kind == "list" else tuple(found)
