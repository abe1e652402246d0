"""What plots have in common: plain dictionaries of plotly, which the page's script and `plotly.graph_objects` draw.

Plotly's own objects check every value that is set, which takes longer than all statistics of a report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samson._errors import installing
from samson._times import age_text
from samson.records import Interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Plot = dict[str, Any]
"""`data`, a list of traces, and `layout`: what `plotly.graph_objects.Figure(plot)` takes."""

BASELINE_COLOUR = "#6b7280"
PALETTE = ("#a35505", "#009e73", "#2f9ae6", "#cc79a7", "#ee6123", "#0072b2")
"""Close to Okabe and Ito's colours, which colour-blind readers tell apart, and seen on white and on dark; the baseline
is grey."""

_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross")

GREY_DOTS = {"color": BASELINE_COLOUR, "width": 1.5, "dash": "dot"}
"""The line of a value that others are compared to."""

_AGES = (1.0, 60.0, 3600.0, 86_400.0, 30 * 86_400.0, 365 * 86_400.0, 10 * 365 * 86_400.0)
"""Times that a person knows, in seconds: ticks of an axis."""

_AXIS = {"gridcolor": "#e8edf4", "zerolinecolor": "#e8edf4", "automargin": True}
_MARGIN = {"l": 64, "r": 16, "t": 16, "b": 56}
_LAYOUT = {
    "template": {
        "layout": {"plot_bgcolor": "#fff", "xaxis": _AXIS, "yaxis": _AXIS, "autotypenumbers": "strict"}
    },  # plotly's own are large
    "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 14, "color": "#1f2937"},
    "height": 460,
    "legend": {"itemsizing": "constant", "y": 0.5, "yanchor": "middle"},
    "hoverlabel": {"font": {"size": 13}},
}


def plot(
    data: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], *, top: int = 16, **layout: Any
) -> Plot:
    """A plot of traces.

    Args:
        data: The traces.
        x: The x-axis, of `axis`.
        y: The y-axis.
        top: The margin above, in pixels.
        layout: More of the layout, by plotly's names.
    """
    return {"data": data, "layout": _LAYOUT | {"margin": _MARGIN | {"t": top}, "xaxis": x, "yaxis": y} | layout}


def figure_of(plot: Plot) -> Figure:
    """The plot as plotly's own object.

    Raises:
        ImportError: If plotly, of the extra `cli`, is missing.
    """
    try:
        from plotly.graph_objects import Figure
    except ImportError as error:
        raise ImportError(f"A figure needs plotly: {installing('cli')}.") from error
    return Figure(plot)


def axis(title: str, **style: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {"title": {"text": title}, "zeroline": False, **style}


def age_places(seconds: Sequence[float]) -> list[float]:
    """Where times ≥ 0 stand on an axis of powers of ten; 0, which has no power, is one to the left of all others."""
    left = min((math.log10(time) for time in seconds if time), default=1.0) - 1
    return [math.log10(time) if time else left for time in seconds]


def age_axis(low: float, high: float) -> dict[str, Any]:
    """The settings of a logarithmic axis from one time to another: ticks at times that a person knows."""
    ticks = [tick for tick in _AGES if low <= tick <= high] or [low, high]
    return {"type": "log", "title": {"text": "Age"}, "tickvals": ticks, "ticktext": [age_text(tick) for tick in ticks]}


def horizontal(y: float, **line: Any) -> dict[str, Any]:
    """A line across the whole plot, one of its `shapes`."""
    return {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y, "line": line}


def vertical(x: float, **line: Any) -> dict[str, Any]:
    """A line from the bottom to the top."""
    return {"type": "line", "xref": "x", "x0": x, "x1": x, "yref": "y domain", "y0": 0, "y1": 1, "line": line}


def stripe(low: float, high: float, colour: str, opacity: float) -> dict[str, Any]:
    """A stripe from the bottom to the top, behind the traces."""
    ends = {"xref": "x", "x0": low, "x1": high, "yref": "y domain", "y0": 0, "y1": 1}
    return {"type": "rect", **ends, "fillcolor": transparent(colour, opacity), "line": {"width": 0}, "layer": "below"}


def under_line(y: float, text: str, side: str) -> dict[str, Any]:
    """What a horizontal line is, under its "left" or "right" end; one of a plot's `annotations`."""
    place = {"xref": "x domain", "x": int(side == "right"), "xanchor": side, "yref": "y", "y": y, "yanchor": "top"}
    return {"text": text, "showarrow": False, "xshift": 6 if side == "left" else -6, **place}


def above() -> dict[str, Any]:
    """A legend above the plot, which then has a margin of 56 pixels there."""
    return {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def menu(buttons: Iterable[tuple[str, list[Any]]], shown: int, y: float) -> list[dict[str, Any]]:
    """Buttons that change traces and layout, each by its name with what `Plotly.update` takes, at a height."""
    listed = [{"label": label, "method": "update", "args": args} for label, args in buttons]
    place = {"x": 0, "xanchor": "left", "y": y, "yanchor": "middle"}
    return [{"type": "buttons", "direction": "right", "buttons": listed, "active": shown, **place}]


def error_bars(found: Sequence[Interval], scale: float = 1.0, **style: Any) -> dict[str, Any]:
    """What plotly calls errors: from each mean to the ends of its interval, all multiplied by `scale`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (interval.high - interval.mean) for interval in found],
        "arrayminus": [scale * (interval.mean - interval.low) for interval in found],
        **style,
    }


def colours(methods: Sequence[str], baseline: str) -> dict[str, str]:
    """A colour for each method, by its place."""
    others = [method for method in methods if method != baseline]
    return {baseline: BASELINE_COLOUR} | {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(others)}


def dashes(palette: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The dash of each method's line and the symbol of its markers: where methods share a colour, these differ."""
    seen, found = Counter[str](), {}
    for method, colour in palette.items():
        turn = seen[colour]
        seen[colour] += 1
        found[method] = (_DASHES[turn % len(_DASHES)], _SYMBOLS[turn % len(_SYMBOLS)])
    return found


def transparent(colour: str, opacity: float = 0.18) -> str:
    """A colour that lets what lies behind it through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
