"""Attention and recurrent layers whose parts hooks reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from samson.noise._attention import as_packed, attend
from samson.noise._parts import WHOLE, Part, parts_of
from samson.noise._recurrent import recur, recur_once


def by_parts(layer: nn.Module, args: tuple[Any, ...], keywords: Mapping[str, Any], output: object) -> Any:
    """As a forward hook: what a layer gives if it computes by its parts."""
    if isinstance(layer, nn.MultiheadAttention):
        return attend(layer, *args, **keywords)
    given = {**dict(zip(("input", "hx"), args, strict=False)), **keywords}
    compute: Any = recur if isinstance(layer, nn.RNNBase) else recur_once
    found = compute(layer, given["input"], given.get("hx"))
    return tree_map(lambda new, old: new if old is None else new.to(old.dtype), found, output)  # as under autocast


def wholes_of(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The layers of a model of which one of these is a part."""
    chosen = {id(layer.whole if isinstance(layer, Part) else layer) for layer in layers.values()}
    every = [layer for layer in model.modules() if isinstance(layer, WHOLE)]
    return [layer for layer in every if not chosen.isdisjoint((id(layer), id(getattr(layer, "out_proj", None))))]


def add_parts(whole: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    """Make its parts children of a layer, these where they are given; gives the names of new ones."""
    given = {one.name: one for one in layers.values() if isinstance(one, Part) and one.whole is whole}
    new = [name for name in parts_of(whole) if name not in whole._modules]
    for name, part in parts_of(whole).items():
        if name in new:
            whole.add_module(name, given.get(name, part).train(whole.training))
    return new


@contextmanager
def unpacked(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[dict[str, nn.Module]]:
    """Let layers of which one of these is a part compute by their parts, until the block ends.

    Encoders above attention keep padded inputs as they are meanwhile: no layer takes torch's nested tensors.

    Yields:
        The layers, with the parts that are there now.
    """
    wholes = wholes_of(model, layers)
    hooked = {*layers.values(), *wholes}
    with ExitStack() as stack:
        for encoder in [module for module in model.modules() if isinstance(module, nn.TransformerEncoder)]:
            if encoder.use_nested_tensor and not hooked.isdisjoint(encoder.modules()):
                stack.callback(setattr, encoder, "use_nested_tensor", True)
                encoder.use_nested_tensor = False
                stack.enter_context(encoder.register_forward_hook(as_packed, prepend=True, with_kwargs=True))
        for whole in wholes:
            for name in add_parts(whole, layers):
                stack.callback(whole._modules.pop, name)
            stack.enter_context(whole.register_forward_hook(by_parts, prepend=True, with_kwargs=True))
        yield {
            name: parts_of(layer.whole)[layer.name] if isinstance(layer, Part) else layer
            for name, layer in layers.items()
        }
