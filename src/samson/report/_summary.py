"""From the records of a comparison to its summary: means, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from samson.records import Interval, RunRecord
from samson.statistics import Paired, Trials, family

BASELINE = "sgd"


@dataclass(frozen=True)
class SummaryRow:
    """One method at one noise level; accuracies and their differences are fractions.

    Args:
        method: Name of the method.
        noise: Name of the noise family.
        level: Noise level; 0 is the noise-free network.
        accuracy: Mean over chips with its interval. The unit is the chip, averaged over the seeds' networks.
        over_seeds: The same mean with its interval over training seeds and chips: other networks, trained like these.
            None with one seed.
        std: Standard deviation between these chips' means; 0 at level 0.
        worst: The lowest accuracy of any one network on any one chip.
        trials: Chips per network (1 at level 0).
        seeds: Number of networks, one a training seed; those whose training diverged do not count.
        by_seed: Each network's mean over chips, by training seed.
        gain: Paired difference to the baseline on the same chips and seeds; None for the baseline, or without it.
        gain_over_seeds: The same with its interval over training seeds and chips; None also with one seed.
        p_value: Of no gain on these networks, after Holm for all methods and levels above 0; None where there is none.
    """

    method: str
    noise: str
    level: float
    accuracy: Interval
    over_seeds: Interval | None
    std: float
    worst: float
    trials: int
    seeds: int
    by_seed: dict[int, float]
    gain: Interval | None
    gain_over_seeds: Interval | None
    p_value: float | None


def summarise(records: Sequence[RunRecord], baseline: str = BASELINE) -> list[SummaryRow]:
    """Summarise each method at each level, methods and levels in the configuration's order.

    For these networks the unit is the chip: its accuracy is averaged over the networks of all training seeds. Level 0
    has one noise-free evaluation per network and an interval of width 0. For other networks, trained like these, the
    unit is the training seed (see `Paired`). Gains are over the seeds that both methods have.

    Args:
        records: Records of one comparison; not all need be there.
        baseline: Method to which the others are compared.

    Raises:
        ValueError: If the records belong to different comparisons.
    """
    if not records:
        return []
    plan = records[0].configuration
    if any(record.configuration != plan for record in records):
        raise ValueError("`records` must belong to one comparison, got several configurations.")
    step = 1 / records[0].examples
    pairs: dict[tuple[str, int], Paired] = {}
    for number in range(len(plan.levels)):
        reference = _trials(records, baseline, number)
        for method in plan.methods:
            own = _trials(records, method, number)
            common = [seed for seed in own if seed in reference]
            if common and method != baseline:
                both = {method: own, baseline: reference}
                found = {name: [Trials(of[seed], step, (0.0, 1.0)) for seed in common] for name, of in both.items()}
                pairs[method, number] = Paired(found, {})
    noisy = {f"{method} {n}": paired for (method, n), paired in pairs.items() if plan.levels[n]}
    p_values = {label: row.p_value for (label, _), row in family(noisy, baseline, over="chips").rows.items()}
    rows = []
    for method in plan.methods:
        for number, level in enumerate(plan.levels):
            own = _trials(records, method, number)
            if not own:
                continue
            alone = Paired({method: [Trials(values, step, (0.0, 1.0)) for values in own.values()]}, {})
            chips = np.mean(list(own.values()), axis=0)
            paired = pairs.get((method, number))
            rows.append(
                SummaryRow(
                    method=method,
                    noise=plan.noise,
                    level=level,
                    accuracy=alone.mean(method, over="chips"),
                    over_seeds=alone.mean(method, over="seeds") if len(own) > 1 else None,
                    std=float(chips.std(ddof=1)) if len(chips) > 1 else 0.0,
                    worst=min(map(min, own.values())),
                    trials=len(chips),
                    seeds=len(own),
                    by_seed={seed: float(np.mean(values)) for seed, values in own.items()},
                    gain=None if paired is None else paired.difference(method, baseline, over="chips").interval,
                    gain_over_seeds=None
                    if paired is None or len(paired.models[method]) < 2
                    else paired.difference(method, baseline, over="seeds").interval,
                    p_value=p_values.get(f"{method} {number}"),
                )
            )
    return rows


def _trials(records: Iterable[RunRecord], method: str, number: int) -> dict[int, tuple[float, ...]]:
    of_method = {r.seed: r.levels[number].accuracies for r in records if r.method == method and r.levels}
    return dict(sorted(of_method.items()))
