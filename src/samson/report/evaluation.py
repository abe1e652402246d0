"""The page of an evaluation: a metric on each kind of chip, and the yield."""

from __future__ import annotations

from html import escape
from statistics import stdev

import plotly.graph_objects as go

from samson.records import EvaluationRecord, Measured
from samson.report.figures import BASELINE_COLOUR, LAYOUT
from samson.report.forward import check_note, forward_text
from samson.report.html import figure_div, html_row, html_table, page
from samson.report.levels import chips_and_means
from samson.report.values import interval_text, is_fraction, value_text
from samson.report.yields import yield_figure


def evaluation_page(record: EvaluationRecord) -> str:
    """Make the page's HTML; it opens offline."""
    subject = record.subject
    examples = "the" if subject.examples is None else f"these {subject.examples}"
    return page(
        "evaluation.html",
        title=escape(f"{subject.model} on noisy chips"),
        headline=headline(record),
        figure=figure_div(level_figure(record), "levels"),
        table=_table(record),
        yields=figure_div(yield_figure(record), "yields"),
        what=_what(record),
        versions=html_table([], (html_row([k, str(v)]) for k, v in vars(record.environment).items()), "facts"),
        metric=escape(subject.metric),
        better="at least" if subject.higher_is_better else "at most",
        confidence=f"{100 * subject.confidence:g} %",
        examples=examples,
        about=f"measured on {examples} examples, and not of other examples"
        if subject.about == "test_set"
        else "and on other examples of the same kind",
    )


def headline(record: EvaluationRecord) -> str:
    """What the record says of the last kind of chip, in a sentence."""
    metric, last = record.subject.metric, record.measured[-1]
    unit = " %" if is_fraction(metric) else ""
    wider = " (wider than asked for)" if _is_wider(record, last) else ""
    return (
        f"{escape(metric.capitalize())} {value_text(metric, record.clean)}{unit} without noise; "
        f"<b>{interval_text(metric, last.estimate)}{unit}</b>{wider} at {escape(_named(last))}, "
        f"and {value_text(metric, last.worst)}{unit} on the worst of {len(last.trials)} chips."
    )


def level_figure(record: EvaluationRecord) -> go.Figure:
    """The mean with its interval and every chip, by kind of chip; in proportion where the kinds are noise levels."""
    scale = 100 if is_fraction(record.subject.metric) else 1
    in_proportion = all(row.level is not None and row.label == f"{row.level:g}" for row in record.measured)
    places = [row.level if in_proportion else row.label for row in record.measured]
    figure = chips_and_means(places, record.measured, scale)
    grey = {"color": BASELINE_COLOUR, "width": 1.5, "dash": "dot"}
    figure.add_hline(
        y=scale * record.clean, line=grey, annotation_text="without noise", annotation_position="bottom right"
    )
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(**LAYOUT | {"legend": legend, "margin": LAYOUT["margin"] | {"t": 56}})
    figure.update_xaxes(title="Noise level" if in_proportion else "", zeroline=False)
    figure.update_yaxes(title=f"{record.subject.metric}{' (%)' if scale == 100 else ''}", zeroline=False)
    return figure


def _table(record: EvaluationRecord) -> str:
    metric = record.subject.metric
    lines = [html_row(["without noise", value_text(metric, record.clean), "", "", ""])]
    for row in record.measured:
        spread = 0.0 if len(row.trials) < 2 else stdev(row.trials)
        wide = _is_wider(record, row)
        lines.append(
            html_row(
                [
                    row.label,
                    interval_text(metric, row.estimate) + " *" * wide,
                    value_text(metric, spread),
                    value_text(metric, row.worst),
                    str(len(row.trials)),
                ]
            )
        )
    table = html_table(["Noise", metric, "sd between chips", "worst chip", "chips"], lines, "gain")
    if record.precision is not None:
        table += f"<p class='soft'>Asked for: ±{value_text(metric, record.precision)}; * is wider.</p>"
    return table + check_note(metric, [(row.label, row.check) for row in record.measured], _forward(record))


def _forward(record: EvaluationRecord) -> str:
    return forward_text(record.subject.autocast, record.subject.compiled)


def _is_wider(record: EvaluationRecord, row: Measured) -> bool:
    return record.precision is not None and (row.estimate.high - row.estimate.low) / 2 > record.precision


def _what(record: EvaluationRecord) -> str:
    subject = record.subject
    facts = {
        "Model": subject.model + ("" if subject.weights is None else f", weights {subject.weights}"),
        "Data": subject.data + ("" if subject.examples is None else f", {subject.examples} examples"),
        "Chips": f"seed {subject.chip_seed}; every line has the same, or the first of them",
        "Layers on the chip": ", ".join(subject.select) or "all that are by default",
        "Batch norm": "the model's own" if subject.norms_on is None else f"estimated anew from {subject.norms_on}",
        "Forward": f"the model {_forward(record)}",
        "Readings": "one a chip" if subject.read_block is None else f"one for each {subject.read_block} examples",
        "Finished": record.finished,
    }
    for noise in dict.fromkeys(row.noise for row in record.measured):
        facts["Noise: " + ", ".join(row.label for row in record.measured if row.noise == noise)] = noise
    return html_table([], (html_row(item) for item in facts.items()), "facts")


def _named(row: Measured) -> str:
    return f"noise {row.label}" if row.level is not None and row.label == f"{row.level:g}" else row.label
