"""Plots as pure functions of records and summary rows, made with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from samson.records import Interval, RunRecord
from samson.report._summary import SummaryRow
from samson.report._tables import by_method

BASELINE_COLOUR = "#6b7280"
PALETTE = ("#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#d55e00", "#0072b2", "#7a5195", "#a6761d", "#1b9e77")
"""Okabe and Ito's colours, which colour-blind readers tell apart, and a few more; the baseline is grey."""

LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
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


def robustness_figure(rows: Sequence[SummaryRow], baseline: str) -> go.Figure:
    """Accuracy against noise level: a line and a 95 % band for each method, a thin line for each training seed."""
    figure = go.Figure()
    table = by_method(rows)
    palette = colours(list(table), baseline)
    for method, of_method in table.items():
        colour = palette[method]
        _band(figure, method, colour, {level: row.accuracy for level, row in of_method.items()})
        for seed in sorted({seed for row in of_method.values() for seed in row.by_seed}):
            seen = {level: row.by_seed[seed] for level, row in of_method.items() if seed in row.by_seed}
            figure.add_scatter(
                x=list(seen),
                y=[100 * value for value in seen.values()],
                mode="lines",
                line={"color": colour, "width": 0.8},
                opacity=0.45,
                legendgroup=method,
                showlegend=False,
                hoverinfo="skip",
            )
    return _axes(figure, rows, "Test accuracy (%)")


def gain_figure(rows: Sequence[SummaryRow], baseline: str) -> go.Figure:
    """Paired difference to the baseline on the same chips, in percentage points, with 95 % bands."""
    figure = go.Figure()
    table = by_method(rows)
    palette = colours(list(table), baseline)
    for method, of_method in table.items():
        gains = {level: row.gain for level, row in of_method.items() if row.gain is not None}
        if gains:
            _band(figure, method, palette[method], gains)
    figure.add_hline(y=0, line={"color": BASELINE_COLOUR, "width": 2, "dash": "dot"})
    return _axes(figure, rows, f"Points above {baseline}")


def chips_figure(records: Sequence[RunRecord], baseline: str) -> go.Figure:
    """Every trial: one dot a chip and network, method by method, with buttons for the noise level."""
    plan = records[0].configuration
    records = [record for record in records if record.levels]  # none of a training that diverged
    methods = [method for method in plan.methods if any(record.method == method for record in records)]
    palette = colours(methods, baseline)
    noisy = [(i, level) for i, level in enumerate(plan.levels) if level]
    shown = noisy[max(len(noisy) - 2, 0)][0]
    figure = go.Figure()
    for number, _ in noisy:
        for method in methods:
            figure.add_box(
                y=[100 * a for r in records if r.method == method for a in r.levels[number].accuracies],
                text=[
                    f"seed {r.seed}, chip {chip}"
                    for r in records
                    if r.method == method
                    for chip in range(len(r.levels[number].accuracies))
                ],
                name=method,
                boxpoints="all",
                pointpos=0,
                jitter=0.6,
                marker={"color": palette[method], "size": 5, "opacity": 0.55},
                line={"width": 1.2},
                fillcolor="rgba(0,0,0,0)",
                hovertemplate="%{text}: %{y:.1f} %<extra>" + method + "</extra>",
                visible=number == shown,
            )
    buttons = [
        {
            "label": f"{level:g}",
            "method": "update",
            "args": [{"visible": [number == other for other, _ in noisy for _ in methods]}],
        }
        for number, level in noisy
    ]
    figure.update_layout(
        **LAYOUT | {"showlegend": False, "margin": LAYOUT["margin"] | {"t": 64}},
        yaxis={"title": "Test accuracy (%)", "rangemode": "normal", "zeroline": False},
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "buttons": buttons,
                "active": [number for number, _ in noisy].index(shown),
                "x": 0.11,
                "xanchor": "left",
                "y": 1.14,
                "yanchor": "middle",
                "showactive": True,
            }
        ],
        annotations=[
            {
                "text": "Noise level",
                "x": 0,
                "y": 1.14,
                "xref": "paper",
                "yref": "paper",
                "showarrow": False,
                "xanchor": "left",
                "yanchor": "middle",
            }
        ],
    )
    return figure


def _band(figure: go.Figure, method: str, colour: str, estimates: dict[float, Interval]) -> None:
    levels = list(estimates)
    low = [100 * estimate.low for estimate in estimates.values()]
    high = [100 * estimate.high for estimate in estimates.values()]
    figure.add_scatter(
        x=[*levels, *reversed(levels)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=transparent(colour),
        mode="lines",
        line={"width": 0},
        legendgroup=method,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=levels,
        y=[100 * estimate.mean for estimate in estimates.values()],
        customdata=list(zip(low, high, strict=True)),
        name=method,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 7},
        legendgroup=method,
        hovertemplate="%{y:.1f} [%{customdata[0]:.1f}, %{customdata[1]:.1f}]",
    )


def _axes(figure: go.Figure, rows: Sequence[SummaryRow], title: str) -> go.Figure:
    levels = sorted({row.level for row in rows})
    figure.update_layout(**LAYOUT, hovermode="x unified")
    figure.update_xaxes(title=f"Noise level ({rows[0].noise})", tickvals=levels, ticktext=[f"{x:g}" for x in levels])
    figure.update_yaxes(title=title, zeroline=False)
    return figure


def transparent(colour: str, opacity: float = 0.18) -> str:
    """A colour that lets what lies behind it through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
