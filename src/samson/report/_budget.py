"""The page of a noise budget: the metric against the level, and up to where it holds."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import escape

from samson._shown import limit_text
from samson._times import level_text
from samson.records import BudgetRecord
from samson.report._html import (
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
from samson.report._plot import GREY_DOTS, PALETTE, Plot, age_axis, axis, horizontal, plot, stripe, under_line
from samson.report._subject import subject_table

LIMIT_COLOUR = PALETTE[4]


def budget_page(record: BudgetRecord) -> str:
    """Make the page's HTML; it opens offline."""
    subject = record.subject
    return page(
        "budget.html",
        kind="noise budget",
        title=escape(
            f"{model_name(subject.model)}: how long it stands {record.family}"
            if record.unit == "s"
            else f"{model_name(subject.model)}: how much {record.family} noise it stands"
        ),
        headline=headline(record),
        figure=figure_div(budget_figure(record), "budget"),
        table=_table(record),
        what=_what(record),
        chips=len(record.measured[0].trials),
        confidence=f"{100 * subject.confidence:g} %",
        examples="these" if subject.examples is None else f"these {subject.examples}",
    )


def headline(record: BudgetRecord) -> str:
    """What the record says in a sentence or two."""
    limit = _limit(record)
    what = (
        f"chips are worse by at most {limit} in the mean"
        if record.criterion == "mean"
        else f"at least {100 * record.min_yield:g} % of the chips are worse by at most {limit}"
    )
    if record.holds_up_to is None:
        return f"None: already at {_level(record, record.low)} it is not sure that {what}."
    least = "At least up" if record.holds_up_to == record.high else "Up"
    said = f"{least} to {_level(record, record.holds_up_to, bold=True)}, {what}."
    if record.voltage is None:
        return said
    energy = (
        "" if record.energy_saved is None else f", and saves {100 * record.energy_saved:.0f} % of an access's energy"
    )
    return f"{said} That is {record.voltage:.3f} of the lowest voltage without errors{energy}."


def budget_figure(record: BudgetRecord) -> Plot:
    """The mean over chips with its interval and every chip, against the level on a logarithmic axis."""
    scale = scale_of(record.subject)
    levels = [row.kind.level for row in record.measured if row.kind.level is not None]
    allowed = record.max_drop * (abs(record.clean) if record.relative else 1)
    clean = scale * record.clean
    limit = clean - scale * allowed if record.subject.higher_is_better else clean + scale * allowed
    shapes = [horizontal(clean, **GREY_DOTS), horizontal(limit, color=LIMIT_COLOUR, width=2)]
    if record.holds_up_to is not None:
        shapes.append(stripe(record.low, record.holds_up_to, PALETTE[1], 0.12))
    title = f"{record.family}: {record.unit}{level_note([row.kind for row in record.measured])}"
    x = age_axis(record.low, record.high) if record.unit == "s" else axis(title, type="log", dtick="D2")
    low, high = math.log10(record.low), math.log10(record.high)
    beyond = 0.03 * (high - low)
    return plot(
        chips_and_means(levels, record.measured, scale, log=True),
        x | {"range": [low - beyond, high + beyond]},
        axis(metric_text(record.subject)),
        shapes=shapes,
        annotations=[under_line(clean, "without noise", "left"), under_line(limit, "limit", "left")],
        legend={"x": 0.02, "y": 0.05, "yanchor": "bottom"},
    )


def _table(record: BudgetRecord) -> str:
    lines = []
    for row in record.measured:
        level = row.kind.level
        held = record.holds_up_to is not None and level is not None and level <= record.holds_up_to
        mean, worst = interval_text(row.interval, record.subject), value_text(row.worst, record.subject)
        lines.append(html_row([row.kind.label, mean, worst, "holds" if held else ""]))
    unit = "age" if record.unit == "s" else record.unit
    return html_table([unit, metric_text(record.subject), "worst chip", "limit"], lines, "gain")


def _what(record: BudgetRecord) -> str:
    mean, low, high = (_named(record, value) for value in record.crossing)
    more = {
        "Estimate of the crossing": f"{mean} [{low}, {high}], by resampling chips",
        "Without noise": value_text(record.clean, record.subject),
    }
    chips = f"{len(record.measured[0].trials)}, the same at every level"
    kinds = [replace(row.kind, noise=_with_short_numbers(row.kind.noise)) for row in record.measured]
    return subject_table(record.subject, kinds, chips, more)


def _with_short_numbers(noise: str) -> str:
    """A noise whose level, which was searched for, has three digits, as everywhere on the page."""
    return re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.3g}", noise)


def _named(record: BudgetRecord, level: float | None) -> str:
    if level is None:
        return f"above {level_text(record.high, record.unit)}"
    return f"below {level_text(record.low, record.unit)}" if level == 0 else level_text(level, record.unit)


def _level(record: BudgetRecord, level: float, *, bold: bool = False) -> str:
    """A level with what it is; a time says that itself."""
    text = level_text(level, record.unit)
    return ("" if record.unit == "s" else f"{escape(record.unit)} ") + (f"<b>{text}</b>" if bold else text)


def _limit(record: BudgetRecord) -> str:
    """How much worse is allowed, with as many digits as it was given with."""
    if record.relative:
        return f"{limit_text(record.max_drop, fraction=True)} % of the value"
    limit = limit_text(record.max_drop, fraction=record.subject.is_fraction)
    points = " point" if limit == "1" else " points"
    return limit + points * record.subject.is_fraction
