"""All chips of the catalogue on one scale."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmarks.chips.samples import error_size
from benchmarks.chips.style import BLUE, DAY, GREY, ORANGE, note, panels
from samson.noise import PRESETS, DeviceNoise


def overview() -> Figure:
    """Size of the errors of the same weights on each chip, fresh and a day later."""
    figure, (axes,) = panels("error of normal weights, root mean square", height=0.7 + 0.27 * len(PRESETS))
    sizes = {name: 100 * error_size(chip.noise) for name, chip in PRESETS.items()}
    order = sorted(sizes, key=lambda name: sizes[name])
    for row, name in enumerate(order):
        noise = PRESETS[name].noise
        ends = [sizes[name]]
        if isinstance(noise, DeviceNoise):
            ends.append(100 * error_size(noise, DAY))
            axes.plot(ends, [row, row], color=GREY, lw=0.8)
            axes.plot(ends[1], row, "o", color=ORANGE, ms=5)
        axes.plot(ends[0], row, "o", color=BLUE, ms=5)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 30)
    axes.set_xticks([0.1, 0.3, 1, 3, 10, 30], ["0.1", "0.3", "1", "3", "10", "30"])
    axes.set_xlabel("% of the largest weight")
    note(axes, 0.98, 0.2, "as first read", BLUE, ha="right")
    note(axes, 0.98, 0.08, "a day later", ORANGE, ha="right")
    return figure
