"""A view as a picture for papers and slides, made with matplotlib."""

from __future__ import annotations

import io
from typing import Any

from samson.records import Interval
from samson.report._figures import axis_title, gain_title, on_axes, places
from samson.report._plot import dashes
from samson.report._summary import View
from samson.report._tables import unit_of
from samson.statistics import CONFIDENCE

_DATES: dict[str, dict[str, None]] = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
"""What a file says of when it was made, left out: by format."""
FORMATS = tuple(_DATES)


def picture(view: View, form: str) -> bytes:
    """The metric by kind of chip, and the paired gain over the baseline beside it, with 95 % bands.

    Args:
        view: What is drawn.
        form: One of `FORMATS`.

    Raises:
        ModuleNotFoundError: If matplotlib, of the extra `docs`, is missing.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "samson", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        palette = view.palette
        for method, of_method in view.table.items():
            _line(left, view, method, {kind: row.over_seeds or row.value for kind, row in of_method.items()})
            gains = {kind: row.gain_over_seeds or row.gain for kind, row in of_method.items()}
            _line(right, view, method, {kind: gain for kind, gain in gains.items() if gain is not None})
        right.axhline(0, color=palette[view.baseline], linestyle=":")
        for axes, title in ((left, unit_of(view)), (right, gain_title(view))):
            axes.set_xticks(list(places(view).values()), ["without\nnoise", *view.kinds[1:]])
            axes.set(xlabel=axis_title(view), ylabel=title)
        several = any(row.over_seeds is not None for row in view.rows)
        bands = "over training seeds" if several else "over chips, of these networks"
        figure.supxlabel(f"Bands: {100 * CONFIDENCE:g} % {bands}", fontsize="small")
        figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=200, metadata=_DATES[form])
    return file.getvalue()


_DASHES = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashdot"}
_SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P"}
"""What plotly's dashes and symbols are called here."""


def _line(axes: Any, view: View, method: str, estimates: dict[str, Interval]) -> None:
    colour, (dash, symbol) = view.palette[method], dashes(view.palette)[method]
    x, low, mean, high = on_axes(view, estimates)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=_DASHES[dash], marker=_SYMBOLS[symbol], markersize=4, label=method)
