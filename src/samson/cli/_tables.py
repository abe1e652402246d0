"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from samson.report import Overview, View


def accuracy_table(view: View) -> Table:
    """The metric with its 95 % interval, method by kind of chip."""
    from samson.report import coverage_of, estimate_text, metric_text

    metric = metric_text(view.problem)
    title = f"Test {metric} on {view.problem.name} by {view.family.name}, 95 % intervals over chips"
    table = kind_table(title, "Method", view.kinds)
    covered = coverage_of(view)
    table.caption, table.caption_justify = f"On the chips: {covered}" if covered else None, "left"
    for method, of_method in view.table.items():
        table.add_row(method, *(estimate_text(row.value, view) for row in of_method.values()))
    return table


def gain_table(view: View) -> Table | None:
    """Paired gain over the baseline with its 95 % interval; None if there is nothing to compare."""
    from samson.report import gain_text

    what = "Points" if view.problem.is_fraction else "Gain"
    what += "" if view.problem.higher_is_better else " (+ is better)"
    title = f"{what} over {view.baseline} on the same chips, with 95 % intervals over chips, for these networks"
    table = kind_table(title, "Method", view.kinds)
    for method, of_method in view.table.items():
        gains = [row.gain for row in of_method.values()]
        if any(gains):
            table.add_row(method, *("" if gain is None else gain_text(gain, view) for gain in gains))
    return table if table.rows else None


def rank_table(overview: Overview) -> Table:
    """Mean ranks over problems, and wins, ties and losses against the baseline."""
    from samson.report import against_baseline

    found = overview.views
    over = "families of chips" if overview.problems == 1 else f"{overview.problems} problems"
    title = f"Mean rank over {over}; 1 is best"
    table = kind_table(title, "Method", [*overview.ranks, f"+ / = / − {found[0].baseline}"])
    table.caption, table.caption_justify = "= means: these seeds do not tell them apart.", "left"
    for method, _ in overview.order:
        cells = [f"{of[method].interval.mean:.2f}" if method in of else "" for of in overview.ranks.values()]
        table.add_row(method, *cells, " / ".join(map(str, against_baseline(found, method))))
    return table


def kind_table(title: str, first: str, kinds: Iterable[str]) -> Table:
    """An empty table with a column for each kind of chip."""
    from samson.report import kind_text

    table = empty_table(title)
    table.add_column(first, no_wrap=True)
    for kind in kinds:
        table.add_column(kind_text(kind), justify="right")
    return table


def empty_table(title: str | None = None) -> Table:
    """A table in the style of all of them."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
