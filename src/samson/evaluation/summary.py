"""From the records of a comparison to its summary: means, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from samson.evaluation.statistics import mean_interval, paired_interval
from samson.records import Estimate, RunRecord, SummaryRow

BASELINE = "sgd"


def summarise(records: Sequence[RunRecord], baseline: str = BASELINE) -> list[SummaryRow]:
    """Summarise each method at each level, methods and levels in the configuration's order.

    The unit is the chip: its accuracy is averaged over the networks of all training seeds, and the interval is
    that of `mean_interval` over chips. So it speaks of these networks on other chips, not of other training
    seeds. The gain is the same for chip-by-chip differences, over the seeds that both methods have. Level 0 has one
    noise-free evaluation per network and an interval of width 0.

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
    rows = []
    for method in plan.methods:
        for number, level in enumerate(plan.levels):
            own = _trials(records, method, number)
            if not own:
                continue
            table = np.array(list(own.values()))
            chips = table.mean(axis=0)
            rows.append(
                SummaryRow(
                    method=method,
                    noise=plan.noise,
                    level=level,
                    accuracy=_estimate(chips),
                    std=float(chips.std(ddof=1)) if len(chips) > 1 else 0.0,
                    worst=float(table.min()),
                    trials=len(chips),
                    seeds=len(own),
                    by_seed={seed: float(np.mean(values)) for seed, values in own.items()},
                    gain=None if method == baseline else _gain(own, _trials(records, baseline, number)),
                )
            )
    return rows


def _trials(records: Iterable[RunRecord], method: str, number: int) -> dict[int, tuple[float, ...]]:
    of_method = {r.seed: r.levels[number].accuracies for r in records if r.method == method}
    return dict(sorted(of_method.items()))


def _gain(own: dict[int, tuple[float, ...]], baseline: dict[int, tuple[float, ...]]) -> Estimate | None:
    common = [seed for seed in own if seed in baseline]
    if not common:
        return None
    return _estimate(
        np.mean([own[seed] for seed in common], axis=0), np.mean([baseline[seed] for seed in common], axis=0)
    )


def _estimate(chips: NDArray[np.float64], baseline: NDArray[np.float64] | None = None) -> Estimate:
    if len(chips) == 1:
        mean = float(chips[0] if baseline is None else chips[0] - baseline[0])
        return Estimate(mean, mean, mean)
    values = chips.tolist()
    interval = mean_interval(values) if baseline is None else paired_interval(values, baseline.tolist())
    return Estimate(interval.mean, interval.low, interval.high)
