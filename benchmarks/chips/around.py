"""What surrounds the weights: converters, noise of outputs, IR drop."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.chips.samples import generator, moments
from benchmarks.chips.style import BLUE, BLUES, GREEN, GREY, ORANGE, bars, label, panels
from samson.noise import STANDARD_HWA, WIRES, Operation, Periphery

FIXED = Operation(input_range=1.0)
"""A linear layer whose inputs range from -1 to 1."""


def output(periphery: Periphery, inputs: Tensor, weight: Tensor, *path: str | int) -> Tensor:
    """The layer's output on the chip, for inputs (many, n) and one column of weights (n,)."""
    return periphery(FIXED, inputs, weight.unsqueeze(0), generator("periphery", *path)).squeeze(-1)


def converters() -> Figure:
    """Transfer of a DAC and an ADC with few levels, and the noise of outputs."""
    figure, (dac, adc, noise) = panels("DAC of 8 steps", "ADC of 16 steps, bound 8", "noise of an output")
    x = torch.linspace(-1.6, 1.6, 641, dtype=torch.float64)
    dac.plot(x, x, color=GREY, lw=0.7)
    dac.plot(x, output(Periphery(dac_steps=8), x.unsqueeze(-1), torch.ones(1, dtype=torch.float64)), color=BLUE)
    label(dac, 1.6, 1.0, "saturates", BLUE)
    dac.set_xlabel("input / input range")
    dac.set_ylabel("converted")
    y, ones = torch.linspace(-12, 12, 961, dtype=torch.float64), torch.ones(16, dtype=torch.float64)
    inputs = (y / 16).unsqueeze(-1) * ones
    adc.plot(y, y, color=GREY, lw=0.7)
    adc.plot(y, output(Periphery(adc_steps=16, adc_bound=8.0), inputs, ones), color=BLUE)
    label(adc, 12, 8.0, "saturates", BLUE)
    adc.set_xlabel("exact output")
    adc.set_ylabel("converted")
    numbers = [1, 4, 16, 64, 128, 256, 384, 512]
    parts = {
        "weight_noise": (Periphery(weight_noise=STANDARD_HWA.weight_noise), ORANGE, (512, 0.405, "above")),
        "output_noise": (Periphery(output_noise=STANDARD_HWA.output_noise), GREEN, (512, 0.04, "above")),
    }
    for name, (one, colour, (at, height, side)) in parts.items():
        drawn = [output(one, torch.ones(8000, n, dtype=torch.float64), torch.ones(n), name, n) for n in numbers]
        seen = moments(torch.stack(drawn))
        bars(noise, numbers, seen.deviation, seen.deviation_error, colour)
        fine = torch.arange(1, 513)
        line = one.output_noise * torch.ones(512) if one.output_noise else one.weight_noise * fine.sqrt()
        noise.plot(fine, line, color=GREY, lw=0.8)
        label(noise, at, height, f"{name} {one.weight_noise or one.output_noise:g}", colour, side, 6)
        noise.texts[-1].set_horizontalalignment("right")
    noise.set_ylim(0, 0.5)
    noise.set_xlim(0, 530)
    noise.set_xlabel("inputs of 1, weights of 1")
    noise.set_ylabel("standard deviation")
    return figure


def ir_drop() -> Figure:
    """How much of an output is lost along the wire: over the inputs of a tile, and over their place."""
    figure, (size, place) = panels("all inputs at 0.2, weights at 1", "64 of 512 inputs at 1, by their place")
    numbers = list(range(32, 1025, 32))
    chips = {
        "devices of 25 µS": (Periphery(ir_drop=1.0, wire_ratio=1.14e5), BLUES[0]),
        "devices of 5 µS": (Periphery(ir_drop=1.0, wire_ratio=WIRES), BLUES[1]),
        "5 µS, tiles of 256": (Periphery(ir_drop=1.0, wire_ratio=WIRES, tile_inputs=256), ORANGE),
    }
    for name, (chip, colour) in chips.items():
        ones = [torch.ones(n, dtype=torch.float64) for n in numbers]
        lost = [100 * (1 - float(output(chip, 0.2 * one.unsqueeze(0), one)) / (0.2 * len(one))) for one in ones]
        size.plot(numbers, lost, color=colour)
        label(size, 1024, lost[-1], name, colour)
        if chip.tile_inputs is not None:
            continue
        starts = torch.arange(0, 449, 16)
        inputs = torch.zeros(len(starts), 512, dtype=torch.float64)
        for row, start in enumerate(starts.tolist()):
            inputs[row, start : start + 64] = 1.0
        kept = output(chip, inputs, torch.ones(512, dtype=torch.float64)) / 64
        place.plot(starts + 32, 100 * (1 - kept), color=colour)
        label(place, 480, float(100 * (1 - kept[-1])), name.removeprefix("devices of "), colour)
    size.set_xlabel("inputs of the layer")
    size.set_ylabel("lost (%)")
    place.set_xlabel("middle of the active inputs")
    place.set_ylabel("lost (%)")
    return figure
