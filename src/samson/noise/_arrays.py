"""The arrays of devices on which a layer lies: one, or one for each slice or device of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from samson.noise._base import State, WeightNoise, require_reading
from samson.noise._compose import Compose
from samson.noise._device import DeviceNoise
from samson.noise._faults import FaultyDevices, StuckDevices
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


def devices_of(noise: WeightNoise | None, periphery: Periphery | None) -> DeviceNoise | None:
    """The devices of slices or pairs with ADCs of their own, stuck ones too; None where whole weights have them.

    Raises:
        ValueError: If there are such ADCs, but no devices.
    """
    if periphery is None or periphery.adc_per == "weight":
        return None
    first, *others = noise.noises if isinstance(noise, Compose) else (noise,)
    stuck = tuple(one for one in others if isinstance(one, StuckDevices))
    if isinstance(first, DeviceNoise) and len(stuck) == len(others):
        return FaultyDevices(first.time_s, first.mapping, devices=first, stuck=stuck) if stuck else first
    names = " and ".join(type(one).__name__ for one in (first, *others)) if noise else "no noise"
    raise ValueError(
        f"`adc_per` must be 'weight' where weights lie on no devices, got {periphery.adc_per!r} with {names}. Give a "
        "model of devices, such as `PCM(mapping=Mapping(levels=4, slices=4))`, alone or with `StuckDevices` after it."
    )


def arrays_of(noise: DeviceNoise | None, tensor: ChipTensor, operation: Operation, periphery: Periphery) -> list[Array]:
    """The arrays that are to hold a weight; those of slices or devices with what they are to hold.

    Raises:
        ValueError: If there are bounds for another number of arrays.
    """
    if noise is None:
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
    noise: DeviceNoise,
    tensor: ChipTensor,
    state: State,
    shape: torch.Size,
    time_s: float | None,
    generator: Generator,
    per: str,
) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """A weight as it is read, what its arrays hold, and the drift compensation in both.

    Raises:
        ValueError: If the devices give no tensor of the weight's shape.
    """
    with exactly(generator.device):
        every, shares, factor = noise.arrays(state, time_s, generator, per)
        weight = torch.tensordot(every.new_tensor(shares), every, dims=1).to(state["dtype"].dtype)
        require_reading(noise, weight, shape)
        return weight, [tensor.stored(one) for one in every], factor
