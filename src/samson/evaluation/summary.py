"""From the records of a comparison to its summary: means, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from samson.evaluation.crossed import crossed_interval
from samson.evaluation.statistics import mean_interval
from samson.records import Estimate, RunRecord, SummaryRow

BASELINE = "sgd"


def summarise(records: Sequence[RunRecord], baseline: str = BASELINE) -> list[SummaryRow]:
    """Summarise each method at each level, methods and levels in the configuration's order.

    For these networks the unit is the chip: its accuracy is averaged over the networks of all training seeds, and the
    interval is that of `mean_interval` over chips; level 0 has one noise-free evaluation per network and an interval of
    width 0. For other networks, trained like these, the unit is the training seed: `crossed_interval` over seeds x
    chips, never narrower than the seeds alone make it. The gain has both for seed-by-seed and chip-by-chip differences,
    over the seeds that both methods have.

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
            step = 1 / records[0].examples
            gains = None if method == baseline else _gains(own, _trials(records, baseline, number))
            rows.append(
                SummaryRow(
                    method=method,
                    noise=plan.noise,
                    level=level,
                    accuracy=_estimate(chips, step),
                    over_seeds=_over_seeds(table, step, (0.0, 1.0)),
                    std=float(chips.std(ddof=1)) if len(chips) > 1 else 0.0,
                    worst=float(table.min()),
                    trials=len(chips),
                    seeds=len(own),
                    by_seed={seed: float(np.mean(values)) for seed, values in own.items()},
                    gain=None if gains is None else _estimate(gains.mean(axis=0), step),
                    gain_over_seeds=None if gains is None else _over_seeds(gains, step, (-1.0, 1.0)),
                )
            )
    return rows


def _trials(records: Iterable[RunRecord], method: str, number: int) -> dict[int, tuple[float, ...]]:
    of_method = {r.seed: r.levels[number].accuracies for r in records if r.method == method}
    return dict(sorted(of_method.items()))


def _gains(own: dict[int, tuple[float, ...]], baseline: dict[int, tuple[float, ...]]) -> NDArray[np.float64] | None:
    """Differences by seed and chip, of the seeds that both have."""
    common = [seed for seed in own if seed in baseline]
    return np.subtract([own[seed] for seed in common], [baseline[seed] for seed in common]) if common else None


def _estimate(chips: NDArray[np.float64], step: float) -> Estimate:
    if len(chips) == 1:
        return Estimate(*[float(chips[0])] * 3)
    interval = mean_interval(chips.tolist(), resolution=step)
    return Estimate(interval.mean, interval.low, interval.high)


def _over_seeds(table: NDArray[np.float64], step: float, bounds: tuple[float, float]) -> Estimate | None:
    """The mean of seeds x chips with the interval for other seeds and chips; None with one seed."""
    seeds, chips = table.shape
    if seeds == 1:
        return None
    if chips == 1:
        interval = mean_interval(table[:, 0].tolist(), resolution=step)
    else:
        interval = crossed_interval(table, floor=[(0,)], resolution=step)
    return Estimate(interval.mean, max(bounds[0], interval.low), min(bounds[1], interval.high))
