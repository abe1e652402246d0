"""The page of a sensitivity analysis: layers by what noise on them costs, as plot and table."""

from __future__ import annotations

from html import escape

from samson._names import counted
from samson._shown import limit_text, not_all
from samson.records import Interval, SensitivityRecord
from samson.report._html import (
    capital,
    figure_div,
    html_table,
    interval_text,
    model_name,
    page,
    row_heading,
    scale_of,
    value_text,
)
from samson.report._plot import BASELINE_COLOUR, PALETTE, Plot, above, axis, error_bars, plot, vertical
from samson.report._subject import subject_table

ALONE_COLOUR, GAIN_COLOUR = PALETTE[4], PALETTE[1]
ALONE, GAIN = "worse with noise on this layer alone", "better if this layer alone is digital"


def sensitivity_page(record: SensitivityRecord) -> str:
    """Make the page's HTML; it opens offline."""
    return page(
        "sensitivity.html",
        kind="sensitivity of layers",
        title=escape(f"{model_name(record.subject.model)}: which layers make the {record.subject.metric} worse"),
        headline=headline(record),
        figure=figure_div(sensitivity_figure(record), "sensitivity"),
        table=sensitivity_table(record),
        suggestion=suggestion(record),
        what=subject_table(record.subject, [record.kind], f"{len(record.noisy)}, the same for every line"),
        unit=_unit(record),
        better="higher" if record.subject.higher_is_better else "lower",
        chips=len(record.noisy),
        confidence=f"{100 * record.subject.confidence:g} %",
        intervals=record.intervals,
        examples=_examples(record),
    )


def headline(record: SensitivityRecord) -> str:
    """What the record says in a sentence or two."""
    subject, noisy = record.subject, sum(record.noisy) / len(record.noisy)
    sentence = (
        f"{escape(capital(subject.metric))} {value_text(record.clean, subject)} without noise, "
        f"{value_text(noisy, subject)} with noise on all {len(record.rows)} layers. "
    )
    shown = [row for row in record.rows if row.drop.low > 0]
    if not shown:
        return sentence + "Noise on no layer alone is shown to make it worse."
    points = " points" if subject.is_fraction else ""
    return sentence + (
        f"Noise on one layer alone is shown to make it worse for {len(shown)} of them, "
        f"most for <b>{escape(shown[0].name)}</b>: by {value_text(shown[0].drop.mean, subject)}{points}."
    )


def sensitivity_figure(record: SensitivityRecord) -> Plot:
    """Drop and gain of each layer with their intervals, the most sensitive layer on top."""
    data = []
    names = [row.name for row in record.rows]
    scale = scale_of(record.subject)
    for name, colour, symbol, shift, estimates in (
        (ALONE, ALONE_COLOUR, "circle", -0.14, [row.drop for row in record.rows]),
        (GAIN, GAIN_COLOUR, "diamond", 0.14, [row.gain for row in record.rows]),
    ):
        data.append(
            {
                "type": "scatter",
                "x": [scale * estimate.mean for estimate in estimates],
                "y": [place + shift for place in range(len(names))],
                "text": names,
                "error_x": error_bars(estimates, scale, thickness=1.5),
                "customdata": [(scale * estimate.low, scale * estimate.high) for estimate in estimates],
                "name": name,
                "mode": "markers",
                "marker": {"color": colour, "size": 9, "symbol": symbol},
                "hovertemplate": "%{text}: %{x:.4g} [%{customdata[0]:.4g}, %{customdata[1]:.4g}]",
            }
        )
    drop = scale * record.drop.mean
    place = {"x": drop, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "top"}
    return plot(
        data,
        axis(f"{_unit(record)}, positive: worse with noise, or better if digital"),
        axis("", tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.9], automargin=True),
        top=56,
        height=170 + 36 * len(names),
        shapes=[
            vertical(0, color=BASELINE_COLOUR, width=1),
            vertical(drop, color=BASELINE_COLOUR, width=2, dash="dot"),
        ],
        annotations=[{"text": "noise on all", "showarrow": False, **place}],
        legend=above(),
    )


def sensitivity_table(record: SensitivityRecord) -> str:
    """One line a layer, the most sensitive first; coloured where an interval excludes zero."""
    digital = set(record.suggestion.digital if record.suggestion else ())
    total = sum(row.weights for row in record.rows)
    lines = []
    for rank, row in enumerate(record.rows, start=1):
        means = [value_text(sum(values) / len(values), record.subject) for values in (row.alone, row.others)]
        lines.append(
            f"<tr>{row_heading(f'{rank}. {row.name}')}<td>{row.weights:,}"
            f" ({100 * not_all(row.weights / total):.1f} %)</td><td>{means[0]}</td>{_cell(record, row.drop, -1)}"
            f"<td>{means[1]}</td>{_cell(record, row.gain, 1)}"
            f"<td>{'digital' if row.name in digital else ''}</td></tr>"
        )
    noisy = value_text(sum(record.noisy) / len(record.noisy), record.subject)
    lines.append(
        f"<tr><th scope='row'>all layers</th><td>{total:,}</td><td>{noisy}</td>"
        f"{_cell(record, record.drop, -1)}<td></td><td></td><td></td></tr>"
    )
    header = ["Layer", "Weights", "Noise on it", "Worse by", "On all others", "Better by", "Keep"]
    return html_table(header, lines, "gain")


def _examples(record: SensitivityRecord) -> str:
    return "examples" if record.subject.examples is None else f"{record.subject.examples} examples"


def _cell(record: SensitivityRecord, estimate: Interval, sign: int) -> str:
    """A cell in the colour of better or worse, if known; `sign` is 1 for what is better when larger, else −1."""
    colour = "up" if sign * estimate.low > 0 else "down"
    known = estimate.low > 0 or estimate.high < 0
    return f"<td class='{colour if known else ''}'>{interval_text(estimate, record.subject, signed=True)}</td>"


def _unit(record: SensitivityRecord) -> str:
    return f"Points of {record.subject.metric}" if record.subject.is_fraction else capital(record.subject.metric)


def suggestion(record: SensitivityRecord) -> str:
    """Which layers to keep digital, if that was asked for."""
    found, subject = record.suggestion, record.subject
    if found is None:
        return "<p>No suggestion was asked for: <code>--max-drop .01</code> makes one.</p>"
    names = ", ".join(f"<b>{escape(name)}</b>" for name in found.digital)
    limit = limit_text(found.max_drop, fraction=subject.is_fraction)
    limit += (" point" if limit == "1" else " points") * subject.is_fraction
    if found.share == 1:
        return (
            f"<p>Keep digital: {names}, which are all, so that <b>no chip is left</b>: of "
            f"{counted(found.attempts - 1, 'smaller set')} none is shown to be within the {limit} allowed.</p>"
        )
    keep = f"{names}, which hold {100 * not_all(found.share):.1f} % of the chip's weights" if names else "<b>none</b>"
    verdict = "within" if found.holds else "<b>not shown to be within</b>"
    points = " points" * subject.is_fraction
    confirmed, chosen = (f"{interval_text(one, subject)}{points}" for one in (found.confirmed, found.chosen))
    return (
        f"<p>Keep digital: {keep}. On {len(record.noisy)} chips that did not choose, it is worse by "
        f"{confirmed}, {verdict} the {limit} allowed.</p>"
        f"<p class='soft'>Chosen among {counted(found.attempts, 'set')} on the {len(record.noisy)} chips above, where "
        f"it was worse by {chosen}, which the choice makes look better than it is. Each "
        f"interval holds by itself with {100 * subject.confidence:g} %. Both are on the same "
        f"{_examples(record)}: confirm it on others.</p>"
    )
