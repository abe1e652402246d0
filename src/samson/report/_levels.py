"""What pages of one model have in common: every chip and the mean over chips, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samson.records import Measured
from samson.report._plot import PALETTE, error_bars

COLOUR = PALETTE[5]


def chips_and_means(
    places: Sequence[float | str | None], rows: Sequence[Measured], scale: float
) -> list[dict[str, Any]]:
    """Traces of each row's chips as dots, and of the means with their intervals, each row at its place.

    Args:
        places: Where on the x-axis.
        rows: What was measured.
        scale: By what values are multiplied, 100 for percent.
    """
    dots = {
        "type": "scatter",
        "x": [place for place, row in zip(places, rows, strict=True) for _ in row.trials],
        "y": [scale * value for row in rows for value in row.trials],
        "text": [f"chip {number}" for row in rows for number in range(len(row.trials))],
        "mode": "markers",
        "marker": {"color": COLOUR, "size": 5, "opacity": 0.25},
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
