"""What pages of one model have in common: every chip and the mean over chips, level by level."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from samson.records import ChipKind, Measured
from samson.report._plot import PALETTE, error_bars

COLOUR = PALETTE[5]
_GOLDEN = (math.sqrt(5) - 1) / 2


def level_note(kinds: Sequence[ChipKind]) -> str:
    """A second line of an axis of levels, if the noise says what a level is.

    Example:
        >>> level_note([ChipKind("0.1", "Gaussian(sigma=0.1, per='layer')", 0.1)])
        "<br>share of each layer's largest weight"
        >>> level_note([ChipKind("0.1", "mine(0.1)", 0.1)])
        ''
    """
    told = all(re.fullmatch(r"Gaussian\(sigma=[^,]+, per='layer'\)", kind.noise) for kind in kinds)
    return "<br>share of each layer's largest weight" if told else ""


def chips_and_means(
    places: Sequence[float], rows: Sequence[Measured], scale: float, *, log: bool = False
) -> list[dict[str, Any]]:
    """Traces of each row's chips as dots, and of the means with their intervals, each row at its place.

    The dots lie beside the intervals, by up to 1 % of the axis, a chip at every place alike; `meta` has their places.

    Args:
        places: Where on the x-axis.
        rows: What was measured.
        scale: By what values are multiplied, 100 for percent.
        log: Whether the x-axis is logarithmic.
    """
    every = [(place, chip) for place, row in zip(places, rows, strict=True) for chip in range(len(row.trials))]
    shown = [math.log10(place) if log else place for place in places]
    width = 0.02 * ((max(shown) - min(shown)) or 1.0)
    aside = [width * (chip * _GOLDEN % 1 - 0.5) for _, chip in every]
    dots = {
        "type": "scatter",
        "x": [place * 10**by if log else place + by for (place, _), by in zip(every, aside, strict=True)],
        "meta": [place for place, _ in every],
        "y": [scale * value for row in rows for value in row.trials],
        "text": [f"chip {chip}" for _, chip in every],
        "mode": "markers",
        "marker": {"color": COLOUR, "size": 5, "opacity": 0.35},
        "name": "every chip",
        "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
    }
    estimates = [row.interval for row in rows]
    means = {
        "type": "scatter",
        "x": places,
        "y": [scale * estimate.mean for estimate in estimates],
        "error_y": error_bars(estimates, scale),
        "customdata": [(row.kind.label, scale * row.interval.low, scale * row.interval.high) for row in rows],
        "mode": "lines+markers",
        "line": {"color": COLOUR, "width": 2.5},
        "name": "mean over chips",
        "hovertemplate": "%{customdata[0]}: %{y:.4g} [%{customdata[1]:.4g}, %{customdata[2]:.4g}]<extra></extra>",
    }
    return [dots, means]
