"""Which method to take, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from statistics import fmean

from samson.records import CLEAN, Interval
from samson.report._html import listed
from samson.report._summary import View
from samson.report._tables import gain_number, gain_text, number
from samson.statistics import mean_interval

LEVEL = 0.05
"""How often, at most, an advice calls a method surely better where all are equal."""


@dataclass(frozen=True)
class Choice:
    """Which method to take on one problem.

    A method's value is the mean over the families of chips, which all have a say of the same size, of the mean over a
    family's noisy kinds. The best has the largest gain over the baseline, on the training seeds of both. Methods that
    no better one is surely ahead of, by Student's interval of the difference over seeds, are as good, down to the
    baseline; of these it is the one that takes the fewest gradients. Where one's own trainer does not say how many, it
    is the baseline if that is as good, else the best. What has one seed in common with the baseline, or none, counts
    only where all others have no more.

    Args:
        found: The problem on one family of chips, or several.
        level: How often any method may seem surely better than the baseline where all are equal. Each of them is
            looked at, so that an interval's confidence is 1 − level / (methods − 1).
    """

    found: Sequence[View]
    level: float = LEVEL

    @property
    def base(self) -> str:
        """The baseline."""
        return self.found[0].baseline

    @cached_property
    def scores(self) -> dict[str, dict[int, float]]:
        """The value of each method's networks, by training seed."""
        by_family = {method: [view.noisy_by_seed(method) for view in self.found] for method in self.found[0].table}
        return {
            method: {seed: fmean(of_family[seed] for of_family in families) for seed in families[0]}
            for method, families in by_family.items()
        }

    @cached_property
    def cost(self) -> dict[str, int]:
        """Gradients of each method; 0 where they are not known."""
        return {record.method: record.training.gradients or 0 for record in self.found[0].records if record.measured}

    @property
    def confidence(self) -> float:
        """Of intervals."""
        return 1 - self.level / max(len(self.scores) - 1, 1)

    def gains(self, ours: str, theirs: str) -> list[float]:
        """By how much the first is better, for each seed that both have; of their means if there is none."""
        direction = 1 if self.found[0].problem.higher_is_better else -1
        both = _common(self.scores, ours, theirs), _common(self.scores, theirs, ours)
        return [direction * (a - b) for a, b in zip(*both, strict=True)]

    def gain(self, ours: str, theirs: str) -> Interval:
        """The mean of `gains`, with an interval of no width where there is but one."""
        found = self.gains(ours, theirs)
        if len(found) == 1:
            return Interval(*found * 3)
        interval = mean_interval(found, self.confidence, resolution=self.found[0].resolution)
        return interval.within(-1, 1) if self.found[0].problem.is_fraction else interval

    def ahead(self, ours: str, theirs: str) -> bool:
        """Whether the first is surely better."""
        return len(self.gains(ours, theirs)) > 1 and self.gain(ours, theirs).low > 0

    @cached_property
    def order(self) -> list[str]:
        """The baseline and the methods that count, the best first."""
        others = [method for method in self.scores if method != self.base]
        told = [method for method in others if len(self.gains(method, self.base)) > 1]
        return sorted([self.base, *(told or others)], key=lambda method: -fmean(self.gains(method, self.base)))

    @property
    def best(self) -> str:
        """The method with the largest gain over the baseline."""
        return self.order[0]

    @cached_property
    def leaders(self) -> list[str]:
        """The methods that no other has a larger gain than, but for rounding."""
        least = fmean(self.gains(self.best, self.base)) - 1e-12 * abs(fmean(self.scores[self.best].values()))
        return [method for method in self.order if fmean(self.gains(method, self.base)) >= least]

    @property
    def tied(self) -> bool:
        """Whether no method is ahead of another."""
        return len(self.leaders) == len(self.order)

    @property
    def by_chance(self) -> bool:
        """Whether there are too few seeds to tell the best from the baseline."""
        return min(len(self.scores[self.best]), len(self.scores[self.base])) < 2

    @cached_property
    def taken(self) -> str:
        """The method to take; the best where one seed tells nothing."""
        if self.by_chance:
            return self.best
        better = self.order[: self.order.index(self.base) + 1]
        as_good = [m for place, m in enumerate(better) if not any(self.ahead(o, m) for o in better[:place])]
        if not all(self.cost[method] for method in as_good):
            return self.base if self.base in as_good else self.best
        return min(as_good, key=lambda method: (self.cost[method], better.index(method)))

    @property
    def named(self) -> list[str]:
        """The methods that an advice names: the one to take, or all that are ahead on one seed."""
        return self.leaders if self.by_chance else [self.taken]

    @property
    def diverged(self) -> str:
        """How many of their trainings diverged; empty if none did."""
        own = [record for record in self.found[0].records if record.method in self.named]
        count = sum(not record.measured for record in own)
        whose = "its" if len(self.named) == 1 else "their"
        return f"{count} of {whose} {len(own)} trainings diverged" if count else ""

    @cached_property
    def alone(self) -> dict[str, Choice]:
        """The choice on each of several families of chips alone, which share the level; by family."""
        found = self.found if len(self.found) > 1 else []
        return {view.family.name: Choice([view], self.level / len(found)) for view in found}

    @property
    def doubt(self) -> str:
        """What is to be said of the gain of the method that is taken, if it is not sure."""
        if self.taken == self.base:
            return ""
        if not self.ahead(self.taken, self.base):
            return ", which may be chance"
        agree = not self.alone or any(one.ahead(self.taken, self.base) for one in self.alone.values())
        return "" if agree else ", though surely on no family of chips alone"


def advice(found: Sequence[View], level: float = LEVEL) -> str:
    """Which method to take on one problem, by how much it is better than the baseline, and what it costs (`Choice`).

    Where a family of chips alone would have one take another method, it says so.
    """
    choice, first = Choice(found, level), found[0]
    best, taken, base = choice.best, choice.taken, choice.base
    metric, families = escape(first.problem.metric), listed([escape(view.family.name) for view in found])
    where = f"in the mean over {families} chips" if choice.alone else "on noisy chips"
    clean = {method: first.table[method][CLEAN].by_seed for method in choice.scores}
    noisy, ours, theirs = (
        number(fmean(_common(*of)), first) + " %" * first.problem.is_fraction
        for of in ((choice.scores, taken, base), (clean, taken, base), (clean, base, taken))
    )
    what = f"{'' if choice.alone else 'mean '}{metric} {where} is {noisy}"
    gain = "" if base in choice.named else f", better by {_gain(choice, taken, base)} than that of {escape(base)}"
    lost = f" {choice.diverged}." if choice.diverged else ""
    others = "".join(
        f" On {escape(family)} alone: {listed(list(map(escape, one.named)))}{', perhaps' if one.doubt else ''}."
        for family, one in choice.alone.items()
        if not {*one.named} >= {*choice.named}
    )
    if len(choice.order) == 1:
        return f"The {what}.{lost}"
    if choice.by_chance:
        whose = "its" if len(choice.leaders) == 1 else "their"
        said = "No method is ahead: the" if choice.tied else f"{_ahead(choice)}: {whose}"
        return f"{said} {what}{gain}.{lost} One training seed can't tell whether that is chance.{others}"
    said = f"no method is surely better {where}"
    if gain:
        price = f"{choice.doubt}{_price(choice, taken, base)}"
        said = f"its {what}{gain}{price}; without noise it is {ours}, that of {escape(base)} {theirs}"
    said = f"Take <b>{escape(taken)}</b>: {said}.{lost}"
    if fmean(choice.gains(best, taken)) > 0:
        said += f" <b>{escape(best)}</b> is better by another {_gain(choice, best, taken)}, which may be chance"
        said += f"{_price(choice, best, taken)}."
    if few := [escape(method) for method in choice.scores if method not in choice.order]:
        others += f" Too few training seeds to judge {listed(few)}."
    pairs = [(best, taken), *((method, base) for method in choice.order)]
    if seeds := [n for a, b in pairs if a != b and (n := len(choice.gains(a, b))) > 1]:
        compared = round(LEVEL / (1 - choice.confidence))
        allowing = f", to allow for {compared} comparisons" if compared > 1 else ""
        others += f" Intervals are {_percent(choice.confidence)} %{allowing}, over {min(seeds)} training seeds."
    return said + others


def advice_in_short(found: Sequence[View], level: float = LEVEL) -> str:
    """The same in a few words: the method and its gain."""
    choice = Choice(found, level)
    taken, base = choice.taken, choice.base
    unit = "points" if found[0].problem.is_fraction else escape(found[0].problem.metric)
    gain = f"{gain_number(choice.gain(taken, base).mean, found[0]).lstrip('+')} {unit}"
    lost = f", though {choice.diverged}" if choice.diverged else ""
    if len(choice.order) == 1:
        return f"<b>{escape(taken)}</b> alone{lost}"
    if choice.by_chance:
        of = "" if base in choice.leaders else f" of {escape(base)} by {gain}"
        return f"{'no method is ahead' if choice.tied else _ahead(choice)}{of}, on one training seed{lost}"
    of = "" if taken == base else f", better by {gain} than {escape(base)}{choice.doubt}"
    return f"take <b>{escape(taken)}</b>{of}{lost}"


def _common(values: Mapping[str, dict[int, float]], ours: str, theirs: str) -> list[float]:
    """The first's values on the training seeds that both have; their mean if there is none."""
    own = values[ours]
    return [own[seed] for seed in sorted(own.keys() & values[theirs].keys())] or [fmean(own.values())]


def _percent(confidence: float) -> str:
    """A confidence in percent, which is never all."""
    shown = f"{100 * confidence:.3g}"
    return f"{100 * confidence:.5g}" if shown == "100" else shown


def _ahead(choice: Choice) -> str:
    """Who is ahead on one training seed."""
    leaders = [f"<b>{escape(method)}</b>" for method in choice.leaders]
    return f"{listed(leaders)} {'is' if len(leaders) == 1 else 'are'} ahead"


def _gain(choice: Choice, ours: str, theirs: str) -> str:
    """By how much the first is better."""
    first = choice.found[0]
    return gain_text(choice.gain(ours, theirs), first).lstrip("+") + " points" * first.problem.is_fraction


def _price(choice: Choice, ours: str, theirs: str) -> str:
    """What the first costs, in gradients of the second."""
    if not (choice.cost[ours] and choice.cost[theirs]):
        return ""
    ratio = f"{choice.cost[ours] / choice.cost[theirs]:.3g}"
    times = {"1": "as many", "2": "twice the"}.get(ratio, f"{ratio}\N{NO-BREAK SPACE}× the")
    return f", for {times} gradient computations"
