"""The pictures of the evidence: gains over plain training, and curves over noise levels, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from samson.records import Interval

ROW, LEFT, PANEL, GAP, TOP, BOTTOM = 20, 160, 220, 40, 44, 34
ABREAST = 3
"""Panels side by side."""
INK, GRID = "#222", "#ddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777", "#a05a2c", "#5b3fa0")

DASHES = {"": "6 3", "clip": "none", "learned-range": "1 3"}
"""Of a curve, by what is added to the rule."""

Panels = Mapping[str, Mapping[str, Interval]]
"""By the name of a panel with its unit: an interval for each method, by its name; a method may be missing."""


def picture(title: str, panels: Panels) -> str:
    """An SVG with a row for each method, in the order of the first panel, and panels beside and below each other."""
    methods = list(dict.fromkeys(method for panel in panels.values() for method in panel))
    down = TOP + ROW * len(methods) + BOTTOM
    across = min(ABREAST, len(panels))
    parts: list[str] = []
    for place, (name, found) in enumerate(panels.items()):
        column, top = place % ABREAST, place // ABREAST * down + TOP
        left, bottom, colour = LEFT + column * (PANEL + GAP), top + ROW * len(methods), COLOURS[place % len(COLOURS)]
        low, high = min(0.0, *(i.low for i in found.values())), max(0.0, *(i.high for i in found.values()))
        ticks = _ticks(low, high)
        x = _scale(ticks, left, left + PANEL)
        if not column:
            parts += [
                f'<text x="{LEFT - 8}" y="{top + ROW * row + ROW / 2 + 4}" text-anchor="end">{escape(method)}</text>'
                for row, method in enumerate(methods)
            ]
        parts.append(f'<text x="{left}" y="{top - 10}" fill="{colour}">{escape(name)}</text>')
        for tick in ticks:
            stroke = INK if abs(tick) < 1e-9 else GRID
            parts += [
                f'<line x1="{x(tick):.1f}" y1="{top}" x2="{x(tick):.1f}" y2="{bottom}" stroke="{stroke}"/>',
                f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:+.3g}</text>',
            ]
        for method, interval in found.items():
            y = top + ROW * methods.index(method) + ROW / 2
            parts += [
                f'<line x1="{x(interval.low):.1f}" y1="{y}" x2="{x(interval.high):.1f}" y2="{y}" stroke="{colour}" '
                'stroke-width="2"/>',
                f'<circle cx="{x(interval.mean):.1f}" cy="{y}" r="4" fill="{colour}"/>',
            ]
    return _svg(title, LEFT + across * (PANEL + GAP), -(-len(panels) // ABREAST) * down, parts)


def curves(title: str, axis: str, levels: Sequence[float], found: Mapping[str, Sequence[Interval]]) -> str:
    """An SVG of each method's value over noise levels; its place at the right says the order at the last level.

    A colour is a rule, with clipping and without.
    """
    width, height, right = 640, 360, 480
    every = [interval for of in found.values() for interval in of]
    ticks = _ticks(min(i.low for i in every), max(i.high for i in every))
    x, y = _scale(levels, LEFT / 2, right), _scale(ticks, height - BOTTOM, TOP)
    parts = [f'<text x="{LEFT / 2}" y="{height - 4}">{escape(axis)}</text>']
    for tick in ticks:
        parts += [
            f'<line x1="{LEFT / 2}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}" stroke="{GRID}"/>',
            f'<text x="{LEFT / 2 - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>',
        ]
    parts += [
        f'<text x="{x(level):.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{level:g}</text>' for level in levels
    ]
    last, rules = -np.inf, list(dict.fromkeys(_in_parts(method)[0] for method in found))
    for method, of in sorted(found.items(), key=lambda one: y(one[1][-1].mean)):
        rule, addition = _in_parts(method)
        colour = COLOURS[rules.index(rule)]
        points = " ".join(f"{x(level):.1f},{y(interval.mean):.1f}" for level, interval in zip(levels, of, strict=True))
        last = max(last + 13, y(of[-1].mean))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{DASHES[addition]}"/>',
            *(
                f'<line x1="{x(level):.1f}" y1="{y(i.low):.1f}" x2="{x(level):.1f}" y2="{y(i.high):.1f}" '
                f'stroke="{colour}"/>'
                for level, i in zip(levels, of, strict=True)
            ),
            f'<text x="{right + 10}" y="{last + 4:.1f}" fill="{colour}">{escape(method)}</text>',
        ]
    return _svg(title, width, height, parts)


def _in_parts(method: str) -> tuple[str, str]:
    """A method's rule, and what is added to it: clipping alone is added to plain training."""
    rule, _, addition = method.partition("+")
    return ("plain", rule) if rule == "clip" else (rule, addition)


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="11" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="8" y="16" font-size="13">{escape(title)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _scale(ticks: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    return lambda value: float(start + (end - start) * (value - ticks[0]) / (ticks[-1] - ticks[0]))


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, some six of them, that hold the range."""
    at_least = max((high - low) / 5, 1e-9)
    power = 10.0 ** np.floor(np.log10(at_least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= at_least * 0.999)
    return [float(step * tick) for tick in range(int(np.floor(low / step)), int(np.ceil(high / step)) + 1)]
