"""Resistive memory: the spread of Wan et al. at three times; CMO/HfOx programming, relaxation and reading."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure

from benchmarks.chips.samples import SINGLE, conductances, copies, generator, moments, rectified
from benchmarks.chips.style import BLUE, BLUES, DAY, GREEN, GREY, ORANGE, YEAR, bars, label, note, over_time, panels
from samson.noise import CMO, FALCONE, WAN2022, ReRAM, polynomial

MEASURED = {1.0: ("1 s", BLUE), DAY: ("1 day", ORANGE), 2 * DAY: ("2 days", GREEN)}


def reram() -> Figure:
    """Spread over the target at the three times that were measured, and single devices at these times."""
    figure, (spread, devices) = panels("spread", "18 devices")
    g, fine, noise = conductances(40.0, 21), conductances(40.0, 201), ReRAM(mapping=SINGLE)
    state = noise.program(copies(g / 40, 20_000), generator("reram"))
    for time_s, (name, colour) in MEASURED.items():
        seen = moments(40 * noise.read(state, time_s, generator("none")))
        sigma = polynomial(dict(zip(WAN2022.times_s, WAN2022.deviations_us, strict=True))[time_s], fine / 40).clamp(
            min=0
        )
        spread.plot(fine, rectified(fine, sigma)[1], color=colour, lw=0.8)
        bars(spread, g, seen.deviation, seen.deviation_error, colour, 2.8)
        x, y, at = {"1 s": (11, 1.7, "below"), "1 day": (8, 3.9, "above"), "2 days": (20.5, 3.1, "right")}[name]
        label(spread, x, y, name, colour, at, 0)
    spread.set_ylim(0, 4.6)
    spread.set_xlabel("target (µS)")
    spread.set_ylabel("standard deviation (µS)")
    some = torch.tensor([40.0, 30.0, 16.0, 4.0], dtype=torch.float64)
    state = noise.program(copies(some / 40, 6), generator("six"))
    over = torch.stack([40 * noise.read(state, time_s, generator("none")) for time_s in MEASURED])
    for row, colour in enumerate(BLUES):
        if row:
            devices.plot(range(3), over[:, row], "o-", color=colour, ms=3, lw=0.8)
    devices.set_xticks(range(3), [name for name, _ in MEASURED.values()])
    devices.set_xlim(-0.2, 2.2)
    devices.set_ylim(0, 40)
    devices.set_ylabel("conductance (µS)")
    devices.set_xlabel("since programming")
    return figure


def cmo() -> Figure:
    """Programming at two tolerances, relaxation of devices at 50 µS, and read noise over time."""
    figure, (written, relaxed, read) = panels("programming error", "relaxation of 50 µS", "read noise")
    c = FALCONE
    target = torch.linspace(12, 85, 15, dtype=torch.float64)
    edges = torch.tensor([c.g_min_us, c.g_max_us], dtype=torch.float64)

    def programmed(values: torch.Tensor, noise: CMO, number: int, name: str) -> dict[str, torch.Tensor]:
        weight = (copies(torch.cat([edges, values]), number) - c.g_min_us) / (c.g_max_us - c.g_min_us)
        return noise.program(weight, generator(name))

    def conductance(noise: CMO, state: dict[str, torch.Tensor], time_s: float | None, *path: str | int) -> torch.Tensor:
        return c.g_min_us + (c.g_max_us - c.g_min_us) * noise.read(state, time_s, generator("cmo", *path))[2:]

    for acceptance, colour, y in ((0.02, ORANGE, 0.62), (0.002, BLUE, 0.11)):
        noise = CMO(acceptance=acceptance)
        seen = moments(conductance(noise, programmed(target, noise, 20_000, "write"), None))
        intercept, slope = c.programming_us[c.acceptances.index(acceptance)]
        written.plot(target, intercept + slope * target, color=GREY, lw=0.8)
        bars(written, target, seen.deviation, seen.deviation_error, colour)
        label(written, 45, y, f"tolerance {100 * acceptance:g} %", colour, "left" if acceptance > 0.01 else "above", 2)
    written.set_ylim(0, 1.1)
    written.set_xlabel("target (µS)")
    written.set_ylabel("standard deviation (µS)")

    noise, times = CMO(), torch.logspace(0, math.log10(YEAR), 10, dtype=torch.float64)
    state = programmed(torch.tensor([50.0], dtype=torch.float64), noise, 20_000, "relax")
    over = torch.stack([conductance(noise, state, float(t), str(i))[0] for i, t in enumerate(times)])
    seen = moments(over)
    log = times.log()
    mean = 50 + c.relaxation_us * log
    own = c.relaxation_deviation_us[0] + c.relaxation_deviation_us[1] * log
    steady = c.programming_us[0][0] + c.programming_us[0][1] * 50
    spread = ((times + c.read_s) / (2 * c.read_s)).log().sqrt()
    reads = c.read_us * math.log10(50) * spread
    deviation = (own**2 + steady**2 + reads**2).sqrt()
    relaxed.plot(times, over[:, :8], color=GREY, lw=0.5, alpha=0.6)
    relaxed.fill_between(times, mean - deviation, mean + deviation, color=BLUE, alpha=0.14, lw=0)
    relaxed.plot(times, mean, color=BLUE, lw=0.8)
    bars(relaxed, times, seen.mean, seen.mean_error, BLUE)
    for sign in (-1, 1):
        bars(relaxed, times, seen.mean + sign * seen.deviation, seen.deviation_error, ORANGE, 2.6)
    relaxed.set_ylabel("conductance (µS)")
    relaxed.set_ylim(45, 52)
    for row, (text, colour) in enumerate((("mean", BLUE), ("± 1 standard deviation", ORANGE), ("8 devices", GREY))):
        note(relaxed, 0.04, 0.27 - 0.085 * row, text, colour, va="top")

    for level, colour in ((80.0, BLUES[0]), (40.0, BLUES[1]), (15.0, BLUES[2])):
        state = programmed(torch.tensor([level], dtype=torch.float64), noise, 20_000, "read")
        pairs = [[conductance(noise, state, float(t), str(i), k)[0] for k in "ab"] for i, t in enumerate(times)]
        seen = moments(torch.stack([(a - b) / math.sqrt(2) for a, b in pairs]))
        typical = level + c.relaxation_us * log
        read.plot(times, c.read_us * typical.log10() * spread, color=GREY, lw=0.8)
        bars(read, times, seen.deviation, seen.deviation_error, colour)
        label(read, 1.5 * YEAR, float(seen.deviation[-1]), f"{level:g} µS", colour)
    read.set_ylim(0, 0.36)
    read.set_ylabel("standard deviation (µS)")
    for axes in (relaxed, read):
        over_time(axes, 1.0, 3600.0, YEAR, high=1.5 * YEAR)
    return figure
