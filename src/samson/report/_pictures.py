"""A view as a picture for papers and slides, made with matplotlib."""

from __future__ import annotations

import io
from typing import Any

from samson.records import Interval
from samson.report._figures import axis_title, gain_title, places
from samson.report._summary import View
from samson.report._tables import scale_of, unit_of

FORMATS = ("svg", "png")


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
            _line(left, view, method, palette[method], {kind: row.value for kind, row in of_method.items()})
            gains = {kind: row.gain for kind, row in of_method.items() if row.gain is not None}
            _line(right, view, method, palette[method], gains)
        right.axhline(0, color=palette[view.baseline], linestyle=":")
        for axes, title in ((left, unit_of(view)), (right, gain_title(view))):
            axes.set_xticks(list(places(view).values()), ["without\nnoise", *view.kinds[1:]])
            axes.set(xlabel=axis_title(view), ylabel=title)
        figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=200, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _line(axes: Any, view: View, method: str, colour: str, estimates: dict[str, Interval]) -> None:
    scale, x = scale_of(view), [places(view)[kind] for kind in estimates]
    low, mean, high = ([scale * getattr(e, end) for e in estimates.values()] for end in ("low", "mean", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=colour, marker="o", markersize=4, label=method)
