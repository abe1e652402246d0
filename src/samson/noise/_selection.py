"""Which tensors of a model lie on the chip, under which name and in which layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samson._layers import LayerWeight, weights_of
from samson._select import Candidate, Select, candidates, is_named, plain_name, require_met, selected
from samson.noise._forward import computes_with
from samson.noise._places import Place
from samson.noise._placing import owners_in, place_of


@dataclass(frozen=True, eq=False)
class ChipTensor:
    """One weight matrix on the chip.

    Args:
        name: The tensor's name without the prefixes of wrappers (DDP, compiled models).
        layer: The layer that it belongs to, the first one if several share it.
        place: Where the layer takes it from.
        matrix: Its part of that place, and its layout.
    """

    name: str
    layer: nn.Module
    place: Place
    matrix: LayerWeight

    @property
    def weight(self) -> Tensor:
        """The weight as it is now, detached, in the layer's own layout."""
        return self.matrix.within(self.place.weight)

    def output_first(self, tensor: Tensor) -> Tensor:
        """The tensor with its output channels along the first axis, as noises expect it."""
        return self.matrix.output_first(tensor)

    def stored(self, tensor: Tensor) -> Tensor:
        """The inverse of `output_first`."""
        return self.matrix.stored(tensor)


def on_chip(model: nn.Module, select: Select = None) -> list[ChipTensor]:
    """List the weights that lie on the chip.

    By default these are the weights of linear, convolution (also transposed), recurrent and bilinear layers and the
    projections of attention. Embeddings stay digital unless they are selected, biases and norm layers always. A
    parameter of any other type of layer with two or more axes, its outputs along the first, goes on the chip where its
    full name, a pattern that ends in its own name (`"*.kernel"`) or its layer's very type is given, and by any other
    pattern that meets no weight of a known layer (`"1.*"`, but not `"*"`). So does the raw parameter of a layer of
    torch's type whose own `forward` changes it first (standardises, quantises); otherwise such layers are refused. A
    weight that several layers share is listed once, under the first one's name.

    Args:
        model: Any model.
        select: Layers by type (`nn.Linear`), by pattern (`"encoder.*"`, compared with the names of layers and of
            tensors, see `fnmatch`), by a list of types and patterns, or by a function of a layer's name and the layer.
            A pattern after a "!" leaves layers out: `"!head*"` is all but the head, and `["default", nn.Embedding]`
            what lies there by default, and look-ups too.

    Raises:
        ValueError: If nothing is selected, or an entry of a list selects nothing; if a layer computes with a changed
            weight; if a weight is computed by a hook, a buffer, not yet there, on the meta device, complex, whole
            numbers, of 8 bits, expanded, sparse or of a tensor subclass; if layers are scripted or quantised by torch;
            or if weights that share memory do so in different layouts.
        TypeError: If `model` is no nn.Module, or `select` is none of these.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 3), nn.Linear(3, 2))
        >>> [tensor.name for tensor in on_chip(model)]
        ['1.weight_ih_l0', '1.weight_hh_l0', '2.weight']
        >>> [tensor.name for tensor in on_chip(model, "*_hh_*")]
        ['1.weight_hh_l0']
    """
    _require_plain(model, select)
    every = list(candidates(model))
    wanted = selected(select, every)
    if not wanted:
        raise ValueError(_nothing(type(model).__name__, select, every))
    require_met(select, every)
    chosen = {(one.module, one.matrix.attribute) for one in wanted}
    owners = owners_in(model)
    places: dict[object, Place] = {}
    found: dict[tuple[int, str], ChipTensor] = {}
    for name, layer, module, _, matrix, known in wanted:
        parameter = module._parameters.get(matrix.attribute)
        memory = (module, matrix.attribute) if parameter is None else id(owners[id(parameter)])
        if memory not in places:
            places[memory] = place_of(layer, module, matrix.attribute, owners, chosen)
            if known and not is_named(select, name, layer, module) and not computes_with(module, matrix.attribute):
                raise ValueError(
                    "`select` must leave out layers that change their weight before they compute, but "
                    f"`{layer or name}`, a {type(module).__name__}, has a `forward` of its own that standardises, "
                    f"quantises or scales `{matrix.attribute}`, or that one small input does not run. Give it the "
                    "weight that the chip would hold (a plain layer, or torch.nn.utils.parametrize), leave it out, or "
                    "name it or its very type in `select` for noise on the raw parameter."
                )
        place = places[memory]
        found.setdefault((id(place), matrix.part), ChipTensor(name, module, place, matrix))
    return list(found.values())


def _nothing(kind: str, select: Select, every: Sequence[Candidate]) -> str:
    """What to say where no weight would lie on the chip."""
    got = "" if select is None else f", got {select!r}"
    known = [candidate.name for candidate in every if candidate.known]
    unknown = [candidate.name for candidate in every]
    names = known or [name for name in unknown if not name.endswith("bias")] or unknown
    shown = ", ".join(f"`{name}`" for name in names[:5]) + (", …" if len(names) > 5 else "")
    if known:
        rule = f"`select` must leave a weight for the chip{got} for {kind} with {len(names)} weights to choose from"
        return f"{rule}: {shown}. An evaluation would be without noise."
    if names:
        rule = f"`select` must name a weight for the chip{got}, as {kind} has no layer of a known type, but {shown}"
        return f'{rule}. Name it: select="{names[0]}".'
    return f"`select` must leave a weight for the chip, but {kind} has none. An evaluation would be without noise."


def _require_plain(model: nn.Module, select: Select) -> None:
    """Refuse what is no model of layers, and layers that no noise would reach unless a selection leaves them out."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be an nn.Module, got {type(model).__name__}. Put the chip on the model before its export."
        )
    for path, module in model.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        quantised = any(kind.__module__.startswith(_QUANTISED) for kind in type(module).__mro__)
        exported = isinstance(module, torch.fx.GraphModule) and not any(weights_of(inner) for inner in module.modules())
        what = "scripted" if scripted else "quantised by torch" if quantised else "exported" if exported else ""
        if what and select is None:
            name = f"`{plain_name(f'{path}.').rstrip('.')}`" if path else "the model"
            raise ValueError(
                f"`model` must have layers that noise reaches, but {name}, a {type(module).__name__}, is {what}. Put "
                "the chip on the model before that, or leave such layers digital by a `select` of others."
            )


_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
