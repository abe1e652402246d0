"""Broken devices and lines, and what whole chips, tiles and columns have in common."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from benchmarks.chips.samples import generator, moments
from benchmarks.chips.style import BLUE, GREY, INK, ORANGE, PALE, SIGNED, WIDTH, bars, label
from samson.noise import DeadLines, Gaussian, StuckDevices, Variation, WeightNoise, deploy

OUTPUTS, INPUTS, TILE = 20, 32, 8


def _image(axes: Axes, colours: NDArray[np.float64], title: str) -> None:
    """A weight matrix as it lies on the chip: inputs are rows, outputs are columns."""
    axes.imshow(colours, interpolation="nearest", aspect="auto")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=PALE)


def faults() -> Figure:
    """One weight matrix with each kind of fault."""
    weight = 0.35 * torch.randn(OUTPUTS, INPUTS, generator=generator("matrix"), dtype=torch.float64)
    weight = weight.clamp(-1, 1)
    chips: dict[str, WeightNoise | None] = {
        "no fault": None,
        "stuck low": StuckDevices(low=0.1),
        "stuck high": StuckDevices(high=0.1),
        "dead rows": DeadLines(rows=0.1),
        "dead columns": DeadLines(columns=0.1),
        "dead in tiles of 8": DeadLines(columns=0.1, tile_inputs=TILE),
    }
    figure = Figure(figsize=(WIDTH, 2.3))
    for axes, (title, noise) in zip(figure.subplots(1, len(chips)), chips.items(), strict=True):
        faulty = weight if noise is None else noise(weight, generator("faults", "2"))
        colours = SIGNED((faulty.T.numpy() + 1) / 2)
        if noise is not None:
            same, lost = (faulty == weight).T.numpy(), (faulty == 0).T.numpy()
            colours[same] = 1 - 0.3 * (1 - colours[same])
            colours[lost] = to_rgba(INK)
        _image(axes, colours, title)
        if noise is None:
            axes.set_ylabel("inputs")
            axes.set_xlabel("outputs")
    return figure


def variation() -> Figure:
    """Gains of two layers on one chip by unit, and the error of a sum of n weights."""
    figure = Figure(figsize=(WIDTH, 2.5))
    grid = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 2.6))
    layers = nn.Linear(INPUTS, OUTPUTS), nn.Linear(INPUTS, OUTPUTS)
    for layer in layers:
        nn.init.ones_(layer.weight)
    units = {"chip": None, "layer": None, "tile": TILE, "channel": None}
    for axes, (per, tile) in zip(grid, units.items(), strict=False):
        with deploy(nn.ModuleList(layers), Variation(gain=0.1, per=per, tile_inputs=tile), seed=17).at():
            first, second = (layer.weight.detach() - 1 for layer in layers)
        gap = torch.full((3, INPUTS), float("nan"))
        gains = torch.cat([first, gap, second]).T.numpy()
        _image(axes, SIGNED((gains / 0.25 + 1) / 2), f'per="{per}"')
    grid[0].set_ylabel("inputs of two layers")
    grid[0].set_xlabel("outputs")
    sums = grid[4]
    sums.set_title("error of a sum of n weights")
    numbers = [4**k for k in range(7)]
    shared, own = Variation(gain=0.1, per="layer"), Gaussian(0.1, per="weight")
    for noise, colour, text, at in (
        (shared, ORANGE, "gain of the layer, σ = 0.1", "above"),
        (own, BLUE, "each weight, σ = 0.1", "right"),
    ):
        drawn = [[noise(torch.ones(n), generator("sum", n, chip)).mean() - 1 for chip in range(400)] for n in numbers]
        seen = moments(torch.tensor(drawn, dtype=torch.float64))
        bars(sums, numbers, 100 * seen.deviation, 100 * seen.deviation_error, colour)
        sums.plot(numbers, [10 / (1 if noise is shared else n**0.5) for n in numbers], color=GREY, lw=0.8)
        label(sums, 64 if noise is shared else 14, 10 if noise is shared else 10 / 14**0.5, text, colour, at, 7)
    sums.set_xscale("log")
    sums.set_yscale("log")
    sums.set_ylim(0.1, 20)
    sums.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    sums.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    sums.set_xlabel("n")
    sums.set_ylabel("deviation over chips (%)")
    return figure
