"""The page of an evaluation: a metric on each kind of chip, and the yield."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
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
    scale_of,
    value_text,
)
from samson.report._levels import chips_and_means, level_note
from samson.report._plot import (
    GREY_DOTS,
    PALETTE,
    Plot,
    above,
    age_places,
    axis,
    dashes,
    horizontal,
    plot,
    transparent,
    under_line,
)
from samson.report._subject import subject_table


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
    unit = " %" if subject.is_fraction else ""
    wider = " (wider than asked for)" if _is_wider(record, last) else ""
    return (
        f"{escape(capital(subject.metric))} {value_text(record.clean, subject)}{unit} without noise; "
        f"<b>{interval_text(last.interval, subject)}{unit}</b>{wider} at {escape(_named(last.kind))}, "
        f"and {value_text(last.worst, subject)}{unit} on the worst of {len(last.trials)} chips."
    )


def level_figure(record: EvaluationRecord) -> Plot:
    """The mean with its interval and every chip, by kind of chip.

    Noise levels stand in proportion, times on a logarithmic axis, and all else side by side.
    """
    scale = scale_of(record.subject)
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


def yield_figure(record: EvaluationRecord) -> Plot:
    """The share of chips that are at least as good as a value, against that value.

    The last kind's line has a band, unless its chips are all the same.
    """
    scale = scale_of(record.subject)
    higher = record.subject.higher_is_better
    values = sorted({value for row in record.measured for value in row.trials})
    step = "vh" if higher else "hv"  # what lies between two values
    palette = {row.kind.label: PALETTE[(5 + number) % len(PALETTE)] for number, row in enumerate(record.measured)}
    looks = dashes(palette)
    data: list[dict[str, Any]] = []
    for row in record.measured:
        label, colour = row.kind.label, palette[row.kind.label]
        shares = shares_at(values, row.trials, higher_is_better=higher)
        half = half_width(len(row.trials), record.subject.confidence)
        banded = row is record.measured[-1] and not row.kind.alike
        for bound, fill in ((half, {}), (-half, {"fill": "tonexty"})) if banded else ():
            data.append(
                {
                    "type": "scatter",
                    "x": [scale * value for value in values],
                    "y": [100 * min(1.0, max(0.0, share + bound)) for share in shares],
                    "mode": "lines",
                    "line": {"width": 0, "shape": step},
                    **fill,
                    "fillcolor": transparent(colour, 0.1),
                    "legendgroup": label,
                    "showlegend": False,
                    "hoverinfo": "skip",
                }
            )
        data.append(
            {
                "type": "scatter",
                "x": [scale * value for value in values],
                "y": [100 * share for share in shares],
                "mode": "lines+markers",
                "marker": {"size": 4, "symbol": looks[label][1]},
                "line": {"width": 2.5, "shape": step, "color": colour, "dash": looks[label][0]},
                "name": label,
                "legendgroup": label,
                "hovertemplate": "%{x:.4g}: %{y:.0f} % of the chips",
            }
        )
    x = axis(f"{'At least' if higher else 'At most'} this {record.subject.metric}{' (%)' * record.subject.is_fraction}")
    return plot(data, x, axis("Share of chips (%)", range=[-2, 102]))


def shares_at(values: Sequence[float], trials: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """The share of chips that are at least as good as each value.

    Example:
        >>> shares_at([0.7, 0.8, 0.9], [0.9, 0.7], higher_is_better=True)
        [1.0, 0.5, 0.5]
    """
    ordered, count = sorted(trials), len(trials)
    if higher_is_better:
        return [(count - bisect_left(ordered, value)) / count for value in values]
    return [bisect_right(ordered, value) / count for value in values]


def half_width(chips: int, confidence: float) -> float:
    """Half the width of a band that holds the whole line of shares: √(ln(2 / (1 − confidence)) / (2·chips)).

    Reference: Dvoretzky, Kiefer and Wolfowitz 1956, with the constant of Massart 1990, Ann. Probab. 18, 1269.
    """
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * chips))


def _table(record: EvaluationRecord) -> str:
    lines = [html_row(["without noise", value_text(record.clean, record.subject), "", "", ""])]
    for row in record.measured:
        spread = 0.0 if len(row.trials) < 2 else stdev(row.trials)
        mean = interval_text(row.interval, record.subject) + " *" * _is_wider(record, row)
        sd, worst = (value_text(value, record.subject) for value in (spread, row.worst))
        lines.append(html_row([row.kind.label, mean, sd, worst, str(len(row.trials))]))
    table = html_table(["Noise", metric_text(record.subject), "sd between chips", "worst chip", "chips"], lines, "gain")
    if record.precision is not None:
        limit = limit_text(record.precision, fraction=record.subject.is_fraction)
        table += f"<p class='soft'>Asked for: ±{limit}; * is wider.</p>"
    return table


def _is_wider(record: EvaluationRecord, row: Measured) -> bool:
    return record.precision is not None and row.interval.half_width > record.precision


def _is_level(kind: ChipKind) -> bool:
    return kind.level is not None and kind.label == f"{kind.level:g}"


def _named(kind: ChipKind) -> str:
    return f"noise {kind.label}" if _is_level(kind) else kind.label
