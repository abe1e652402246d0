"""The generic families: Gaussian and lognormal errors."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from benchmarks.chips.samples import copies, generator, moments, reading
from benchmarks.chips.style import BLUE, GREEN, GREY, ORANGE, bars, label, note, panels
from samson.noise import Gaussian, Lognormal

COLUMNS = {1.0: BLUE, 0.5: GREEN, 0.2: ORANGE}
"""Largest weight of three output channels, with their colours."""


def gaussian() -> Figure:
    """Errors of one chip over the weight, for three output channels of different range."""
    units = {"layer": "layer", "channel": "channel", "filter": "filter", "weight": "weight: multiplicative"}
    figure, axes = panels(*units.values(), sharey=True, height=2.5)
    largest = torch.tensor(list(COLUMNS), dtype=torch.float64).unsqueeze(-1)
    at = largest * torch.linspace(-1, 1, 11, dtype=torch.float64)
    few = largest * (2 * torch.rand(3, 40, generator=generator("few"), dtype=torch.float64) - 1)
    few[:, 0] = largest.squeeze(-1)  # so that each channel has its range
    for one, per in zip(axes, units, strict=True):
        noise = Gaussian(0.1, per=per)
        spread = moments(reading(noise, copies(at, 4000), per) - copies(at, 4000)).deviation
        errors = reading(noise, few, per) - few
        for channel, colour in enumerate(COLUMNS.values()):
            one.scatter(few[channel], errors[channel], s=5, color=colour, alpha=0.5, lw=0)
            for sign in (-1, 1):
                one.plot(at[channel], sign * spread[channel], color=colour, lw=1.3)
        one.set_xlabel("weight")
        one.set_ylim(-0.3, 0.3)
    axes[0].set_ylabel("error on the chip")
    for number, (size, colour) in enumerate(COLUMNS.items()):
        note(axes[3], 0.02, 0.98 - 0.085 * number, f"channel with weights up to ±{size:g}", colour, va="top")
    return figure


def lognormal() -> Figure:
    """Factors on the weights, and their mean over σ."""
    figure, (factors, means) = panels(
        "factor on a weight, not corrected", "mean factor", height=2.6, width_ratios=(1.5, 1)
    )
    ones = torch.ones(200_000, dtype=torch.float64)
    for sigma, colour, x, y in ((0.1, BLUE, 1.13, 2.2), (0.3, GREEN, 1.38, 0.72), (0.6, ORANGE, 2.0, 0.3)):
        drawn = reading(Lognormal(sigma), ones, str(sigma))
        height, edges = torch.histogram(drawn, bins=128, range=(0.0, 3.2), density=True)
        factors.stairs(height, edges, color=colour, lw=1.2, fill=False)
        factors.stairs(height, edges, color=colour, alpha=0.12, fill=True)
        label(factors, x, y, f"σ = {sigma:g}", colour, points=0)
    factors.set_xlim(0, 3.2)
    factors.set_ylim(0)
    factors.set_xlabel("weight on the chip / weight")
    factors.set_ylabel("density")
    sigmas = torch.linspace(0, 0.6, 7, dtype=torch.float64)
    for corrected, colour, text in ((False, ORANGE, "lognormal: exp(σ²/2)"), (True, BLUE, "lognormal-corrected: 1")):
        drawn = torch.stack([reading(Lognormal(float(s), corrected), ones[:40_000], float(s).hex()) for s in sigmas])
        seen = moments(drawn)
        means.plot(sigmas, torch.ones_like(sigmas) if corrected else (sigmas**2 / 2).exp(), color=GREY, lw=0.8)
        bars(means, sigmas, seen.mean, seen.mean_error, colour)
        label(means, 0.41, 1.16 if not corrected else 0.975, text, colour, "left" if not corrected else "below", 4)
    means.set_xlabel("σ")
    means.set_ylim(0.9, 1.25)
    return figure
