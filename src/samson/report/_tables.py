"""Tables as pure functions of views: CSV, and cells for pages and terminals."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from samson._shown import coverage_text
from samson.records import CLEAN, Interval
from samson.report._html import metric_text, scale_of
from samson.report._summary import SummaryRow, View
from samson.statistics import CONFIDENCE

COLUMNS = (
    *("problem", "family", "method", "kind", "mean", "low", "high", "trials", "seeds", "worst"),
    *("seeds_low", "seeds_high", "gain", "gain_low", "gain_high", "gain_seeds_low", "gain_seeds_high"),
    *("p_value", "p_value_seeds", "metric", "higher_is_better", "baseline"),
)


def summary_csv(found: Sequence[View]) -> str:
    """The rows of `summary_rows` as CSV; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in summary_rows(found):
        writer.writerow([f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row.values()])
    return text.getvalue()


def summary_rows(found: Sequence[View]) -> list[dict[str, Any]]:
    """The summary as rows with the columns `COLUMNS`; fractions are not in percent, trials are chips per network.

    `low` and `high` are over chips, `seeds_low` and `seeds_high` over training seeds and chips; a gain is over the
    baseline, positive where it is better; `p_value` is over chips, `p_value_seeds` over seeds and chips. What is not
    known is None (see `SummaryRow`).
    """
    rows = []
    for view in found:
        for row in view.rows:
            cells = (
                *(view.problem.name, view.family.name, row.method, row.kind, *_ends(row.value)),
                *(row.trials, row.seeds, row.worst, *_ends(row.over_seeds)[1:]),
                *(*_ends(row.gain), *_ends(row.gain_over_seeds)[1:], row.p_value, row.p_value_seeds),
                *(view.problem.metric, view.problem.higher_is_better, view.baseline),
            )
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def _ends(interval: Interval | None) -> tuple[float | None, ...]:
    """Mean, low and high."""
    return (None,) * 3 if interval is None else (interval.mean, interval.low, interval.high)


def coverage_of(view: View) -> str:
    """How much of the networks lies on the chips, or what there is where they differ; empty if no record says so."""
    known = [(r.coverage, r.multiply_adds) for r in view.records if r.coverage is not None]
    return " or ".join(coverage_text(*one) for one in dict.fromkeys(known))


def kind_text(kind: str) -> str:
    """A kind of chip as a reader sees it; records and CSV files write `CLEAN` for the noise-free network."""
    return "without noise" if kind == CLEAN else kind


def unit_of(view: View) -> str:
    """The metric with its unit and direction, as an axis says it."""
    return f"Test {metric_text(view.problem)}"


def number(value: float, view: View) -> str:
    """A value as it is shown."""
    return f"{scale_of(view.problem) * value:.{view.digits}f}"


def estimate_text(estimate: Interval, view: View) -> str:
    """A mean with its interval, for example "97.3 ±0.4" or "95.6 [86.0, 97.3]"; without noise the mean alone."""
    mean = number(estimate.mean, view)
    return f"{mean} {spread_text(estimate, view)}" if estimate.low < estimate.high else mean


def gain_text(estimate: Interval, view: View) -> str:
    """A difference with its interval, for example "+12.3 ±0.8" or "+12.3 [+2.1, +13.0]"."""
    mean = gain_number(estimate.mean, view)
    return f"{mean} {spread_text(estimate, view, signed=True)}" if estimate.low < estimate.high else mean


def gain_number(value: float, view: View) -> str:
    """A difference as it is shown, with its sign."""
    return f"{scale_of(view.problem) * value:+z.{view.digits}f}".replace("-", "−")


def spread_text(estimate: Interval, view: View, *, signed: bool = False) -> str:
    """How far an interval reaches: "±0.4", or its ends, "[86.0, 97.3]".

    It is the ends where one side is longer than the other by more than a quarter, or half of the width, added to the
    mean, would be more or less than a fraction can be.
    """
    below, above = estimate.mean - estimate.low, estimate.high - estimate.mean
    mean, half = float(number(estimate.mean, view)), float(number(estimate.half_width, view))
    inside = not view.problem.is_fraction or (-100.0 if signed else 0.0) <= mean - half <= mean + half <= 100.0
    if inside and max(below, above) <= 1.25 * min(below, above):
        return f"±{number(estimate.half_width, view)}"
    show = gain_number if signed else number
    return f"[{show(estimate.low, view)}, {show(estimate.high, view)}]"


def sign(row: SummaryRow) -> str:
    """Whether a gain is "up" or "down", where it is sure of other networks, trained like these, after Holm; else ""."""
    if row.gain_over_seeds is None or row.p_value_seeds is None or row.p_value_seeds >= 1 - CONFIDENCE:
        return ""
    return "up" if row.gain_over_seeds.mean > 0 else "down"


def last_kind_within(view: View, method: str, reference: float, drop: float = 0.05) -> str | None:
    """The noisiest kind of chip up to which a method surely loses little.

    On it and on every one before it, the worse end of the method's interval is within `drop` of the reference.

    Args:
        view: What is looked at.
        method: The method.
        reference: A value of the metric, for example the baseline's without noise.
        drop: How much may be lost.

    Returns:
        The label, or None if even the noise-free network is worse.
    """
    held = None
    for kind, row in view.table[method].items():
        lost = reference - row.value.low if view.problem.higher_is_better else row.value.high - reference
        if lost > drop:
            break
        held = kind
    return held


def clean_value(view: View, method: str) -> float:
    """A method's mean without noise."""
    return view.table[method][CLEAN].value.mean
