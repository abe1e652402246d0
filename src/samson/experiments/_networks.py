"""Networks by name: of the catalogue, of timm or torchvision, or of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn

from samson._errors import SetupError, choose, reason, require
from samson._factories import call_factory, find_factory, guarded, takes
from samson.experiments.data import package
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
            return own_network(spec, outputs, "`network`")
        if slash:
            maker = LIBRARIES[choose("`network`", library, LIBRARIES)]
            return maker(name, False, outputs=outputs, channels=shape[0])
        forms = (*NETWORKS, "timm/NAME", "torchvision/NAME", "MODULE:FUNCTION")
        return NETWORKS[choose("`network`", spec, forms)](shape, outputs)


def own_network(spec: str, outputs: int | None, parameter: str) -> nn.Module:
    """What a function of one's own makes, from the number of outputs if that is known and the function takes it.

    Raises:
        SetupError: If there is no such function, or it raises or returns something else.
    """
    function = find_factory(spec, parameter)
    if outputs is not None and takes(function, (outputs,)):
        model = guarded(lambda: function(outputs), spec, parameter)
    else:
        model = call_factory(spec, parameter)
    require(isinstance(model, nn.Module), parameter, "a function that returns an nn.Module", model, f"Change {spec!r}.")
    return cast("nn.Module", model)


def _timm(name: str, pretrained: bool, outputs: int | None = None, channels: int = 3) -> nn.Module:
    timm = package("timm", f"timm/{name}", "vision", "MODEL")
    _known(name.partition(".")[0], "timm", timm.list_models())
    sizes = {} if outputs is None else {"num_classes": outputs, "in_chans": channels}

    def made() -> Any:
        return timm.create_model(name, pretrained=pretrained, **sizes)

    return cast("nn.Module", _downloading(made, name) if pretrained else made())


def _torchvision(name: str, pretrained: bool, outputs: int | None = None, channels: int = 3) -> nn.Module:
    models = package("torchvision.models", f"torchvision/{name}", "vision", "MODEL")
    _known(name, "torchvision", models.list_models())
    mend = "Take one of timm, or write a network of your own."
    require(channels == 3, "`network`", "for images of 3 channels, from torchvision", channels, mend)
    sizes = {} if outputs is None else {"num_classes": outputs}
    model = cast("nn.Module", models.get_model(name, weights=None, **sizes))
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


def _downloading(fetch: Callable[[], Any], name: str) -> Any:
    """Fetch weights; whatever goes wrong on the way is one error."""
    try:
        return fetch()
    except Exception as error:
        raise SetupError(
            f"`pretrained`: the weights of {name!r} could not be fetched: {reason(error)}\n"
            "Download a file of them by hand, and give it with `weights`."
        ) from error
