"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from samson.report import SummaryRow, by_method, percent, points


def accuracy_table(rows: Sequence[SummaryRow], title: str) -> Table:
    """Accuracy in percent with its 95 % interval, method by level."""
    table = level_table(title, "Method", {row.level for row in rows})
    for method, of_method in by_method(rows).items():
        table.add_row(method, *(percent(row.accuracy) for row in of_method.values()))
    return table


def gain_table(rows: Sequence[SummaryRow], baseline: str) -> Table | None:
    """Paired difference to the baseline in points with its 95 % interval; None if there is nothing to compare."""
    title = f"Points above {baseline} on the same chips, with 95 % intervals over chips, for these networks"
    table = level_table(title, "Method", {row.level for row in rows})
    for method, of_method in by_method(rows).items():
        gains = [row.gain for row in of_method.values()]
        if any(gains):
            table.add_row(method, *("" if gain is None else points(gain) for gain in gains))
    return table if table.rows else None


def level_table(title: str, first: str, levels: Iterable[float]) -> Table:
    """An empty table with a column for each noise level."""
    table = empty_table(title)
    table.add_column(first, no_wrap=True)
    for level in sorted(levels):
        table.add_column(f"{level:g}", justify="right")
    return table


def empty_table(title: str | None = None) -> Table:
    """A table in the style of all of them."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
