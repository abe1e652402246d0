"""Phase-change memory: programming, drift, read noise, compensation; the Hermes chip's devices beside it."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.chips.samples import SINGLE, conductances, copies, generator, layer_weights, moments, reading, rectified
from benchmarks.chips.style import (
    BLUE,
    BLUES,
    DAY,
    GREEN,
    GREY,
    HOUR,
    ORANGE,
    SECOND,
    YEAR,
    bars,
    label,
    note,
    over_time,
    panels,
)
from samson.noise import PCM, PCMHermes, PhaseChange, logarithm, polynomial

DEVICES: dict[str, tuple[PhaseChange, str]] = {
    "PCM": (PCM(mapping=SINGLE, compensation=None), BLUE),
    "Hermes, 1 device": (PCMHermes(mapping=SINGLE, compensation=None), ORANGE),
    "Hermes, 2 devices": (PCMHermes(mapping=SINGLE, devices=2, compensation=None), GREEN),
}
COMPENSATED = {None: (ORANGE, 1.6, "-"), "global": (BLUE, 2.6, "-"), "column": ("white", 0.8, "--")}
"""Colour, width and dashes of the line."""
ONE_COLUMN_EACH = (1.0, 0.1, 0.05, 0.02)
"""Weights of four columns, over the largest."""


def pcm_programming() -> Figure:
    """Programmed conductance and its error over the target: measured, beside the closed form."""
    figure, (written, errors) = panels("programmed conductance", "programming error")
    g = conductances(25.0)
    noise = PCM(mapping=SINGLE, compensation=None)
    devices = 25 * reading(noise, copies(g / 25, 20_000))
    seen = moments(devices)
    fine = conductances(25.0, 201)
    mean, deviation = rectified(fine, polynomial(noise.constants.programming, fine / 25))
    written.plot(fine, fine, color=GREY, lw=0.8)
    written.scatter(copies(g, 12), devices[:, :12], s=3, lw=0, color=BLUE, alpha=0.5, rasterized=True)
    note(written, 0.03, 0.94, "12 devices a target", BLUE, va="top")
    errors.fill_between(fine, mean - fine - deviation, mean - fine + deviation, color=BLUE, alpha=0.14, lw=0)
    errors.plot(fine, mean - fine, color=BLUE, lw=0.8)
    bars(errors, g, seen.mean - g, seen.mean_error, BLUE)
    for sign in (-1, 1):
        bars(errors, g, seen.mean - g + sign * seen.deviation, seen.deviation_error, ORANGE, 2.6)
    label(errors, 12.5, 0.0, "mean", BLUE, "above", 6)
    label(errors, 12.5, 1.03, "± 1 standard deviation", ORANGE, "above", 8)
    errors.set_ylim(-1.6, 1.6)
    for axes in (written, errors):
        axes.set_xlabel("target (µS)")
    written.set_ylabel("programmed (µS)")
    errors.set_ylabel("programmed − target (µS)")
    return figure


def _columns(compensation: str | None, times: Tensor) -> Tensor:
    """Mean reading of four columns of equal weights over the programmed one: (times, 4)."""
    weight = copies(torch.tensor(ONE_COLUMN_EACH, dtype=torch.float64), 4096)
    noise = PCM(compensation=compensation)
    state = noise.program(weight, generator("drift"))
    programmed = noise.read(state, None, generator("drift")).mean(-1)
    return torch.stack(
        [noise.read(state, float(t), generator("drift", str(i))).mean(-1) / programmed for i, t in enumerate(times)]
    )


def pcm_drift() -> Figure:
    """Conductances over time, and columns of weights with and without compensation."""
    figure, (devices, *columns) = panels(
        "16 devices", "no compensation", 'compensation="global"', 'compensation="column"', height=2.6
    )
    times = torch.logspace(0, math.log10(YEAR), 33, dtype=torch.float64)
    targets = torch.tensor([25.0, 12.5, 5.0, 2.5], dtype=torch.float64)
    noise = PCM(mapping=SINGLE, compensation=None)
    state = noise.program(copies(targets / 25, 4), generator("devices", "6"))
    over = torch.stack([25 * noise.read(state, float(t), generator("one reading")) for t in times])
    for row, colour in enumerate(BLUES):
        devices.plot(times, over[:, row], color=colour, lw=0.8)
    devices.set_ylim(0, 28)
    devices.set_ylabel("conductance (µS)")
    for axes, compensation in zip(columns, (None, "global", "column"), strict=True):
        kept = _columns(compensation, times)
        for row, (size, colour) in enumerate(zip(ONE_COLUMN_EACH, BLUES, strict=True)):
            axes.plot(times, kept[:, row], color=colour)
            if compensation == "global" or size in (1.0, 0.02):
                label(axes, YEAR, float(kept[-1, row]), f"{size:g}", colour)
        axes.set_ylim(0.2, 1.3)
    columns[0].set_ylabel("mean weight / as programmed")
    for axes in (devices, *columns):
        over_time(axes, SECOND, HOUR, YEAR, high=YEAR * (2 if axes is devices else 1.2))
    return figure


def pcm_read() -> Figure:
    """Read noise over time, and what is left of the error after compensation."""
    figure, (read, left) = panels("read noise of a device", "error of the weights of a layer")
    times = torch.logspace(0, math.log10(YEAR), 12, dtype=torch.float64)
    noise = PCM(mapping=SINGLE, compensation=None)
    fine = torch.logspace(0, math.log10(YEAR), 60, dtype=torch.float64)
    for target, colour in ((25.0, BLUES[0]), (12.5, BLUES[1]), (5.0, BLUES[2])):
        weight = torch.full((20_000,), target / 25, dtype=torch.float64)
        weight[0] = 1.0  # gives the scale
        weight[1] = 0.0
        state = noise.program(weight, generator("read", str(target)))
        pairs = [[noise.read(state, float(t), generator(str(i), k)) for k in "ab"] for i, t in enumerate(times)]
        seen = moments(torch.stack([(a - b)[2:] / (2 * a * b)[2:].mean().sqrt() for a, b in pairs]))
        r = torch.tensor([target / 25], dtype=torch.float64)
        q = noise.constants.read(r, logarithm(r))
        elapsed, t_r = fine + noise.constants.reference_s, noise.constants.read_s
        read.plot(fine, 100 * q * ((elapsed + t_r) / (2 * t_r)).log().sqrt(), color=GREY, lw=0.8)
        bars(read, times, 100 * seen.deviation, 100 * seen.deviation_error, colour)
        label(read, YEAR, 100 * float(seen.deviation[-1]), f"{target:g} µS", colour, points=8)
    read.set_ylim(0, 17)
    read.set_ylabel("deviation from reading to reading\n(% of the conductance)")
    weight = layer_weights()
    for compensation, (colour, width, dashes) in COMPENSATED.items():
        noise = PCM(compensation=compensation)
        state = noise.program(weight, generator("layer"))
        size = [
            (noise.read(state, float(t), generator("l", i)) - weight).square().mean().sqrt()
            for i, t in enumerate(times)
        ]
        left.plot(times, 100 * torch.stack(size), dashes, color=colour, lw=width)
        if compensation is None:
            label(left, 2 * HOUR, 14, "no compensation", colour, "left")
    label(left, DAY, 4.2, "global; dashed: column", BLUE, "below")
    left.set_ylim(0, 22)
    left.set_ylabel("root mean square\n(% of the largest weight)")
    for axes in (read, left):
        over_time(axes, high=1.4 * YEAR)
    return figure


def hermes() -> Figure:
    """The three phase-change devices side by side."""
    figure, (written, kept, read) = panels("programming error", "kept after a day", "read noise after a day")
    for name, (noise, colour) in DEVICES.items():
        g_max = noise.largest_us
        r = conductances(1.0, 21)
        state = noise.program(copies(r, 20_000), generator("hermes", name))
        programmed = noise.read(state, None, generator("none"))
        day = [noise.read(state, DAY, generator("hermes", k)) for k in "ab"]
        error = moments(programmed - r.unsqueeze(-1))
        bars(written, g_max * r, g_max * error.deviation, g_max * error.deviation_error, colour, 2.6)
        fine = conductances(1.0, 201)
        sigma = polynomial(noise.constants.programming, fine).mul(g_max / noise.constants.g_max_us).clamp(min=0)
        written.plot(g_max * fine, rectified(g_max * fine, sigma)[1], color=colour, lw=0.8)
        some = slice(2, None)  # a share of almost nothing says nothing
        ratio = moments(day[0][some] / programmed[some].mean(-1, keepdim=True))
        bars(kept, g_max * r[some], 100 * ratio.mean, 100 * ratio.mean_error, colour, 2.6)
        between = moments((day[0] - day[1])[some] / math.sqrt(2) / day[0][some].mean(-1, keepdim=True))
        bars(read, g_max * r[some], 100 * between.deviation, 100 * between.deviation_error, colour, 2.6)
    for row, (name, (_, colour)) in enumerate(DEVICES.items()):
        note(written, 0.45, 0.34 - 0.09 * row, name, colour, va="top")
    written.set_ylabel("standard deviation (µS)")
    kept.set_ylabel("mean conductance (%)")
    read.set_ylabel("standard deviation (%)")
    for axes in (written, kept, read):
        axes.set_xlabel("target (µS)")
        axes.set_xlim(0, 26)
    written.set_ylim(0)
    read.set_ylim(0)
    return figure
