"""Which method to take, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean

from samson.report._summary import View
from samson.report._tables import clean_value, gain_text, number
from samson.statistics import mean_interval


def advice(found: Sequence[View]) -> str:
    """Which method to take on one problem, by how much it is better than the baseline, and what it costs.

    A method's value is the mean over the families of chips, which all have a say of the same size, of the mean over a
    family's noisy kinds. Methods that are not surely worse than the best, by Student's interval of the difference
    over training seeds, are as good, down to the baseline; of these it is the one that takes the fewest gradients.
    """
    first, base = found[0], found[0].baseline
    percent, points = (" %", " points") if first.problem.is_fraction else ("", "")
    direction = 1 if first.problem.higher_is_better else -1
    scores = {method: _by_seed(found, method) for method in first.table}
    cost = {record.method: record.training.gradients or 0 for record in first.records if record.measured}
    order = sorted(scores, key=lambda method: -direction * _mean(scores[method]))

    def ahead(ours: str, theirs: str) -> tuple[str, bool]:
        """By how much the first is better, and whether that is sure."""
        common = scores[ours].keys() & scores[theirs].keys()
        gains = [direction * (scores[ours][seed] - scores[theirs][seed]) for seed in sorted(common)]
        if len(gains) < 2:
            return number(direction * (_mean(scores[ours]) - _mean(scores[theirs])), first) + points, False
        interval = mean_interval(gains)
        return gain_text(interval, first).lstrip("+") + points, interval.low > 0

    def price(ours: str, theirs: str) -> str:
        if not (cost[ours] and cost[theirs]):
            return ""
        ratio = f"{cost[ours] / cost[theirs]:.3g}"
        return ", for as many gradients" if ratio == "1" else f", for {ratio} × the gradients"

    best = order[0]
    as_good = [best, *(method for method in order[1 : order.index(base) + 1] if not ahead(best, method)[1])]
    taken = min(as_good, key=lambda method: (cost[method], order.index(method)))

    def mean(method: str) -> str:
        value = number(_mean(scores[method]), first)
        return f"its mean {escape(first.problem.metric)} on noisy chips is {value}{percent}"

    if len(scores[best]) < 2:
        gain = "" if best == base else f", better by {ahead(best, base)[0]} than that of {escape(base)}"
        return (
            f"<b>{escape(best)}</b> is ahead: {mean(best)}{gain}. One training seed can't tell whether that is chance."
        )
    if taken == base:
        said = f"Take <b>{escape(base)}</b>: no method is surely better on noisy chips."
    else:
        clean = [f"{number(clean_value(first, method), first)}{percent}" for method in (taken, base)]
        said = (
            f"Take <b>{escape(taken)}</b>: {mean(taken)}, better by {ahead(taken, base)[0]} than that of {escape(base)}"
            f"{price(taken, base)}; without noise it is {clean[0]}, that of {escape(base)} {clean[1]}."
        )
    if taken != best:
        said += (
            f" <b>{escape(best)}</b> is better by another {ahead(best, taken)[0]}, which may be chance"
            f"{price(best, taken)}."
        )
    return f"{said} Intervals are 95 %, over {len(scores[taken])} training seeds."


def _by_seed(found: Sequence[View], method: str) -> dict[int, float]:
    """A network's value by its training seed."""
    by_family = [view.noisy_by_seed(method) for view in found]
    return {seed: fmean(of_family[seed] for of_family in by_family) for seed in by_family[0]}


def _mean(of_seeds: dict[int, float]) -> float:
    return fmean(of_seeds.values())
