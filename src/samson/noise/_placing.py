"""The place of each weight of a model: what shares its memory, what computes it, and what no chip can hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samson._buffers import is_in_memory
from samson._select import plain_name
from samson.noise._places import Alone, Computed, Masked, Place, Stored


@dataclass(frozen=True, eq=False)
class Owner:
    """A tensor of a layer."""

    path: str
    module: nn.Module
    name: str
    tensor: Tensor

    @property
    def span(self) -> tuple[str, int, int]:
        """Device, and the first and last address; of no length where tensors have no memory of their own."""
        t = self.tensor
        if not is_in_memory(t) or not t.numel() or not t.is_floating_point():
            return "", id(t), id(t)
        last = sum((size - 1) * step for size, step in zip(t.shape, t.stride(), strict=True))
        return str(t.device), t.data_ptr(), t.data_ptr() + last * t.element_size()


def owners_in(model: nn.Module) -> dict[int, list[Owner]]:
    """By the id of each tensor of a layer: all those that overlap in its memory, one list for all of them."""
    tensors = [
        Owner(path, module, name, tensor)
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    ]
    groups: list[list[int]] = []
    end = ("", -1)
    for number, (device, first, last) in sorted(enumerate(one.span for one in tensors), key=lambda pair: pair[1]):
        if (device, first) > end:
            groups.append([])
        groups[-1].append(number)
        end = max(end, (device, last))
    together = ([tensors[number] for number in sorted(group)] for group in groups)
    return {id(one.tensor): owners for owners in together for one in owners}


def computed_place(module: nn.Module, name: str) -> Place | None:
    """The place of a weight that a parametrisation or pruning computes; None for any other."""
    if parametrize.is_parametrized(module, name):
        return Computed([(module, name)], "takes the place of the computed weight")
    if f"{name}_orig" in module._parameters and f"{name}_mask" in module._buffers:
        return Masked([(module, name)], "takes the place of the pruned weight")
    return None


def place_of(
    layer: str,
    module: nn.Module,
    name: str,
    owners: dict[int, list[Owner]],
    chosen: set[tuple[nn.Module, str]],
) -> Place:
    """The place of a layer's weight.

    Args:
        layer: The layer's name.
        module: The layer.
        name: The weight's own name.
        owners: What `owners_in` gives for the model.
        chosen: Weights that lie on the chip, by layer and own name.

    Raises:
        ValueError: If the weight is a buffer, computed by a hook or not there yet, holds numbers that a chip cannot,
            or shares memory in another layout.
    """
    if place := computed_place(module, name):
        return place
    parameter = module._parameters.get(name)
    if parameter is None:
        if name in module._buffers:
            raise ValueError(
                f"`{name}` of layer `{layer}` must be a parameter, but is a buffer. Make it one: "
                "nn.Parameter(…, requires_grad=False)."
            )
        raise ValueError(
            f"`{name}` of layer `{layer}` is computed by a hook, which cannot be replaced safely. Use "
            "torch.nn.utils.parametrizations (weight_norm, spectral_norm) instead of the old functions."
        )
    _require_numbers(layer, name, parameter)
    shared = owners[id(parameter)]
    if len({(one.span[1], one.tensor.shape, one.tensor.stride()) for one in shared}) > 1:
        names = ", ".join(f"`{one.path}.{one.name}`" for one in shared)
        raise ValueError(f"{names} share memory in different layouts. Untie them: noise would leak.")
    users = [(one.module, one.name) for one in shared if (one.module, one.name) in chosen]
    if len(users) == len(shared):
        return Stored(users)
    digital = next(plain_name(f"{one.path}.{one.name}") for one in shared if (one.module, one.name) not in chosen)
    return Alone(users, f"on this layer alone: shared with `{digital}`, which stays digital")


def require_shape(layer: str, name: str, parameter: nn.Parameter) -> None:
    """Refuse a parameter of a lazy layer that has not run yet."""
    if nn.parameter.is_lazy(parameter):
        raise ValueError(f"`{name}` of layer `{layer}` has no shape yet. Run the model once, then put it on a chip.")


def _require_numbers(layer: str, name: str, parameter: nn.Parameter) -> None:
    """Refuse parameters whose numbers a chip cannot hold or that are not there."""
    require_shape(layer, name, parameter)
    if parameter.is_meta:
        raise ValueError(
            f"`{name}` of layer `{layer}` must have values, but is on the meta device: offloaded or not loaded yet. "
            "Load the whole model, for example without a `device_map`."
        )
    if type(parameter.data) is not Tensor or not parameter.is_floating_point() or parameter.itemsize < 2:
        raise ValueError(
            f"`{name}` of layer `{layer}` must hold real floating-point numbers of 16 bits or more in a plain tensor, "
            f"got {type(parameter.data).__name__} of {parameter.dtype}: no chip holds quantised, sharded or complex "
            "weights. Use the model of before (the noise `Quantize` rounds it on the chip), or leave the layer out "
            "with `select`."
        )
    sparse = parameter.layout is not torch.strided
    if sparse or any(size > 1 and not step for size, step in zip(parameter.shape, parameter.stride(), strict=True)):
        raise ValueError(
            f"`{name}` of layer `{layer}` must hold each of its numbers once, but is expanded from fewer or sparse. "
            f"Give it memory of its own: nn.Parameter({name}.detach().to_dense().contiguous())."
        )
