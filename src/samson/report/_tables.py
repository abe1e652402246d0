"""Tables as pure functions of summary rows: CSV, and cells for pages and terminals."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from samson.records import Interval
from samson.report._summary import SummaryRow

COLUMNS = ("method", "noise", "level", "mean", "low", "high", "trials", "seeds", "worst")


def summary_csv(rows: Sequence[SummaryRow]) -> str:
    """The summary as CSV with the columns `COLUMNS`; accuracies are fractions, trials are chips per network."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        estimate = row.accuracy
        numbers = [f"{x:.6f}" for x in (estimate.mean, estimate.low, estimate.high)]
        writer.writerow([row.method, row.noise, f"{row.level:g}", *numbers, row.trials, row.seeds, f"{row.worst:.6f}"])
    return text.getvalue()


def percent(estimate: Interval) -> str:
    """A mean in percent with its interval's half-width, for example "97.3 ±0.4"; without noise the mean alone."""
    return f"{100 * estimate.mean:.1f}" + (f" {half_width(estimate)}" if estimate.low < estimate.high else "")


def half_width(estimate: Interval) -> str:
    """An interval's half-width in percent, for example "±0.4"."""
    return f"±{100 * estimate.half_width:.1f}"


def points(estimate: Interval) -> str:
    """A difference in percentage points with its interval's half-width, for example "+12.3 ±0.8"."""
    return f"{100 * estimate.mean:+z.1f}" + (f" {half_width(estimate)}" if estimate.low < estimate.high else "")


def by_method(rows: Sequence[SummaryRow]) -> dict[str, dict[float, SummaryRow]]:
    """The rows by method and level, in their order."""
    table: dict[str, dict[float, SummaryRow]] = {}
    for row in rows:
        table.setdefault(row.method, {})[row.level] = row
    return table


def last_level_within(rows: Sequence[SummaryRow], method: str, reference: float, drop: float = 0.05) -> float | None:
    """The largest tested noise level up to which a method surely loses little.

    At it and at every lower level, the lower end of the method's interval is at least `reference − drop`.

    Args:
        rows: A summary.
        method: The method.
        reference: An accuracy, for example the baseline's without noise.
        drop: How much may be lost, a fraction.

    Returns:
        The level, or None if even level 0 is below.
    """
    held = None
    for level, row in sorted(by_method(rows)[method].items()):
        if row.accuracy.low < reference - drop:
            break
        held = level
    return held
