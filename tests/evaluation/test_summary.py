"""The summary of hand-made records, against the numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from samson.evaluation import summarise
from tests.builders import record, records, with_plan


def row(rows: list, method: str, level: float) -> object:
    [found] = [r for r in rows if (r.method, r.level) == (method, level)]
    return found


def half_width(values: np.ndarray) -> float:
    return stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))


def test_the_unit_is_the_chip_averaged_over_seeds() -> None:
    rows = summarise(records())
    assert [(r.method, r.level) for r in rows] == [(m, x) for m in ("sgd", "samson") for x in (0.0, 0.1, 0.2)]
    chips = np.array([0.5, 0.5, 0.65])
    found = row(rows, "sgd", 0.2)
    assert found.accuracy.mean == pytest.approx(chips.mean())
    assert found.accuracy.high - found.accuracy.mean == pytest.approx(half_width(chips), rel=1e-8)
    assert found.std == pytest.approx(chips.std(ddof=1))
    assert (found.worst, found.trials, found.seeds) == (0.4, 3, 2)
    assert found.by_seed == pytest.approx({0: 0.6, 1: 0.5})
    assert found.gain is None


def test_the_gain_is_paired_by_chip() -> None:
    found = row(summarise(records()), "samson", 0.2)
    differences = np.array([0.8, 0.8, 0.9]) - np.array([0.5, 0.5, 0.65])
    assert found.gain.mean == pytest.approx(differences.mean())
    assert found.gain.mean - found.gain.low == pytest.approx(half_width(differences), rel=1e-8)


def test_without_noise_the_interval_has_no_width() -> None:
    found = row(summarise(records()), "samson", 0.0)
    assert (found.accuracy.low, found.accuracy.mean, found.accuracy.high) == pytest.approx((0.98, 0.98, 0.98))
    assert (found.gain.low, found.gain.high) == pytest.approx((0.01, 0.01))
    assert (found.trials, found.std) == (1, 0.0)


def test_unfinished_comparisons_use_the_seeds_that_both_have() -> None:
    rows = summarise([r for r in records() if (r.method, r.seed) != ("sgd", 1)])
    assert row(rows, "samson", 0.0).seeds == 2
    assert row(rows, "samson", 0.0).gain.mean == pytest.approx(0.01)  # seed 0 alone
    assert row(rows, "samson", 0.0).accuracy.mean == pytest.approx(0.98)
    alone = summarise([r for r in records() if r.method == "samson"])
    assert all(r.gain is None for r in alone)
    assert summarise([]) == []


def test_records_of_different_comparisons_are_refused() -> None:
    other = record("sgd", 0, [[0.9], [0.9] * 3, [0.9] * 3], with_plan(epochs=2))
    with pytest.raises(ValueError, match="one comparison"):
        summarise([*records(), other])
