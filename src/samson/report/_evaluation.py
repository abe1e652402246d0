"""The page of an evaluation: a metric on each kind of chip, and the yield."""

from __future__ import annotations

from html import escape
from statistics import stdev
from typing import Any

from samson._shown import limit_text
from samson._times import age_text
from samson.records import ChipKind, EvaluationRecord, Measured
from samson.report._html import (
    capital,
    figure_div,
    html_row,
    html_table,
    interval_text,
    metric_text,
    model_name,
    page,
    value_text,
)
from samson.report._levels import chips_and_means, level_note
from samson.report._plot import GREY_DOTS, Plot, above, age_places, axis, horizontal, plot, under_line
from samson.report._subject import subject_table
from samson.report._yields import yield_figure


def evaluation_page(record: EvaluationRecord) -> str:
    """Make the page's HTML; it opens offline."""
    subject, last = record.subject, record.measured[-1].kind
    examples = "these" if subject.examples is None else f"these {subject.examples}"
    return page(
        "evaluation.html",
        kind=escape(f"{subject.metric} on noisy chips"),
        title=escape(f"{model_name(subject.model)} on noisy chips"),
        headline=headline(record),
        figure=figure_div(level_figure(record), "levels"),
        table=_table(record),
        yields=figure_div(yield_figure(record), "yields"),
        last=escape(_named(last)),
        what=subject_table(subject, [row.kind for row in record.measured], "every line has the same, or their first"),
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
    subject, last = record.subject, record.measured[-1]
    fraction = subject.is_fraction
    unit = " %" if fraction else ""
    wider = " (wider than asked for)" if _is_wider(record, last) else ""
    return (
        f"{escape(capital(subject.metric))} {value_text(record.clean, fraction=fraction)}{unit} without noise; "
        f"<b>{interval_text(last.interval, fraction=fraction)}{unit}</b>{wider} at {escape(_named(last.kind))}, "
        f"and {value_text(last.worst, fraction=fraction)}{unit} on the worst of {len(last.trials)} chips."
    )


def level_figure(record: EvaluationRecord) -> Plot:
    """The mean with its interval and every chip, by kind of chip.

    Noise levels stand in proportion, times on a logarithmic axis, and all else side by side.
    """
    scale = 100 if record.subject.is_fraction else 1
    kinds = [row.kind for row in record.measured]
    leveled = all(_is_level(kind) for kind in kinds)
    in_proportion = leveled and len(kinds) > 1
    times = [kind.time_s for kind in kinds if kind.time_s is not None]
    aged = len(times) == len(kinds) == len(set(times)) > 1 and not leveled
    levels = [kind.level for kind in kinds if kind.level is not None]
    places = levels if in_proportion else age_places(times) if aged else [float(place) for place in range(len(kinds))]
    texts = [age_text(time) for time in times] if aged else [kind.label for kind in kinds]
    ticks: dict[str, Any] = {} if in_proportion else {"tickvals": places, "ticktext": texts}
    if len(kinds) == 1:
        ticks["range"] = [-0.5, 0.5]
    clean = scale * record.clean
    return plot(
        chips_and_means(places, record.measured, scale),
        axis(f"Noise level{level_note(kinds)}" if leveled else "Age" if aged else "", **ticks),
        axis(metric_text(record.subject)),
        top=56,
        shapes=[horizontal(clean, **GREY_DOTS)],
        annotations=[under_line(clean, "without noise", "right")],
        legend=above(),
    )


def _table(record: EvaluationRecord) -> str:
    fraction = record.subject.is_fraction
    lines = [html_row(["without noise", value_text(record.clean, fraction=fraction), "", "", ""])]
    for row in record.measured:
        spread = 0.0 if len(row.trials) < 2 else stdev(row.trials)
        mean = interval_text(row.interval, fraction=fraction) + " *" * _is_wider(record, row)
        sd, worst = (value_text(value, fraction=fraction) for value in (spread, row.worst))
        lines.append(html_row([row.kind.label, mean, sd, worst, str(len(row.trials))]))
    table = html_table(["Noise", metric_text(record.subject), "sd between chips", "worst chip", "chips"], lines, "gain")
    if record.precision is not None:
        table += f"<p class='soft'>Asked for: ±{limit_text(record.precision, fraction=fraction)}; * is wider.</p>"
    return table


def _is_wider(record: EvaluationRecord, row: Measured) -> bool:
    return record.precision is not None and row.interval.half_width > record.precision


def _is_level(kind: ChipKind) -> bool:
    return kind.level is not None and kind.label == f"{kind.level:g}"


def _named(kind: ChipKind) -> str:
    return f"noise {kind.label}" if _is_level(kind) else kind.label
