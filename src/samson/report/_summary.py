"""From the records of a comparison to its summary: means, intervals and paired differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations

import numpy as np

from samson._errors import choose
from samson.records import CLEAN, ChipFamily, Interval, Problem, RunRecord, on_common_chips
from samson.report._plot import colours
from samson.statistics import Paired, Trials, holm, smallest_step

BASELINES = ("plain", "sgd")
"""Methods to which the others are compared, if one is there; else it is the first method."""


@dataclass(frozen=True)
class SummaryRow:
    """One method on one kind of chip; values are of the problem's metric.

    Args:
        method: Name of the method.
        kind: Label of the kind of chip; `CLEAN` is the noise-free network.
        value: Mean over chips with its interval. The unit is the chip, averaged over the seeds' networks.
        over_seeds: The same mean with its interval over training seeds and chips: other networks, trained like these.
            None with one seed.
        std: Standard deviation between these chips' means; 0 without noise.
        worst: The worst value of any one network on any one chip.
        trials: Chips per network (1 without noise).
        seeds: Number of networks, one a training seed; those whose training diverged do not count.
        by_seed: Each network's mean over chips, by training seed.
        gain: How much better than the baseline on the same chips and seeds; None for the baseline, or without it.
        gain_over_seeds: The same with its interval over training seeds and chips; None also with one seed.
        p_value: Of no gain on these networks, after Holm for all methods and noisy kinds; None where there is none.
        p_value_seeds: The same of other networks, trained like these; None also with one seed.
        p_value_alone: `p_value_seeds` before Holm, for who counts over several views.
    """

    method: str
    kind: str
    value: Interval
    over_seeds: Interval | None
    std: float
    worst: float
    trials: int
    seeds: int
    by_seed: dict[int, float]
    gain: Interval | None = None
    gain_over_seeds: Interval | None = None
    p_value: float | None = None
    p_value_seeds: float | None = None
    p_value_alone: float | None = None


@dataclass(frozen=True)
class View:
    """One problem's networks on one family of chips: what a reader looks at.

    Args:
        problem: The problem.
        family: The family.
        records: The runs of the problem.
        rows: Their summary: the method with the best mean over the kinds with noise first, and for each the noise-free
            network first.
        baseline: The method to which the others are compared.
        palette: A colour for each method, the same in every plot.
    """

    problem: Problem
    family: ChipFamily
    records: tuple[RunRecord, ...]
    rows: tuple[SummaryRow, ...]
    baseline: str
    palette: Mapping[str, str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The labels of the kinds, the noise-free network first."""
        return CLEAN, *(kind.label for kind in self.family.kinds)

    @cached_property
    def resolution(self) -> float:
        """The step between possible values of a network on a chip; of what is no fraction, between those found."""
        if self.problem.is_fraction:
            return 1 / self.records[0].examples
        clean = [record.clean for record in self.records if record.clean is not None]
        noisy = [chips for record in self.records for family in record.measured for chips in family]
        return smallest_step([*clean, *chain.from_iterable(noisy)])

    @cached_property
    def table(self) -> dict[str, dict[str, SummaryRow]]:
        """The rows by method and kind, in their order."""
        found: dict[str, dict[str, SummaryRow]] = {}
        for row in self.rows:
            found.setdefault(row.method, {})[row.kind] = row
        return found

    @cached_property
    def digits(self) -> int:
        """Decimals that are shown: two digits of the smallest width.

        Where there is no width it is the value or the gain itself; what is below 1e-5 of the largest is no matter.
        For percent it is one, or more where a method's gains with noise, with their intervals, are all below 0.1.
        """
        if self.problem.is_fraction:
            gains: dict[str, float] = defaultdict(float)
            for row in self.rows:
                if row.gain is not None and row.kind != CLEAN:
                    gains[row.method] = max(gains[row.method], -row.gain.low, row.gain.high)
            return max(1, -math.floor(math.log10(100 * min(filter(None, gains.values()), default=1.0))))
        intervals = [one for row in self.rows for one in (row.value, row.over_seeds, row.gain, row.gain_over_seeds)]
        sizes = [one.half_width or abs(one.mean) for one in intervals if one is not None]
        least = 1e-5 * max((abs(row.value.mean) for row in self.rows), default=0.0)
        smallest = min((size for size in sizes if size > least), default=1.0)
        return max(0, 1 - math.floor(math.log10(smallest)))

    def noisy_by_seed(self, method: str) -> dict[int, float]:
        """Each network of a method by its training seed: its mean over the kinds with noise."""
        of_kinds = [row.by_seed for row in self.rows if row.method == method and row.kind != CLEAN]
        return {seed: sum(kind[seed] for kind in of_kinds) / len(of_kinds) for seed in of_kinds[0]}


def views(records: Sequence[RunRecord], baseline: str | None = None) -> list[View]:
    """Every problem of a comparison on each of its families of chips, as far as all of its networks are on them.

    Raises:
        ValueError: If records of one problem do not belong together, or a problem has no such baseline.
    """
    by_problem: dict[str, list[RunRecord]] = {}
    for record in records:
        by_problem.setdefault(record.problem.name, []).append(record)
    return [
        view(of_problem, number, baseline)
        for of_problem in map(on_common_chips, by_problem.values())
        for number in range(len(of_problem[0].families))
        if any(record.measured for record in of_problem)
    ]


def baseline_of(methods: Iterable[str]) -> str:
    """The method to which the others are compared where nobody names one; empty without methods."""
    known = list(methods)
    return next((name for name in (*BASELINES, *known) if name in known), "")


def view(records: Sequence[RunRecord], number: int = 0, baseline: str | None = None) -> View:
    """The runs of one problem on one family of chips.

    For these networks the unit is the chip: its value is averaged over the networks of all training seeds. The
    noise-free network has one evaluation per network and an interval of width 0. For other networks, trained like
    these, the unit is the training seed (see `Paired`). Gains are over the seeds that both methods have.

    Args:
        records: Records of one problem, at least one; not all need be there.
        number: Of the family of chips.
        baseline: The method to which the others are compared; None is one of `BASELINES`, or the first.

    Raises:
        ValueError: If the records do not belong together, or have no such baseline.
    """
    first = records[0]
    for record in records:
        same = (record.problem, record.families, record.trials, record.chip_seed)
        if same != (first.problem, first.families, first.trials, first.chip_seed):
            raise ValueError("`records` must belong to one comparison, got several configurations.")
    places = [place for record in records for place in (record.environment, *record.chips_added_on)]
    kinds = sorted({place.device.partition(":")[0] for place in places})
    if len(kinds) > 1:
        raise ValueError(
            f"`records` must be of one kind of device, got {' and '.join(kinds)}: their chips differ. Compare on one."
        )
    methods = list(dict.fromkeys(record.method for record in records if record.measured))
    if baseline is None:
        baseline = baseline_of(methods)
    else:
        choose("baseline", baseline, methods)
    palette = colours(methods, baseline)
    empty = View(first.problem, first.families[number], tuple(records), (), baseline, palette)
    values = _values(empty, methods)
    gains = _gains(empty, values, [(method, baseline) for method in methods if method != baseline])
    return _with_gains(replace(empty, rows=_best_first(empty, list(_rows(empty, values)))), gains, baseline)


def against_each(view: View) -> list[View]:
    """The view with each method as the baseline, its own first.

    The others are looked at after the fact: their p-values are after Holm for all pairs of methods and noisy kinds.
    """
    methods = list(view.table)
    others = [method for method in methods if method != view.baseline]
    gains = _gains(view, _values(view, methods), list(combinations(methods, 2)))
    gains |= {(other, method, kind): gain.turned for (method, other, kind), gain in gains.items()}
    return [view, *(_with_gains(view, gains, baseline) for baseline in others)]


@dataclass(frozen=True)
class _Gain:
    """What a `SummaryRow` says of a gain."""

    gain: Interval | None = None
    gain_over_seeds: Interval | None = None
    p_value: float | None = None
    p_value_seeds: float | None = None
    p_value_alone: float | None = None

    @property
    def turned(self) -> _Gain:
        return replace(self, gain=_turned(self.gain), gain_over_seeds=_turned(self.gain_over_seeds))


def _turned(interval: Interval | None) -> Interval | None:
    return interval and Interval(-interval.mean, -interval.high, -interval.low)


_Values = Mapping[tuple[str, str], dict[int, tuple[float, ...]]]
_Gains = Mapping[tuple[str, str, str], _Gain]


def _values(view: View, methods: Sequence[str]) -> _Values:
    """One value a chip, by method and kind, then by training seed."""
    found: dict[tuple[str, str], dict[int, tuple[float, ...]]] = {(m, k): {} for m in methods for k in view.kinds}
    number = view.records[0].families.index(view.family)
    for record in sorted(view.records, key=lambda record: record.seed):
        if record.measured:
            values = ((float(record.clean or 0.0),), *record.measured[number])
            for kind, chips in zip(view.kinds, values, strict=True):
                found[record.method, kind][record.seed] = chips
    return found


def _measured(view: View, of_seeds: Iterable[tuple[float, ...]]) -> list[Trials]:
    """Of what is no fraction, `Paired` finds the step over seeds; over chips, those that are all alike have none."""
    step, bounds = (view.resolution, (0.0, 1.0)) if view.problem.is_fraction else (0.0, None)
    return [Trials(of_seed, step, bounds) for of_seed in of_seeds]


def _rows(view: View, values: _Values) -> Iterable[SummaryRow]:
    worst = min if view.problem.higher_is_better else max
    for (method, kind), own in values.items():
        alone = Paired({method: _measured(view, own.values())}, {})
        chips = np.mean(list(own.values()), axis=0)
        yield SummaryRow(
            method=method,
            kind=kind,
            value=alone.mean(method, over="chips"),
            over_seeds=alone.mean(method, over="seeds") if len(own) > 1 else None,
            std=float(chips.std(ddof=1)) if len(chips) > 1 else 0.0,
            worst=worst(map(worst, own.values())),
            trials=len(chips),
            seeds=len(own),
            by_seed={seed: float(np.mean(of_seed)) for seed, of_seed in own.items()},
        )


def _best_first(view: View, rows: Sequence[SummaryRow]) -> tuple[SummaryRow, ...]:
    over_kinds = defaultdict[str, float](float)
    for row in rows:
        over_kinds[row.method] += row.value.mean if row.kind != CLEAN else 0
    return tuple(sorted(rows, key=lambda row: over_kinds[row.method], reverse=view.problem.higher_is_better))


def _gains(view: View, values: _Values, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str, str], _Gain]:
    """How much better the first of each pair is, by kind; Holm allows for all of them."""
    found: dict[tuple[str, str, str], _Gain] = {}
    for pair in pairs:
        order = pair if view.problem.higher_is_better else pair[::-1]
        for kind in view.kinds:
            common = [seed for seed in values[pair[0], kind] if seed in values[pair[1], kind]]
            if common:
                both = {name: _measured(view, (values[name, kind][seed] for seed in common)) for name in pair}
                paired = Paired(both, {})
                chips = paired.difference(*order, over="chips")
                seeds = paired.difference(*order, over="seeds") if len(common) > 1 else None
                found[*pair, kind] = _Gain(
                    gain=chips.interval,
                    gain_over_seeds=None if seeds is None else seeds.interval,
                    p_value=chips.p_value,
                    p_value_alone=None if seeds is None else seeds.p_value,
                )
    noisy = {key: gain for key, gain in found.items() if key[-1] != CLEAN}
    over_chips = _after_holm({key: gain.p_value for key, gain in noisy.items()})
    over_seeds = _after_holm({key: gain.p_value_alone for key, gain in noisy.items()})
    return {
        key: replace(gain, p_value=over_chips.get(key), p_value_seeds=over_seeds.get(key))
        for key, gain in found.items()
    }


def _after_holm(p_values: Mapping[tuple[str, str, str], float | None]) -> dict[tuple[str, str, str], float]:
    """Holm's adjusted p-values of the comparisons that have one."""
    known = {key: p for key, p in p_values.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _with_gains(view: View, gains: _Gains, baseline: str) -> View:
    def of(row: SummaryRow) -> SummaryRow:
        return replace(row, **vars(gains.get((row.method, baseline, row.kind), _Gain())))

    return replace(view, rows=tuple(map(of, view.rows)), baseline=baseline)
