"""The pictures of `docs/evidence.md`: how much better than plain training each method is, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from samson.records import Interval
from samson.statistics import mean_interval

ROW, LEFT, PANEL, GAP, TOP, BOTTOM = 20, 150, 230, 24, 44, 34
INK, GRID, COLOURS = "#222", "#ddd", ("#0072b2", "#d55e00", "#009e73")

Gains = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""By method and panel: how much better than plain, for each seed, in the unit that is shown."""


def picture(title: str, unit: str, gains: Gains) -> str:
    """An SVG with a row for each method, in the order given, and a panel beside the other for each kind of chips."""
    panels = list(next(iter(gains.values())))
    width = LEFT + len(panels) * (PANEL + GAP)
    height = TOP + ROW * len(gains) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>',
        *(
            f'<text x="{LEFT - 8}" y="{_middle(row) + 4}" text-anchor="end">{escape(method)}</text>'
            for row, method in enumerate(gains)
        ),
    ]
    for place, (name, colour) in enumerate(zip(panels, COLOURS, strict=True)):
        found = [mean_interval(of[name].tolist()) for of in gains.values()]
        parts += _panel(LEFT + place * (PANEL + GAP), f"{name}, {unit}", found, colour, height - BOTTOM)
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: float, name: str, found: Sequence[Interval], colour: str, bottom: float) -> list[str]:
    low, high = min(0.0, *(i.low for i in found)), max(0.0, *(i.high for i in found))
    step = _step((high - low) / 4)
    ticks = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)

    def x(value: float) -> float:
        return float(left + PANEL * (value - ticks[0]) / (ticks[-1] - ticks[0]))

    parts = [f'<text x="{left}" y="{TOP - 10}" fill="{colour}">{escape(name)}</text>']
    for tick in ticks:
        stroke = INK if abs(tick) < step / 2 else GRID
        parts += [
            f'<line x1="{x(tick):.1f}" y1="{TOP}" x2="{x(tick):.1f}" y2="{bottom}" stroke="{stroke}"/>',
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:+.3g}</text>',
        ]
    for row, interval in enumerate(found):
        y = _middle(row)
        parts += [
            f'<line x1="{x(interval.low):.1f}" y1="{y}" x2="{x(interval.high):.1f}" y2="{y}" stroke="{colour}" '
            'stroke-width="2"/>',
            f'<circle cx="{x(interval.mean):.1f}" cy="{y}" r="4" fill="{colour}"/>',
        ]
    return parts


def _middle(row: int) -> float:
    return TOP + ROW * row + ROW / 2


def _step(at_least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is as large."""
    power = 10.0 ** np.floor(np.log10(max(at_least, 1e-9)))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= at_least * 0.999))
