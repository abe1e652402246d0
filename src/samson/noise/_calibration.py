"""Input ranges and ADC bounds of layers from data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from samson._batches import Examples
from samson._checks import require
from samson._select import Select
from samson.noise._arrays import arrays_of, devices_of
from samson.noise._attachment import held_by, hooked_layers, operations_of
from samson.noise._base import WeightNoise
from samson.noise._periphery import Periphery
from samson.noise._presets import ChipModel
from samson.noise._random import exactly, generator_for, working_dtype
from samson.noise._selection import on_chip
from samson.noise._types import require_type
from samson.noise._watching import require_numbers, require_reached, watch


def calibrate(model: nn.Module, batches: Examples, select: Select = None, *, quantile: float = 1.0) -> dict[str, float]:
    """Find the range of each layer's inputs, for `Periphery(input_ranges=…)`.

    The model runs in evaluation mode, with its own weights; they, its modes and global random state come back as they
    were.

    Args:
        model: Any model whose layers on the chip are linear, convolution or recurrent layers or attention.
        batches: Training or validation data, in any form that an evaluation takes; targets are left out. A tuple of
            two tensors is inputs and targets: give batches as a list.
        select: As for `deploy`.
        quantile: Share of a call's |inputs| that the range covers, in (0, 1]; 1 is the largest. The range is the
            largest over calls of the layer, which are batches, and for the states of a recurrent layer time steps.

    Returns:
        The range by the name of the layer; 1 where all inputs are zero.

    Raises:
        ValueError: If `quantile` is out of range, there are no batches, a layer cannot be reached, or its inputs are
            not finite.

    Example:
        >>> import torch
        >>> calibrate(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), [torch.tensor([[-3.0, 2.0]])])
        {'1': 2.0}
    """
    layers = hooked_layers(model, on_chip(model, select))
    found = _largest(model, layers, batches, quantile, lambda name, inputs: [inputs])
    return {name: values[0] for name, values in found.items()}


def calibrate_adc(
    model: nn.Module,
    batches: Examples,
    periphery: Periphery,
    select: Select = None,
    *,
    quantile: float = 1.0,
    seed: int = 0,
    noise: WeightNoise | ChipModel | None = None,
) -> dict[str, float | tuple[float, ...]]:
    """Find the bound of each layer's ADCs, for `Periphery(adc_bounds=…)`.

    The bound of a layer is the quantile of |y| over all its conversions, where y is what the ADC of a tile sees: the
    output of the periphery's steps 1 to 5 for the inputs that the layer has in the exact model. It is on the scale of
    `Periphery.adc_bound`: a column's largest weight and the input range are 1. Each tile's partial sum is a conversion
    of its own. Calibrate the input ranges first, since y is relative to them.

    Args:
        model: As for `calibrate`.
        batches: As for `calibrate`.
        periphery: What surrounds the weights, with its input ranges; its own ADC is left out.
        select: As for `deploy`.
        quantile: Share of a call's |y| that the bound covers, in (0, 1]; 1 is the largest. The bound is the largest
            over calls, as in `calibrate`. Outputs beyond it saturate, the others have finer steps.
        seed: Seed of the periphery's noise, ≥ 0.
        noise: The model of devices, where slices or devices have ADCs of their own (`adc_per`). The bounds are those of
            its targets.

    Returns:
        The bound by the name of the layer, one for each array where there are several; 1 where all outputs are zero.

    Raises:
        ValueError: If `quantile` is out of range, there are no batches, a layer cannot be reached or has inputs that
            are not finite, or `input_ranges` are for other layers, or `adc_per` needs devices and there are none.

    Example:
        >>> import torch
        >>> layer, ranges = nn.Linear(2, 1, bias=False), {"": 4.0}
        >>> _ = nn.init.constant_(layer.weight, 0.5)
        >>> calibrate_adc(layer, [torch.tensor([[3.0, 2.0]])], Periphery(input_ranges=ranges))  # (3 + 2) / 4
        {'': 1.25}

    Reference: Rasch et al. 2023, Nature Communications 14, 5282, for the periphery and its scale; there the bound is 10
    for every layer.
    """
    require_type("periphery", periphery, Periphery)
    noise = noise.noise if isinstance(noise, ChipModel) else noise
    devices = devices_of(noise, periphery)
    analog = replace(periphery, adc_steps=None, adc_bounds={})
    tensors = on_chip(model, select)
    layers = hooked_layers(model, tensors)
    operations = operations_of(model, layers, analog)
    held = held_by(layers, tensors)
    generators = {name: generator_for(seed, "calibrate", name, device=t.weight.device) for name, t in held.items()}
    arrays = {name: arrays_of(devices, tensor, operations[name], analog) for name, tensor in held.items()}

    def conversions(name: str, inputs: Tensor) -> Iterator[Tensor]:
        for one in arrays[name]:
            weight = cast("Tensor", layers[name].weight) if one.weight is None else one.weight
            with exactly(inputs.device):
                seen = [y for y, _ in analog.conversions(one.operation, inputs, weight, generators[name], one.column)]
            yield seen[0] if len(seen) == 1 else torch.stack(seen)

    largest = _largest(model, layers, batches, quantile, conversions)
    return {name: values if len(values) > 1 else values[0] for name, values in largest.items()}


def _largest(
    model: nn.Module,
    layers: dict[str, nn.Module],
    batches: Examples,
    quantile: float,
    values: Callable[[str, Tensor], Iterable[Tensor]],
) -> dict[str, tuple[float, ...]]:
    """The largest quantile over calls of |values|, several of a layer's name and inputs; 1 instead of zero."""
    require_type("quantile", quantile, float)
    require(0 < quantile <= 1, "quantile", "be in (0, 1]", quantile)
    largest: dict[str, list[float]] = {}

    def look(name: str, inputs: Tensor) -> None:
        found = []
        for one in values(name, inputs):
            sizes = one.abs().flatten()
            if not sizes.numel():
                return
            require_numbers(name, sizes)
            rank = max(1, round(quantile * sizes.numel()))
            sizes = sizes.to(working_dtype(sizes))
            found.append(float(sizes.amax() if rank == len(sizes) else sizes.kthvalue(rank).values))
        largest[name] = [max(pair) for pair in zip(found, largest.get(name, found), strict=True)]

    watch(model, layers, batches, look)
    require_reached(layers, largest)
    return {name: tuple(value or 1.0 for value in found) for name, found in largest.items()}
