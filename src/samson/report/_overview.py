"""Which method is best over all problems and families of chips: mean ranks, wins and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

from samson.records import CLEAN
from samson.report._html import html_table
from samson.report._plot import BASELINE_COLOUR, Plot, axis, error_bars, plot, stripe
from samson.report._summary import View
from samson.report._tables import kind_text, sign
from samson.statistics import MeanRank, critical_difference, mean_ranks

EVERYTHING = "all"


@dataclass(frozen=True)
class Overview:
    """What several views say together.

    Args:
        views: All problems on all families of chips, at least one.
    """

    views: Sequence[View]

    @cached_property
    def ranks(self) -> dict[str, dict[str, MeanRank]]:
        """Mean ranks over problems: without noise, on each family of chips, and on all of them together.

        A family's rank in a problem is by the mean over its kinds, which all have a say of the same size. All of them
        together is by the mean of a method's ranks in the families, so that no family counts more than another.

        By "clean", each family's name and "all"; then by method.
        """
        by_column: dict[str, list[tuple[str, dict[str, list[float]]]]] = {}
        for view in self.views:
            direction = 1 if view.problem.higher_is_better else -1
            noisy, clean = {}, {}
            for method, of_method in view.table.items():
                noisy[method] = [direction * value for value in view.noisy_by_seed(method).values()]
                clean[method] = [direction * value for value in of_method[CLEAN].by_seed.values()]
            by_column.setdefault(view.family.name, []).append((view.problem.name, noisy))
            if view.family == view.records[0].families[0]:
                by_column.setdefault(CLEAN, []).append((view.problem.name, clean))
        order = [CLEAN, *(name for name in by_column if name != CLEAN)]
        by_column[EVERYTHING] = [pair for name in order[1:] for pair in by_column[name]]
        return {name: _ranks(by_column[name]) for name in [*order, EVERYTHING]}

    @cached_property
    def order(self) -> list[tuple[str, MeanRank]]:
        """The methods by their mean rank over all problems and families, the best first."""
        return sorted(self.ranks[EVERYTHING].items(), key=lambda item: item[1].interval.mean)

    @cached_property
    def one_seed(self) -> bool:
        """Whether a ranked method has a single network in a view, so that its interval over seeds says nothing."""
        return any(row.seeds == 1 for view in self.views for row in view.rows if row.method in self.ranks[EVERYTHING])

    @property
    def problems(self) -> int:
        """Number of problems."""
        return len({view.problem.name for view in self.views})


def _ranks(of_problems: Sequence[tuple[str, dict[str, list[float]]]]) -> dict[str, MeanRank]:
    """Mean ranks over blocks, each with its problem, whose networks are the same on every family of chips."""
    problems, blocks = zip(*of_problems, strict=True)
    return mean_ranks(blocks, networks=problems)


def comparable(found: Sequence[View]) -> bool:
    """Whether there is something to rank: several views, all of which have the same two methods at least."""
    common = set.intersection(*(set(view.table) for view in found)) if found else set()
    return len(found) > 1 and len(common) > 1


def overview_headline(overview: Overview) -> str:
    """What the ranks say, in a sentence."""
    (best, rank), *others = overview.order
    mean = f"<b>{escape(best)}</b> has the best mean rank, {rank.interval.mean:.2f}"
    pairs = f"over {rank.blocks} pairs of a problem and a family of chips"
    if overview.one_seed:
        return f"{mean}, {pairs}. One training seed can't tell whether that is chance."
    surely = [name for name, other in others if other.interval.low > rank.interval.high]
    apart = f"its interval lies apart from those of {len(surely)} of the other {len(others)} methods"
    return f"{mean} {_ends(rank)}, {pairs}; {apart}."


def rank_table(overview: Overview) -> str:
    """Mean ranks, with intervals over seeds if there are several, and wins, ties and losses against the baseline."""
    columns, found = overview.ranks, overview.views
    lines = []
    for method, _ in overview.order:
        cells = []
        for of_column in columns.values():
            rank = of_column.get(method)
            best = min(other.interval.mean for other in of_column.values())
            ends = "" if rank is None or overview.one_seed else f"{_ends(rank)}<br>"
            share = 0.0 if rank is None else 1 - (rank.interval.mean - 1) / max(len(of_column) - 1, 1)
            shown = (
                ""
                if rank is None
                else f"{rank.interval.mean:.2f}<small>{ends}first {rank.wins} of {rank.blocks}</small>"
            )
            mark = " class=best" if rank is not None and rank.interval.mean == best else ""
            cells.append(f"<td style='--shade:{share:.3f}'{mark}>{shown}</td>")
        won, tied, lost = against_baseline(found, method)
        cells.append(f"<td style='--shade:0'>{'' if won + tied + lost == 0 else f'{won} / {tied} / {lost}'}</td>")
        lines.append(f"<tr><th scope='row'>{escape(method)}</th>{''.join(cells)}</tr>")
    return html_table(["Method", *map(kind_text, columns), f"+ / = / − {found[0].baseline}"], lines, "heat")


def against_baseline(found: Sequence[View], method: str) -> tuple[int, int, int]:
    """On how many kinds of chips a method is surely better than the baseline, not told apart, or surely worse.

    Over all problems that have the baseline of the first; where its training diverged, there is another.
    """
    signs = [
        sign(row)
        for view in found
        if view.baseline == found[0].baseline
        for row in view.table.get(method, {}).values()
        if row.kind != CLEAN and row.gain is not None
    ]
    return signs.count("up"), signs.count(""), signs.count("down")


def rank_figure(overview: Overview) -> Plot:
    """Mean ranks with their intervals over seeds; a band as wide as the critical difference, from the best."""
    order, problems = overview.order, overview.problems
    palette = overview.views[0].palette
    names, intervals = [name for name, _ in order], [rank.interval for _, rank in order]
    dots = {
        "type": "scatter",
        "x": [interval.mean for interval in intervals],
        "y": names,
        "error_x": error_bars(intervals, color=BASELINE_COLOUR),
        "mode": "markers",
        "marker": {"size": 11, "color": [palette.get(name, BASELINE_COLOUR) for name in names]},
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    shapes = []
    if problems > 1:
        best, width = intervals[0].mean, critical_difference(len(order), problems)
        shapes = [stripe(best, min(best + width, len(order)), BASELINE_COLOUR, 0.15)]
    y = {"autorange": "reversed", "automargin": True}
    return plot([dots], axis("Mean rank"), y, height=150 + 34 * len(order), showlegend=False, shapes=shapes)


def band_text(overview: Overview) -> str:
    """What the band of the figure says."""
    problems = overview.problems
    if problems < 2:
        return "With one problem there is no telling about others."
    width = critical_difference(len(overview.order), problems)
    return (
        f"The grey band is as wide as the critical difference, {width:.2f}, for {problems} problems: outside of it, a "
        "method is worse than the best on other problems too (Nemenyi, 95 %). With few problems it is wide."
    )


def _ends(rank: MeanRank) -> str:
    return f"[{rank.interval.low:.2f}, {rank.interval.high:.2f}]"
