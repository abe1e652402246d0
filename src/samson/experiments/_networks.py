"""Networks by name: of the catalogue, of timm or torchvision, or of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn

from samson._errors import SetupError, choose, installing, require
from samson._factories import find_factory, guarded, takes
from samson.experiments.networks import NETWORKS, Shape


def make_network(spec: str, shape: Shape, outputs: int, seed: int) -> nn.Module:
    """Make a network for a data set, with initial weights that the seed decides; global random state stays as it was.

    Args:
        spec: One of `NETWORKS`; `timm/NAME` or `torchvision/NAME`; or `MODULE:FUNCTION`, which takes the number of
            outputs, or nothing.
        shape: Of one example of the data.
        outputs: Classes, words of a vocabulary, or values to be predicted, ≥ 1.
        seed: Of the initial weights.

    Raises:
        SetupError: If there is no such network, it does not take such examples, or there are no outputs.

    Example:
        >>> make_network("mlp", (1, 28, 28), 10, seed=0)(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """
    require(outputs >= 1, "`outputs`", "at least 1", outputs, "Give the number of classes, words or values.")
    library, slash, name = spec.partition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in spec:
            function = find_factory(spec, "`network`")
            arguments = (outputs,) if takes(function, (outputs,)) else ()
            model = guarded(lambda: function(*arguments), spec, "`network`")
            mend = "It takes the number of outputs, or nothing."
            require(isinstance(model, nn.Module), "`network`", "a function that returns an nn.Module", model, mend)
            return cast("nn.Module", model)
        if slash:
            maker = LIBRARIES[choose("`network`", library, LIBRARIES)]
            return maker(name, False, outputs=outputs, channels=shape[0])
        forms = (*NETWORKS, "timm/NAME", "torchvision/NAME", "MODULE:FUNCTION")
        return NETWORKS[choose("`network`", spec, forms)](shape, outputs)


def _timm(name: str, pretrained: bool, outputs: int | None = None, channels: int = 3) -> nn.Module:
    timm = _package("timm")
    _known(name.partition(".")[0], "timm", timm.list_models())
    if outputs is not None:
        return cast("nn.Module", timm.create_model(name, num_classes=outputs, in_chans=channels))
    if pretrained:
        return cast("nn.Module", _downloading(lambda: timm.create_model(name, pretrained=True), name))
    return cast("nn.Module", timm.create_model(name))


def _torchvision(name: str, pretrained: bool, outputs: int | None = None, channels: int = 3) -> nn.Module:
    models = _package("torchvision.models")
    _known(name, "torchvision", models.list_models())
    if outputs is not None:
        mend = "Take one of timm, or write a network of your own."
        require(channels == 3, "`network`", "for images of 3 channels, from torchvision", channels, mend)
        return cast("nn.Module", models.get_model(name, weights=None, num_classes=outputs))
    model = cast("nn.Module", models.get_model(name, weights=None))
    if pretrained:
        published = models.get_model_weights(name).DEFAULT
        state = _downloading(lambda: published.get_state_dict(check_hash=True, weights_only=True), name)
        model.load_state_dict(state)
    return model


LIBRARIES: dict[str, Callable[..., nn.Module]] = {"timm": _timm, "torchvision": _torchvision}
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
        raise SetupError(f"MODEL needs the package {package!r}.\nInstall it: {installing('vision')}.") from error
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
            f"`pretrained`: the weights of {name!r} could not be fetched: {reason}\n"
            "Download a file of them by hand, and give it with `weights`."
        ) from error
