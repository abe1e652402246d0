"""One look for all pictures: colours, axes, labels on the lines, and the same bytes from run to run."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, GREY, PALE = "#1f2937", "#6b7280", "#d1d5db"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Okabe and Ito's colours, which colour-blind readers tell apart."""
BLUES = ("#0b3c5d", "#0072b2", "#3d9bd1", "#5faeda")
"""From a large value to a small one."""
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#f8fafc", ORANGE])
"""For a matrix of values around zero."""

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "samson",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
}
WIDTH = 8.6
"""Inches of every picture."""

SECOND, HOUR, DAY, YEAR = 1.0, 3_600.0, 86_400.0, 365 * 86_400.0
TIMES = {SECOND: "1 s", HOUR: "1 h", DAY: "1 day", YEAR: "1 year"}


def svg(picture: Callable[[], Figure]) -> bytes:
    """Draw a picture in this style; two runs give the same bytes on one machine."""
    with matplotlib.rc_context(STYLE):
        buffer = io.BytesIO()
        picture().savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def panels(*titles: str, height: float = 2.7, **options: Any) -> tuple[Figure, list[Axes]]:
    """A row of axes with a title each."""
    figure = Figure(figsize=(WIDTH, height))
    axes = list(figure.subplots(1, len(titles), squeeze=False, **options).flat)
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title)
    return figure, axes


def label(axes: Axes, x: float, y: float, text: str, colour: str, at: str = "right", points: float = 4) -> None:
    """Name a line beside the point (x, y): on its "right", "left", "above" or "below"."""
    dx, dy = {"right": (1, 0), "left": (-1, 0), "above": (0, 1), "below": (0, -1)}[at]
    axes.annotate(
        text,
        (x, y),
        (dx * points, dy * points),
        textcoords="offset points",
        ha={1: "left", -1: "right", 0: "center"}[dx],
        va={1: "bottom", -1: "top", 0: "center"}[dy],
        color=colour,
        fontsize=8,
        annotation_clip=False,
    )


def note(axes: Axes, x: float, y: float, text: str, colour: str, **options: Any) -> None:
    """Text at a place given as a share of the axes."""
    axes.text(x, y, text, transform=axes.transAxes, color=colour, fontsize=8, **options)


def over_time(axes: Axes, *shown: float, high: float) -> None:
    """A logarithmic axis of time with named ticks."""
    axes.set_xscale("log")
    axes.set_xticks(shown or list(TIMES), [TIMES[time_s] for time_s in shown or TIMES])
    axes.set_xlim(0.6, high)


def bars(axes: Axes, x: Any, y: Any, error: Any, colour: str, size: float = 3.2) -> None:
    """Measured points with ±2 standard errors."""
    axes.errorbar(x, y, yerr=2 * error, fmt="o", ms=size, color=colour, lw=1, mew=0, zorder=3)
