"""Weights from a file into a model: safetensors, or what torch reads without unpickling."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from samson._errors import SetupError, reason, require
from samson._layers import is_input_range
from samson._names import counted
from samson.noise import plain_name

JOIN = "Join them first: torch.save of one dict with the tensors of all."
"""What to do with weights in several files."""
KINDS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How files of weights end; `.bin` are Hugging Face's, `.ckpt` Lightning's."""
WITHIN = ("state_dict", "model", "model_state_dict")
"""Where checkpoints keep the state dict: the last is what torch's tutorial calls it."""
COUNT = "num_batches_tracked"
"""How the names of batch norm's counts end, which files may lack: no output depends on them."""
SHOWN = 3
"""Names that a message lists of each kind."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of a file into a model.

    Names may carry the prefixes of wrappers (DDP, compiled and averaged models), or be those of a whole that the model
    is part of, as in Lightning's checkpoints. Nothing is unpickled: all but `.safetensors` are read by
    `torch.load(weights_only=True)`.

    Args:
        model: Changed in place, or not at all.
        path: A file of `KINDS`: a state dict, or a dict that holds one under a name of `WITHIN`.

    Raises:
        SetupError: If the file is missing, damaged, holds no weights, other code or a program, or does not fit the
            model, or several parts of it do.
    """
    state = _state_dict(_content(path), path)
    own = model.state_dict()
    if "n_averaged" not in own:
        state.pop("n_averaged", None)  # how many steps torch's AveragedModel has seen
    if not set(state) <= set(own):
        state = {plain_name(name): value for name, value in state.items()}
        state = _of_part(state, own, path)
    learned = [name for name in state if is_input_range(name) and name not in own]
    if learned:
        warnings.warn(
            f"`weights` {str(path)!r}: {counted(len(learned), 'learned input range')} left aside: chips have those of "
            "their calibration. `ThroughChip.remove()` gives them, and takes them out of the model.",
            stacklevel=2,
        )
        state = {name: value for name, value in state.items() if name not in learned}
    problems = {
        "missing": [name for name in own if name not in state and not name.endswith(COUNT)],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(value.shape)}, not {tuple(own[name].shape)}"
            for name, value in state.items()
            if name in own and isinstance(own[name], Tensor) and value.shape != own[name].shape
        ],
        "of another type": [
            f"{name} {value.dtype}, not {own[name].dtype}"
            for name, value in state.items()
            if isinstance(own.get(name), Tensor) and not name.endswith(COUNT) and _type(value) != _type(own[name])
        ],
    }
    found = "; ".join(f"{len(names)} {what}: {_first(names)}" for what, names in problems.items() if names)
    fit = f"`weights` {str(path)!r} must fit the {type(model).__name__}"
    if found:
        computed = any("parametrizations." in name for name in problems["unexpected"])
        by = ", by a function that registers the same parametrizations" if computed else ""
        mend = f"Take the model that they were saved from{by}."
        if problems["missing"] and re.search(r"-\d+-of-\d+\.", path.name):
            mend = f"It is one of several files. {JOIN}"
        raise SetupError(f"{fit}, but of its tensors there are {found}.\n{mend}")
    model.load_state_dict(own | state)


def refuse_program(parameter: str, path: Path) -> None:
    """Refuse a file that holds a program, scripted or exported by torch, or a graph of ONNX, instead of tensors.

    Raises:
        SetupError: If it does, with how to get its weights.
    """
    if path.suffix == ".onnx":
        raise SetupError(
            f"{parameter} must be layers or weights, got {str(path)!r}, a graph without layers: noise does not reach "
            "it.\nGive the function that makes the model as MODEL, and with `weights` what "
            "torch.save(model.state_dict(), 'weights.pt') saves."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name.split("/")[1] for name in archive.namelist() if "/" in name}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # not there, no archive, or a damaged one
        return
    for part, what, state in (
        ("code", "scripted", "torch.jit.load(path).state_dict()"),
        ("archive_format", "exported", "torch.export.load(path).state_dict"),
    ):
        if part in parts:
            raise SetupError(
                f"{parameter} must be layers or weights, got {str(path)!r}, a program that was {what}: noise does not "
                "reach its layers.\nGive the function that makes the model as MODEL, and with `weights` what "
                f"torch.save({state}, 'weights.pt') saves."
            )


def _of_part(state: dict[str, Tensor], own: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of the one part of a whole that is like a model; all tensors, if there is none."""

    def is_like(prefix: str) -> bool:
        inner = {name: state.get(f"{prefix}{name}") for name in own}
        return all(
            name.endswith(COUNT) if found is None else found.shape == own[name].shape for name, found in inner.items()
        )

    first = next(iter(own), "")
    found = [prefix for name in state if name.endswith(f".{first}") and is_like(prefix := name.removesuffix(first))]
    if len(found) > 1:
        raise SetupError(
            f"`weights` {str(path)!r} must hold such a network once, got it as {_first(found)}.\n"
            "Save the one that you mean: torch.save(model.state_dict(), path)."
        )
    return {name: state[whole] for name in own if (whole := f"{found[0]}{name}") in state} if found else state


def _content(path: Path) -> Any:
    require(path.is_file(), "`weights`", "a file", str(path), "Check the path.")
    refuse_program("`weights`", path)
    mend = f"It lists several files. {JOIN}" if path.name.endswith(".index.json") else "Save it as one of these."
    require(path.suffix in KINDS, "`weights`", f"a {', '.join(KINDS)} file", str(path), mend)
    try:
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SetupError(
            f"`weights` {str(path)!r} is damaged, or holds more than tensors, which is not loaded: it could run code.\n"
            "Save the weights alone, in a program that may run it: torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # torch raises whatever its reader stumbles over
        raise SetupError(f"`weights` {str(path)!r} is damaged: {reason(error)}\nSave or download it again.") from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a file: the whole of it, or one of its entries."""
    mixed: list[str] = []
    for inner in [content, *(content[key] for key in WITHIN if isinstance(content, Mapping) and key in content)]:
        if isinstance(inner, Mapping) and inner:
            others = [str(name) for name, value in inner.items() if not isinstance(value, Tensor)]
            if not others:
                return dict(inner)
            mixed = others if 2 * len(others) < len(inner) else mixed
    if mixed:
        raise SetupError(
            f"`weights` {str(path)!r} must hold a state dict of tensors alone, but these are none: {_first(mixed)}.\n"
            "Save it without them."
        )
    held = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else type(content).__name__
    raise SetupError(
        f"`weights` {str(path)!r} must hold a state dict, alone or as {' or '.join(map(repr, WITHIN))}, got {held}.\n"
        "Save it with torch.save(model.state_dict(), path)."
    )


def _type(value: Tensor) -> tuple[bool, bool]:
    """Whether it holds floating-point numbers, and complex ones: torch would turn one kind into another in silence."""
    return value.is_floating_point(), value.is_complex()


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
