"""Which method is best over all problems and families of chips: mean ranks, wins and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape

from samson.records import CLEAN
from samson.report._advice import LEVEL, advice_in_short
from samson.report._html import html_table, listed, row_heading
from samson.report._plot import BASELINE_COLOUR, Plot, axis, error_bars, plot, stripe
from samson.report._summary import View
from samson.report._tables import kind_text, sign
from samson.statistics import MeanRank, critical_difference, holm, mean_ranks

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

    @cached_property
    def critical(self) -> float:
        """The critical difference of mean ranks; infinite for one problem."""
        return critical_difference(len(self.order), self.problems) if self.problems > 1 else math.inf

    @property
    def test(self) -> str:
        """By which the critical difference is found."""
        return "Nemenyi" if len(self.order) > 2 else "sign test"

    @property
    def tells(self) -> bool:
        """Whether there are problems enough for any ranks to differ by the critical difference."""
        return self.critical < len(self.order) - 1


def _ranks(of_problems: Sequence[tuple[str, dict[str, list[float]]]]) -> dict[str, MeanRank]:
    """Mean ranks over blocks, each with its problem, whose networks are the same on every family of chips."""
    problems, blocks = zip(*of_problems, strict=True)
    return mean_ranks(blocks, networks=problems)


def comparable(found: Sequence[View]) -> bool:
    """Whether there is something to rank: several views, all of which have the same two methods at least."""
    common = set.intersection(*(set(view.table) for view in found)) if found else set()
    return len(found) > 1 and len(common) > 1


def unranked(overview: Overview) -> str:
    """Which methods have no rank, in a sentence; empty if all have one."""
    ranks = overview.ranks[EVERYTHING]
    left = dict.fromkeys(escape(method) for view in overview.views for method in view.table if method not in ranks)
    return f" Not ranked, since not every problem has results of them: {listed(list(left))}." if left else ""


def overview_headline(overview: Overview) -> str:
    """What to take on each problem, in a line for each, and what the ranks say of others if there are any."""
    of_problems: dict[str, list[View]] = {}
    for view in overview.views:
        of_problems.setdefault(view.problem.name, []).append(view)
    each = "<br/>\n".join(
        f"{escape(name)}: {advice_in_short(of, LEVEL / len(of_problems))}." for name, of in of_problems.items()
    )
    return f"{each}<br/>\n{_ranks_in_short(overview)}{unranked(overview)}" if comparable(overview.views) else each


def _ranks_in_short(overview: Overview) -> str:
    """Which method has the best mean rank, and whether it is better on other problems."""
    (_, rank), *_ = overview.order
    mean = f"{rank.interval.mean:.2f}"
    first = [f"<b>{escape(name)}</b>" for name, other in overview.order if other.interval.mean == rank.interval.mean]
    others = overview.order[len(first) :]
    has, it_is = ("has", "it is") if len(first) == 1 else ("share", "they are" if others else "one is")
    best = (
        f"{listed(first)} {has} the best mean rank, {mean}"
        if others
        else f"No method has a better mean rank than {mean}"
    )
    said = f"{best}, over {rank.blocks} pairs of a problem and a family of chips"
    if overview.one_seed:
        return f"{said}. One training seed can't tell whether that is chance."
    worse = [name for name, other in others if other.interval.mean - rank.interval.mean > overview.critical]
    if not worse:
        return f"{said}; these {overview.problems} problems can't tell whether {it_is} better on others."
    than = "all others" if len(worse) == len(others) else f"{len(worse)} of the other {len(others)} methods"
    return f"{said}; on other problems, too, {it_is} better than {than}."


def rank_table(overview: Overview) -> str:
    """Mean ranks, with intervals over seeds if there are several, and wins, ties and losses against the baseline."""
    columns, found = overview.ranks, overview.views
    lines = []
    for method, _ in overview.order:
        cells = []
        for of_column in columns.values():
            rank = of_column.get(method)
            best = min(other.interval.mean for other in of_column.values())
            if rank is None:
                cells.append("<td style='--shade:0.000'></td>")
                continue
            own = rank.interval
            ends = "" if overview.one_seed else f"[{own.low:.2f}, {own.high:.2f}]<br>"
            share = 1 - (own.mean - 1) / max(len(of_column) - 1, 1)
            mark = " class=best" if own.mean == best else ""
            shown = f"{own.mean:.2f}<small>{ends}first {rank.wins} of {rank.blocks}</small>"
            cells.append(f"<td style='--shade:{share:.3f}'{mark}>{shown}</td>")
        won, tied, lost = against_baseline(found, method)
        cells.append(f"<td style='--shade:0'>{'' if won + tied + lost == 0 else f'{won} / {tied} / {lost}'}</td>")
        lines.append(f"<tr>{row_heading(method)}{''.join(cells)}</tr>")
    return html_table(["Method", *map(kind_text, columns), f"+ / = / − {found[0].baseline}"], lines, "heat")


def against_baseline(found: Sequence[View], method: str) -> tuple[int, int, int]:
    """On how many kinds of chips a method is surely better than the baseline, not told apart, or surely worse.

    Surely is over training seeds, after Holm for all methods and kinds of all problems that have the baseline of the
    first; where its training diverged, there is another. With one seed nothing is told apart.
    """
    rows = [
        row
        for view in found
        if view.baseline == found[0].baseline
        for row in view.rows
        if row.kind != CLEAN and row.gain is not None
    ]
    known = [p for row in rows if (p := row.p_value_alone) is not None]
    adjusted: dict[float | None, float] = dict(zip(known, holm(known), strict=True))
    signs = [sign(replace(row, p_value_seeds=adjusted.get(row.p_value_alone))) for row in rows if row.method == method]
    return signs.count("up"), signs.count(""), signs.count("down")


def rank_figure(overview: Overview) -> Plot:
    """Mean ranks with intervals over seeds; from the best, a band as wide as the critical difference if that tells."""
    order = overview.order
    names, intervals = [name for name, _ in order], [rank.interval for _, rank in order]
    dots = {
        "type": "scatter",
        "x": [interval.mean for interval in intervals],
        "y": names,
        **({} if overview.one_seed else {"error_x": error_bars(intervals, color=BASELINE_COLOUR)}),
        "mode": "markers",
        "cliponaxis": False,
        "marker": {"size": 11, "color": BASELINE_COLOUR},
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    shapes = []
    if overview.tells:
        best = intervals[0].mean
        shapes = [stripe(best, min(best + overview.critical, len(order)), BASELINE_COLOUR, 0.15)]
    y = {"autorange": "reversed", "automargin": True}
    return plot(
        [dots],
        axis("Mean rank", range=[1, len(order)]),
        y,
        height=150 + 34 * len(order),
        showlegend=False,
        shapes=shapes,
    )


def band_text(overview: Overview) -> str:
    """What the band of the figure says."""
    problems = overview.problems
    if problems < 2:
        return "With one problem there is no telling about others."
    if not overview.tells:
        return (
            f"{problems} problems can tell nothing about others: ranks would have to differ by {overview.critical:.2f} "
            f"(the critical difference, {overview.test}, 95 %), which is more than they can."
        )
    return (
        f"The grey band is as wide as the critical difference, {overview.critical:.2f}, for {problems} problems: "
        f"outside of it, a method is worse than the best on other problems too ({overview.test}, 95 %). With few "
        "problems it is wide."
    )
