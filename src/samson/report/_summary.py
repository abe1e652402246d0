"""From the records of a comparison to its summary: means, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from samson.records import CLEAN, ChipFamily, Interval, Problem, RunRecord
from samson.statistics import Paired, Trials, family

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
    gain: Interval | None
    gain_over_seeds: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class View:
    """One problem's networks on one family of chips: what a reader looks at.

    Args:
        problem: The problem.
        family: The family.
        records: The runs of the problem.
        rows: Their summary: methods in their order, the noise-free network first for each.
        baseline: The method to which the others are compared.
    """

    problem: Problem
    family: ChipFamily
    records: tuple[RunRecord, ...]
    rows: tuple[SummaryRow, ...]
    baseline: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """The labels of the kinds, the noise-free network first."""
        return CLEAN, *(kind.label for kind in self.family.kinds)

    @property
    def table(self) -> dict[str, dict[str, SummaryRow]]:
        """The rows by method and kind, in their order."""
        found: dict[str, dict[str, SummaryRow]] = {}
        for row in self.rows:
            found.setdefault(row.method, {})[row.kind] = row
        return found


def views(records: Sequence[RunRecord]) -> list[View]:
    """Every problem of a comparison on each of its families of chips.

    Raises:
        ValueError: If records of one problem do not belong together.
    """
    by_problem: dict[str, list[RunRecord]] = {}
    for record in records:
        by_problem.setdefault(record.problem.name, []).append(record)
    return [
        view(of_problem, number)
        for of_problem in by_problem.values()
        for number in range(len(of_problem[0].families))
        if any(record.measured for record in of_problem)
    ]


def view(records: Sequence[RunRecord], number: int = 0) -> View:
    """The runs of one problem on one family of chips.

    For these networks the unit is the chip: its value is averaged over the networks of all training seeds. The
    noise-free network has one evaluation per network and an interval of width 0. For other networks, trained like
    these, the unit is the training seed (see `Paired`). Gains are over the seeds that both methods have.

    Args:
        records: Records of one problem, at least one; not all need be there.
        number: Of the family of chips.

    Raises:
        ValueError: If the records do not belong together.
    """
    first = records[0]
    for record in records:
        same = (record.problem, record.families, record.trials, record.chip_seed)
        if same != (first.problem, first.families, first.trials, first.chip_seed):
            raise ValueError("`records` must belong to one comparison, got several configurations.")
    methods = list(dict.fromkeys(record.method for record in records if record.measured))
    baseline = next((name for name in BASELINES if name in methods), next(iter(methods), ""))
    chips = first.families[number]
    empty = View(first.problem, chips, tuple(records), (), baseline)
    return replace(empty, rows=tuple(_rows(empty, number, methods)))


def _rows(view: View, number: int, methods: Sequence[str]) -> Iterable[SummaryRow]:
    problem, baseline = view.problem, view.baseline
    bounds = (0.0, 1.0) if problem.is_fraction else None
    step = 1 / view.records[0].examples if problem.is_fraction else 0.0
    values = {
        (method, kind): _trials(view.records, method, number, place)
        for method in methods
        for place, kind in enumerate(view.kinds)
    }
    pairs: dict[tuple[str, str], Paired] = {}
    for (method, kind), own in values.items():
        reference = values[baseline, kind]
        common = [seed for seed in own if seed in reference]
        if common and method != baseline:
            both = {method: own, baseline: reference}
            found = {name: [Trials(of[seed], step, bounds) for seed in common] for name, of in both.items()}
            pairs[method, kind] = Paired(found, {})
    noisy = {f"{method}\n{kind}": paired for (method, kind), paired in pairs.items() if kind != CLEAN}
    p_values = {label: row.p_value for (label, _), row in family(noisy, baseline, over="chips").rows.items()}
    for (method, kind), own in values.items():
        if not own:
            continue
        alone = Paired({method: [Trials(of_seed, step, bounds) for of_seed in own.values()]}, {})
        chips = np.mean(list(own.values()), axis=0)
        paired = pairs.get((method, kind))
        order = (method, baseline) if problem.higher_is_better else (baseline, method)
        worst = min if problem.higher_is_better else max
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
            gain=None if paired is None else paired.difference(*order, over="chips").interval,
            gain_over_seeds=None
            if paired is None or len(paired.models[method]) < 2
            else paired.difference(*order, over="seeds").interval,
            p_value=p_values.get(f"{method}\n{kind}"),
        )


def _trials(records: Iterable[RunRecord], method: str, number: int, place: int) -> dict[int, tuple[float, ...]]:
    """One value a chip, by training seed; place 0 is the noise-free network."""
    found = {
        record.seed: (float(record.clean or 0.0),) if place == 0 else record.measured[number][place - 1]
        for record in records
        if record.method == method and record.measured
    }
    return dict(sorted(found.items()))
