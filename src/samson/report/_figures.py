"""The plots of a comparison, as pure functions of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from samson.records import Interval
from samson.report._advice import Choice
from samson.report._html import scale_of
from samson.report._levels import level_note
from samson.report._plot import (
    BASELINE_COLOUR,
    GREY_DOTS,
    Plot,
    age_places,
    axis,
    dashes,
    horizontal,
    menu,
    plot,
    transparent,
    under_line,
)
from samson.report._summary import View
from samson.report._tables import clean_value, unit_of

TOLERANCE = 0.05
"""How much worse than the baseline without noise holds its own: points of a fraction, a share of the rest."""

MANY = 8
"""Of more methods, bands and thin lines would hide each other."""


def in_full(view: View) -> list[str]:
    """The methods with bands and thin lines: all, or of many the baseline, the best and the one to take."""
    methods = list(view.table)
    if len(methods) <= MANY:
        return methods
    choice = Choice([view])
    return [method for method in methods if method in (choice.best, choice.taken, choice.base)]


def allowed_drop(view: View) -> float:
    """How much worse than the baseline without noise a method may be."""
    return TOLERANCE * (1 if view.problem.is_fraction else abs(clean_value(view, view.baseline)))


def tolerance_text(view: View) -> str:
    """The same in words: points of a fraction, else a share."""
    return f"{100 * TOLERANCE:g} {'points' if view.problem.is_fraction else '%'}"


def robustness_figure(view: View) -> Plot:
    """The metric against the kind of chip: a line and a 95 % band for each method, a thin line for each seed.

    Of many methods, only those that matter most have bands and thin lines (`in_full`).
    """
    data, full, looks = [], in_full(view), dashes(view.palette)
    palette, scale, of_kind = view.palette, scale_of(view.problem), places(view)
    for method, of_method in view.table.items():
        data += _band(view, method, {kind: row.value for kind, row in of_method.items()}, method in full)
        for seed in sorted({seed for row in of_method.values() for seed in row.by_seed} if method in full else ()):
            seen = {kind: row.by_seed[seed] for kind, row in of_method.items() if seed in row.by_seed}
            data.append(
                {
                    "type": "scatter",
                    "x": [of_kind[kind] for kind in seen],
                    "y": [scale * value for value in seen.values()],
                    "mode": "lines",
                    "line": {"color": palette[method], "width": 0.8, "dash": looks[method][0]},
                    "opacity": 0.45,
                    "legendgroup": method,
                    "showlegend": False,
                    "hoverinfo": "skip",
                }
            )
    drop = scale * allowed_drop(view) * (1 if view.problem.higher_is_better else -1)
    limit = scale * clean_value(view, view.baseline) - drop
    text = f"{tolerance_text(view)} {'below' if drop > 0 else 'above'} {view.baseline} without noise"
    lines = {"shapes": [horizontal(limit, **GREY_DOTS)], "annotations": [under_line(limit, text, "left")]}
    return _by_kind(view, data, unit_of(view), **lines)


def gain_figure(view: View, full: Sequence[str] | None = None) -> Plot:
    """Paired gain over the baseline on the same chips; positive is better.

    Args:
        view: The view.
        full: The methods with 95 % bands; None is those that matter most (`in_full`).
    """
    data, full = [], in_full(view) if full is None else full
    for method, of_method in view.table.items():
        gains = {kind: row.gain for kind, row in of_method.items() if row.gain is not None}
        if gains:
            data += _band(view, method, gains, method in full)
    zero = horizontal(0, color=BASELINE_COLOUR, width=2, dash="dot")
    return _by_kind(view, data, gain_title(view), shapes=[zero])


def chips_figure(view: View) -> Plot:
    """Every trial: one dot a chip and network, method by method, with buttons for the kind of chip."""
    methods, scale = list(view.table), scale_of(view.problem)
    palette = view.palette
    family = view.records[0].families.index(view.family)
    kinds = view.kinds[1:]
    shown = max(len(kinds) - 2, 0)
    data = []
    for number in range(len(kinds)):
        for method in methods:
            runs = {r.seed: r.measured[family][number] for r in view.records if r.method == method and r.measured}
            data.append(
                {
                    "type": "box",
                    "y": [scale * value for of_run in runs.values() for value in of_run],
                    "text": [
                        f"seed {seed}, chip {chip}" for seed, of_run in runs.items() for chip in range(len(of_run))
                    ],
                    "name": method,
                    "meta": kinds[number],
                    "boxpoints": "all",
                    "pointpos": 0,
                    "jitter": 0.6,
                    "marker": {"color": palette[method], "size": 5, "opacity": 0.55},
                    "line": {"width": 1.2},
                    "fillcolor": "rgba(0,0,0,0)",
                    "hovertemplate": "%{text}: %{y:.4g}<extra>" + method + "</extra>",
                    "visible": number == shown,
                }
            )
    buttons = (
        (kind, [{"visible": [number == other for other in range(len(kinds)) for _ in methods]}])
        for number, kind in enumerate(kinds)
    )
    y = axis(unit_of(view), rangemode="normal")
    return plot(data, {}, y, top=64, showlegend=False, updatemenus=menu(buttons, shown, 1.14))


def training_figure(view: View) -> Plot:
    """The training loss of every epoch: the mean over a method's networks, and a thin line for each of them."""
    data = []
    looks, full, longest = dashes(view.palette), in_full(view), 0
    for method in view.table:
        losses = [r.training.loss for r in view.records if r.method == method and r.measured]
        epochs = max(map(len, losses), default=0)  # a trainer of one's own may end early
        longest = max(longest, epochs)
        means = [fmean(line[epoch] for line in losses if epoch < len(line)) for epoch in range(epochs)]
        for number, line in enumerate([means, *losses] if method in full else [means]):
            data.append(
                {
                    "type": "scatter",
                    "x": list(range(1, len(line) + 1)),
                    "y": [float(f"{loss:.5g}") for loss in line],
                    "name": method,
                    "mode": "lines",
                    "line": {
                        "color": view.palette[method],
                        "width": 0.8 if number else 2.5,
                        "dash": looks[method][0],
                    },
                    "opacity": 0.45 if number else 1,
                    "legendgroup": method,
                    "showlegend": number == 0,
                    **({"hoverinfo": "skip"} if number else {"hovertemplate": "%{y:.4g}"}),
                }
            )
    ticks = {"dtick": 1} if longest < 10 else {}  # else plotly's own are whole numbers
    return plot(data, axis("Epoch", **ticks), axis("Training loss"), hovermode="x unified")


def gain_title(view: View) -> str:
    """What a gain is, as an axis says it."""
    return f"{'Points' if view.problem.is_fraction else 'Gain'} over {view.baseline}"


def axis_title(view: View) -> str:
    """What the kinds are, as an axis says it."""
    what = {"level": "Noise level", "bit error rate": "Bit error rate", "s": "Age"}.get(view.family.unit, "Chip")
    return f"{what} ({view.family.name})"


def places(view: View) -> dict[str, float]:
    """Where kinds stand on the axis: rising levels in proportion, times by their power of ten, all else in line."""
    levels = [kind.level for kind in view.family.kinds]
    known = [level for level in levels if level is not None]
    times = [time for kind in view.family.kinds if (time := kind.time_s) is not None]
    if view.family.unit == "s" and len(times) == len(levels):
        places = age_places(times)
        return dict(zip(view.kinds, [min(places) - 1, *places], strict=True))
    if view.family.unit == "level" and levels == sorted(known):
        return dict(zip(view.kinds, [0.0, *known], strict=True))
    return {kind: float(place) for place, kind in enumerate(view.kinds)}


def on_axes(view: View, estimates: Mapping[str, Interval]) -> tuple[list[float], ...]:
    """Where estimates by kind stand on the x-axis; and, as the y-axis has them, low ends, means and high ends."""
    of_kind, scale = places(view), scale_of(view.problem)
    ends = ([scale * getattr(one, end) for one in estimates.values()] for end in ("low", "mean", "high"))
    return [of_kind[kind] for kind in estimates], *ends


def _band(view: View, method: str, estimates: dict[str, Interval], full: bool) -> list[dict[str, Any]]:
    """A line through the means of intervals and, in full, a band from end to end behind it."""
    colour, (dash, symbol) = view.palette[method], dashes(view.palette)[method]
    shown = f".{view.digits}f"
    x, low, mean, high = on_axes(view, estimates)
    band = {
        "type": "scatter",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": transparent(colour),
        "mode": "lines",
        "line": {"width": 0},
        "legendgroup": method,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    line = {
        "type": "scatter",
        "x": x,
        "y": mean,
        "customdata": list(zip(low, high, strict=True)),
        "name": method,
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2.5, "dash": dash},
        "marker": {"size": 7, "symbol": symbol},
        "legendgroup": method,
        "hovertemplate": f"%{{y:{shown}}} [%{{customdata[0]:{shown}}}, %{{customdata[1]:{shown}}}]",
    }
    return [band, line] if full else [line]


def _by_kind(view: View, data: list[dict[str, Any]], title: str, **layout: Any) -> Plot:
    texts = ["without<br>noise", *(kind.rpartition(":")[2] for kind in view.kinds[1:])]  # of MODULE:FUNCTION
    note = level_note(view.family.kinds)
    x = axis(axis_title(view) + note, tickvals=list(places(view).values()), ticktext=texts)
    return plot(data, x, axis(title), hovermode="x unified", **layout)
