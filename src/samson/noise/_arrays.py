"""The arrays of devices on which a layer lies: one, or one for each slice or device of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from samson.noise._base import State, WeightNoise, read_weight
from samson.noise._device import DeviceNoise
from samson.noise._operations import Operation
from samson.noise._periphery import Periphery
from samson.noise._random import exactly, working_dtype
from samson.noise._selection import ChipTensor


@dataclass(frozen=True, eq=False)
class Array:
    """Devices that share ADCs.

    Args:
        operation: What the layer computes, with the bound of these ADCs.
        column: What its columns stand for, as `Periphery` takes it.
        weight: What it holds, in the layer's layout; None is the layer's weight.
        share: What it counts for in the layer's output.
    """

    operation: Operation
    column: Tensor
    weight: Tensor | None = None
    share: float = 1.0

    def output(self, periphery: Periphery, inputs: Tensor, weight: Tensor, generator: Generator) -> Tensor:
        """What it adds to the output of a layer of that weight, without its bias."""
        if self.weight is None:
            return periphery(self.operation, inputs, weight, generator, self.column)
        exact = inputs.to(working_dtype(inputs))  # arrays may cancel
        return periphery(self.operation, exact, self.weight, generator, self.column) * self.share


def require_arrays(noise: WeightNoise | None, periphery: Periphery) -> None:
    """Refuse ADCs for slices or devices of weights that lie on none.

    Raises:
        ValueError: If they do.
    """
    if periphery.adc_per != "weight" and not isinstance(noise, DeviceNoise):
        what = "noise=None" if noise is None else str(noise)
        raise ValueError(
            f"`adc_per` must be 'weight' where no model of devices holds the weights, got {periphery.adc_per!r} with "
            f"{what}. Give one alone, such as `PCM(mapping=Mapping(levels=4, slices=4))`."
        )


def arrays_of(noise: WeightNoise | None, tensor: ChipTensor, operation: Operation, periphery: Periphery) -> list[Array]:
    """The arrays that are to hold a weight; those of slices or devices with what they are to hold.

    Raises:
        ValueError: If there are bounds for another number of arrays.
    """
    if not isinstance(noise, DeviceNoise) or periphery.adc_per == "weight":
        return [Array(operation, periphery.columns(operation, tensor.weight))]
    weight = tensor.output_first(tensor.weight)
    with exactly(weight.device):
        every, shares, full = noise.targets(weight.to(working_dtype(weight)), periphery.adc_per)
    bounds = operation.adc_bound
    own = bounds if isinstance(bounds, tuple) else (bounds,) * len(shares)
    if len(own) != len(shares):
        raise ValueError(
            f"`adc_bounds` must give one number, or one for each of {len(shares)} arrays of `{tensor.name}`, got "
            f"{bounds!r}. `calibrate_adc` finds them for this noise and this `adc_per`."
        )
    column = periphery.columns(operation, tensor.stored(full.expand(weight.shape)))
    return [
        Array(replace(operation, adc_bound=bound), column, tensor.stored(held), share)
        for bound, held, share in zip(own, every, shares, strict=True)
    ]


def read_arrays(
    noise: WeightNoise, tensor: ChipTensor, state: State, time_s: float | None, generator: Generator, per: str
) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """A weight as it is read, what its arrays hold where `per` is not "weight", and the drift compensation in both."""
    if not isinstance(noise, DeviceNoise) or per == "weight":
        weight, factor = read_weight(noise, state, time_s, generator)
        return weight, [], factor
    with exactly(generator.device):
        every, shares, factor = noise.arrays(state, time_s, generator, per)
        weight = torch.tensordot(every.new_tensor(shares), every, dims=1).to(state["dtype"].dtype)
        return weight, [tensor.stored(one) for one in every], factor


def as_read(arrays: list[Array], held: list[Tensor], factor: Tensor | None) -> list[Array]:
    """Arrays with what they hold now, and the drift compensation of their columns."""
    found = [replace(one, weight=weight) for one, weight in zip(arrays, held, strict=True)] if held else arrays
    return found if factor is None else [replace(one, column=one.column * factor) for one in found]
