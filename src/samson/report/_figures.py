"""Plots as pure functions of records and summary rows, made with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from samson.records import Interval
from samson.report._ages import age_places, kind_text
from samson.report._summary import View
from samson.report._tables import digits_of, scale_of, unit_of

BASELINE_COLOUR = "#6b7280"
PALETTE = ("#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#d55e00", "#0072b2", "#7a5195", "#a6761d", "#1b9e77")
"""Okabe and Ito's colours, which colour-blind readers tell apart, and a few more; the baseline is grey."""

AXIS = {"gridcolor": "#e8edf4", "zerolinecolor": "#e8edf4", "automargin": True}

LAYOUT: dict[str, Any] = {
    "template": {"layout": {"plot_bgcolor": "#fff", "xaxis": AXIS, "yaxis": AXIS}},  # plotly's own are large
    "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 14, "color": "#1f2937"},
    "margin": {"l": 64, "r": 16, "t": 16, "b": 56},
    "height": 460,
    "legend": {"itemsizing": "constant", "y": 0.5, "yanchor": "middle"},
    "hoverlabel": {"font": {"size": 13}},
}


def colours(methods: Sequence[str], baseline: str) -> dict[str, str]:
    """A colour for each method, by its place."""
    others = [method for method in methods if method != baseline]
    return {baseline: BASELINE_COLOUR} | {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(others)}


def error_bars(found: Sequence[Interval], scale: float = 1.0, **style: Any) -> dict[str, Any]:
    """What plotly calls errors: from each mean to the ends of its interval, all multiplied by `scale`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (interval.high - interval.mean) for interval in found],
        "arrayminus": [scale * (interval.mean - interval.low) for interval in found],
        **style,
    }


def robustness_figure(view: View) -> go.Figure:
    """The metric against the kind of chip: a line and a 95 % band for each method, a thin line for each seed."""
    figure = go.Figure()
    palette, scale, of_kind = colours(list(view.table), view.baseline), scale_of(view), places(view)
    for method, of_method in view.table.items():
        _band(figure, view, method, palette[method], {kind: row.value for kind, row in of_method.items()})
        for seed in sorted({seed for row in of_method.values() for seed in row.by_seed}):
            seen = {kind: row.by_seed[seed] for kind, row in of_method.items() if seed in row.by_seed}
            figure.add_scatter(
                x=[of_kind[kind] for kind in seen],
                y=[scale * value for value in seen.values()],
                mode="lines",
                line={"color": palette[method], "width": 0.8},
                opacity=0.45,
                legendgroup=method,
                showlegend=False,
                hoverinfo="skip",
            )
    return _axes(figure, view, unit_of(view))


def gain_figure(view: View) -> go.Figure:
    """Paired gain over the baseline on the same chips, with 95 % bands; positive is better."""
    figure = go.Figure()
    palette = colours(list(view.table), view.baseline)
    for method, of_method in view.table.items():
        gains = {kind: row.gain for kind, row in of_method.items() if row.gain is not None}
        if gains:
            _band(figure, view, method, palette[method], gains)
    figure.add_hline(y=0, line={"color": BASELINE_COLOUR, "width": 2, "dash": "dot"})
    return _axes(figure, view, gain_title(view))


def chips_figure(view: View) -> go.Figure:
    """Every trial: one dot a chip and network, method by method, with buttons for the kind of chip."""
    methods, scale = list(view.table), scale_of(view)
    palette = colours(methods, view.baseline)
    family = view.records[0].families.index(view.family)
    kinds = view.kinds[1:]
    shown = max(len(kinds) - 2, 0)
    figure = go.Figure()
    for number in range(len(kinds)):
        for method in methods:
            runs = {r.seed: r.measured[family][number] for r in view.records if r.method == method and r.measured}
            figure.add_box(
                y=[scale * value for of_run in runs.values() for value in of_run],
                text=[f"seed {seed}, chip {chip}" for seed, of_run in runs.items() for chip in range(len(of_run))],
                name=method,
                meta=kinds[number],
                boxpoints="all",
                pointpos=0,
                jitter=0.6,
                marker={"color": palette[method], "size": 5, "opacity": 0.55},
                line={"width": 1.2},
                fillcolor="rgba(0,0,0,0)",
                hovertemplate="%{text}: %{y:.4g}<extra>" + method + "</extra>",
                visible=number == shown,
            )
    buttons = [
        {
            "label": kind,
            "method": "update",
            "args": [{"visible": [number == other for other in range(len(kinds)) for _ in methods]}],
        }
        for number, kind in enumerate(kinds)
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "active": shown, "showactive": True}
    figure.update_layout(
        **LAYOUT | {"showlegend": False, "margin": LAYOUT["margin"] | {"t": 64}},
        yaxis={"title": unit_of(view), "rangemode": "normal", "zeroline": False},
        updatemenus=[menu | {"x": 0, "xanchor": "left", "y": 1.14, "yanchor": "middle"}],
    )
    return figure


def training_figure(view: View) -> go.Figure:
    """The training loss of every epoch: the mean over a method's networks, and a thin line for each of them."""
    figure = go.Figure()
    palette = colours(list(view.table), view.baseline)
    for method in view.table:
        losses = [r.training.loss for r in view.records if r.method == method and r.measured]
        means = [sum(of_epoch) / len(of_epoch) for of_epoch in zip(*losses, strict=True)]
        for number, line in enumerate([means, *losses]):
            figure.add_scatter(
                x=list(range(1, len(line) + 1)),
                y=[float(f"{loss:.5g}") for loss in line],
                name=method,
                mode="lines",
                line={"color": palette[method], "width": 0.8 if number else 2.5},
                opacity=0.45 if number else 1,
                legendgroup=method,
                showlegend=number == 0,
                **{"hoverinfo": "skip"} if number else {"hovertemplate": "%{y:.4g}"},
            )
    figure.update_layout(**LAYOUT, hovermode="x unified")
    figure.update_xaxes(title="Epoch", zeroline=False)
    figure.update_yaxes(title="Training loss", zeroline=False)
    return figure


def gain_title(view: View) -> str:
    """What a gain is, as an axis says it."""
    return f"{'Points' if view.problem.is_fraction else 'Gain'} over {view.baseline}"


def axis_title(view: View) -> str:
    """What the kinds are, as an axis says it."""
    what = {"level": "Noise level", "bit error rate": "Bit error rate", "s": "Age"}.get(view.family.unit, "Chip")
    return f"{what} ({view.family.name})"


def places(view: View) -> dict[str, float]:
    """Where each kind stands on the axis: levels in proportion, times by their power of ten, all else side by side."""
    levels = [kind.level for kind in view.family.kinds]
    times = [time for kind in view.family.kinds if (time := kind.time_s) is not None]
    if view.family.unit == "s" and len(times) == len(levels):
        places = age_places(times)
        return dict(zip(view.kinds, [min(places) - 1, *places], strict=True))
    if view.family.unit == "level" and None not in levels:
        return dict(zip(view.kinds, [0.0, *(level for level in levels if level is not None)], strict=True))
    return {kind: float(place) for place, kind in enumerate(view.kinds)}


def _band(figure: go.Figure, view: View, method: str, colour: str, estimates: dict[str, Interval]) -> None:
    of_kind, scale = places(view), scale_of(view)
    x = [of_kind[kind] for kind in estimates]
    low = [scale * estimate.low for estimate in estimates.values()]
    high = [scale * estimate.high for estimate in estimates.values()]
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=transparent(colour),
        mode="lines",
        line={"width": 0},
        legendgroup=method,
        showlegend=False,
        hoverinfo="skip",
    )
    shown = f".{digits_of(view)}f"
    figure.add_scatter(
        x=x,
        y=[scale * estimate.mean for estimate in estimates.values()],
        customdata=list(zip(low, high, strict=True)),
        name=method,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 7},
        legendgroup=method,
        hovertemplate=f"%{{y:{shown}}} [%{{customdata[0]:{shown}}}, %{{customdata[1]:{shown}}}]",
    )


def _axes(figure: go.Figure, view: View, title: str) -> go.Figure:
    of_kind = places(view)
    texts = [view.kinds[0], *map(kind_text, view.family.kinds)]
    figure.update_layout(**LAYOUT, hovermode="x unified")
    figure.update_xaxes(title=axis_title(view), tickvals=list(of_kind.values()), ticktext=texts, zeroline=False)
    figure.update_yaxes(title=title, zeroline=False)
    return figure


def transparent(colour: str, opacity: float = 0.18) -> str:
    """A colour that lets what lies behind it through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
