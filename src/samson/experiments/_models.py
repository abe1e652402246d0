"""Models as a user asks for them: a trained network of a comparison, one's own code, timm or torchvision."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from samson.experiments._checkpoints import load_checkpoint
from samson.experiments._errors import SetupError, choose, require
from samson.experiments._factories import call_factory
from samson.experiments._weights import load_weights

FORMS = "`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME"


def load_model(spec: str, weights: Path | None = None, *, pretrained: bool = False) -> nn.Module:
    """Make the model that a user names, in evaluation mode.

    Random initial weights are always the same ones, and global random state stays as it was. Files of weights are
    read without unpickling; a function of one's own is run, as it is the user's code.

    Args:
        spec: A network that `samson compare` saved (`….safetensors`, with its JSON file beside it); `MODULE:FUNCTION`,
            a function (or class) importable from the current folder, called without arguments; `timm/NAME`; or
            `torchvision/NAME`.
        weights: A file of weights for it (see `load_weights`); not for a saved network, which has its own.
        pretrained: Whether to download the weights that timm or torchvision publish.

    Raises:
        SetupError: If there is no such model, its package is missing, or the weights do not fit.

    Example:
        >>> model = load_model("torch.nn:Identity")
        >>> model.training
        False
    """
    if spec.endswith((".pt", ".pth")):
        raise SetupError(f"MODEL must be {FORMS}, got {spec!r}, which holds weights alone.\nGive it with --weights.")
    if spec.endswith(".safetensors"):
        require(weights is None, "--weights", f"left out for {spec!r}", str(weights), "It has its own weights.")
        require(not pretrained, "--pretrained", "left out for a saved network", spec, "It has its own weights.")
        return load_checkpoint(Path(spec))[0]
    library, slash, name = spec.partition("/")
    if ":" in spec:
        require(not pretrained, "--pretrained", "left out for a function of one's own", spec, "Use --weights.")
    else:
        require(bool(slash), "MODEL", FORMS, spec, "Write for example torchvision/resnet18.")
        choose("MODEL", library, LIBRARIES)
        require(not (pretrained and weights), "--pretrained", "without --weights", str(weights), "Leave one out.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = call_factory(spec) if ":" in spec else LIBRARIES[library](name, pretrained)
    require(isinstance(model, nn.Module), "MODEL", "a function that returns an nn.Module", model, f"Change {spec!r}.")
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def _timm(name: str, pretrained: bool) -> nn.Module:
    timm = _package("timm")
    _known(name.partition(".")[0], "timm", timm.list_models())
    if pretrained:
        return cast("nn.Module", _downloading(lambda: timm.create_model(name, pretrained=True), name))
    return cast("nn.Module", timm.create_model(name))


def _torchvision(name: str, pretrained: bool) -> nn.Module:
    models = _package("torchvision.models")
    _known(name, "torchvision", models.list_models())
    model = cast("nn.Module", models.get_model(name, weights=None))
    if pretrained:
        published = models.get_model_weights(name).DEFAULT
        state = _downloading(lambda: published.get_state_dict(check_hash=True, weights_only=True), name)
        model.load_state_dict(state)
    return model


LIBRARIES: dict[str, Callable[[str, bool], nn.Module]] = {"timm": _timm, "torchvision": _torchvision}
"""Makers of models by a name in a library, pretrained or not."""


def _known(name: str, library: str, available: Iterable[str]) -> None:
    """Like `choose`, for lists that are too long to show."""
    names = list(available)
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {library}/{near[0]}? " if near else ""
        source = "timm.list_models()" if library == "timm" else "torchvision.models.list_models()"
        raise SetupError(f"MODEL: {name!r} is no model of {library}.\n{hint}`{source}` lists all {len(names)}.")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise SetupError(
            f"MODEL needs the package {package!r}.\nInstall it with: pip install 'samson-torch[vision]'"
        ) from error
    except (ImportError, RuntimeError) as error:  # a build of torchvision that belongs to another torch
        raise SetupError(
            f"MODEL: {name} cannot be imported: {error}.\n"
            f"Install the build of torchvision that belongs to torch {torch.__version__}."
        ) from error


def _downloading(fetch: Callable[[], Any], name: str) -> Any:
    """Fetch weights; whatever goes wrong on the way is one error."""
    try:
        return fetch()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SetupError(
            f"--pretrained: the weights of {name!r} could not be fetched: {reason}\n"
            "Download a file of them by hand, and give it with --weights."
        ) from error
