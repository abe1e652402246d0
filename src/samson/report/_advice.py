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
    family's noisy kinds. The best has the largest gain over the baseline, on the training seeds of both. Methods that
    no better one is surely ahead of, by Student's interval of the difference over seeds, are as good, down to the
    baseline; of these it is the one that takes the fewest gradients. Where one's own trainer does not say how many, it
    is the baseline if that is as good, else the best. What has one seed in common with the baseline, or none, counts
    only where all others have no more.
    """
    first, base = found[0], found[0].baseline
    percent, points = (" %", " points") if first.problem.is_fraction else ("", "")
    direction = 1 if first.problem.higher_is_better else -1
    scores = {method: _by_seed(found, method) for method in first.table}
    cost = {record.method: record.training.gradients or 0 for record in first.records if record.measured}

    def gains(ours: str, theirs: str) -> list[float]:
        """By how much the first is better, for each seed that both have; of their means if there is none."""
        common = sorted(scores[ours].keys() & scores[theirs].keys())
        pairs = [(scores[ours][seed], scores[theirs][seed]) for seed in common]
        return [direction * (a - b) for a, b in pairs or [(_mean(scores[ours]), _mean(scores[theirs]))]]

    def ahead(ours: str, theirs: str) -> tuple[str, bool]:
        """By how much the first is better, and whether that is sure."""
        found = gains(ours, theirs)
        if len(found) < 2:
            return number(found[0], first) + points, False
        interval = mean_interval(found)
        return gain_text(interval, first).lstrip("+") + points, interval.low > 0

    def price(ours: str, theirs: str) -> str:
        if not (cost[ours] and cost[theirs]):
            return ""
        ratio = f"{cost[ours] / cost[theirs]:.3g}"
        return ", for as many gradients" if ratio == "1" else f", for {ratio}\N{NO-BREAK SPACE}× the gradients"

    others = [method for method in scores if method != base]
    told = [method for method in others if len(gains(method, base)) > 1]
    order = sorted([base, *(told or others)], key=lambda method: -fmean(gains(method, base)))
    best, last = order[0], order.index(base)
    as_good = [m for place, m in enumerate(order[: last + 1]) if not any(ahead(o, m)[1] for o in order[:place])]
    taken = min(as_good, key=lambda method: (cost[method], order.index(method)))
    if not all(cost[method] for method in as_good):
        taken = base if base in as_good else best

    def mean(method: str) -> str:
        value = number(_mean(scores[method]), first)
        return f"its mean {escape(first.problem.metric)} on noisy chips is {value}{percent}"

    if min(len(scores[best]), len(scores[base])) < 2:
        gain = "" if best == base else f", better by {ahead(best, base)[0]} than that of {escape(base)}"
        return (
            f"<b>{escape(best)}</b> is ahead: {mean(best)}{gain}. One training seed can't tell whether that is chance."
        )
    if taken == base:
        said = f"Take <b>{escape(base)}</b>: no method is surely better on noisy chips."
    else:
        clean = [f"{number(clean_value(first, method), first)}{percent}" for method in (taken, base)]
        gain, sure = ahead(taken, base)
        said = (
            f"Take <b>{escape(taken)}</b>: {mean(taken)}, better by {gain} than that of {escape(base)}"
            f"{'' if sure else ', which may be chance'}{price(taken, base)}; without noise it is {clean[0]}, that of "
            f"{escape(base)} {clean[1]}."
        )
    if fmean(gains(best, taken)) > 0:
        said += (
            f" <b>{escape(best)}</b> is better by another {ahead(best, taken)[0]}, which may be chance"
            f"{price(best, taken)}."
        )
    seeds = min(len(scores[method]) for method in (base, taken, best))
    return f"{said} Intervals are 95 %, over {seeds} training seeds."


def _by_seed(found: Sequence[View], method: str) -> dict[int, float]:
    """A network's value by its training seed."""
    by_family = [view.noisy_by_seed(method) for view in found]
    return {seed: fmean(of_family[seed] for of_family in by_family) for seed in by_family[0]}


def _mean(of_seeds: dict[int, float]) -> float:
    return fmean(of_seeds.values())
