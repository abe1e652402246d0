"""From weights to conductances: what each device of a weight holds, and what that does to the error."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from benchmarks.chips.samples import layer_weights, reading
from benchmarks.chips.style import BLUE, GREEN, GREY, ORANGE, label, panels
from samson.noise import PCM, Mapping

G_MAX = 25.0
LAYOUTS = {
    "differential pair": Mapping(),
    "single device": Mapping(pair=False),
    "pair, two devices each": Mapping(significance=(1.0, 1.0)),
    "pair, four devices each": Mapping(significance=(1.0,) * 4),
    "pair, 16 levels": Mapping(levels=16),
    "pair, two slices of 16 levels": Mapping(levels=16, slices=2),
}
"""Mappings whose errors are compared."""


def mapping() -> Figure:
    """Targets over the weight for four mappings."""
    figure, (pair, single, levels, slices) = panels(
        "pair, g_min 2 µS", "single device", "pair, 5 levels", "pair, 2 slices of 3 levels", sharey=True, height=2.5
    )
    weight = torch.linspace(-1, 1, 801, dtype=torch.float64)

    def held(of: Mapping) -> torch.Tensor:
        return of.conductances(weight, G_MAX)["conductance_us"]

    for axes, of in ((pair, Mapping(g_min_us=2.0)), (levels, Mapping(levels=5))):
        plus, minus = held(of)[0]
        axes.plot(weight, plus, color=BLUE)
        axes.plot(weight, minus, color=ORANGE)
        label(axes, 0.5, 20 if axes is levels else 17.5, "g⁺", BLUE, "left")
        label(axes, -0.5, 20 if axes is levels else 17.5, "g⁻", ORANGE, "right")
    single.plot(weight, held(Mapping(pair=False))[0, 0], color=GREEN)
    label(single, 0, 12.5, "g", GREEN, "left", 8)
    low, high = held(Mapping(levels=3, slices=2))[:, 0]
    slices.plot(weight, low, color=GREY, lw=0.9)
    slices.plot(weight, high, color=BLUE)
    label(slices, 0.0, 27.6, "g⁺ of the high digit,", BLUE, points=0)
    label(slices, 0.74, 27.6, "low digit", GREY, points=0)
    slices.set_xlim(-0.05, 1.05)
    for axes in (pair, single, levels, slices):
        axes.set_xlabel("weight")
        axes.set_ylim(-0.8, 30)
    pair.set_ylabel("target (µS)")
    return figure


def mapping_error() -> Figure:
    """Error of the weights on phase-change devices, just programmed, by mapping."""
    figure, (axes,) = panels("error of the weights on phase-change devices, just programmed", height=2.3)
    weight = layer_weights()
    for row, of in enumerate(LAYOUTS.values()):
        errors = reading(PCM(mapping=of), weight) - weight
        size = 100 * float(errors.square().mean().sqrt())
        axes.plot([0, size], [-row, -row], color=BLUE, lw=1, alpha=0.5)
        axes.plot(size, -row, "o", color=BLUE, ms=5)
        label(axes, size, -row, f"{size:.2f} %", BLUE, points=6)
    axes.set_yticks([-row for row in range(len(LAYOUTS))], list(LAYOUTS))
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 9)
    axes.set_ylim(-len(LAYOUTS) + 0.4, 0.6)
    axes.set_xlabel("root mean square of the error (% of the largest weight)")
    return figure
