"""Intervals: the quantile against scipy, the formula by hand, and coverage on a known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from samson.evaluation import mean_interval, paired_interval
from samson.evaluation.statistics import student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 19, 49, 99, 999, 100_000])
@pytest.mark.parametrize("probability", [0.01, 0.5, 0.6, 0.9, 0.975, 0.995, 0.9999])
def test_student_quantile_is_scipys(degrees: int, probability: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert student_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_formula_by_hand() -> None:
    values = [0.90, 0.94, 0.92, 0.96]
    half = stats.t.ppf(0.975, 3) * math.sqrt(sum((v - 0.93) ** 2 for v in values) / 3) / 2
    interval = mean_interval(values)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.93, 0.93 - half, 0.93 + half), rel=1e-8)
    assert mean_interval(values, confidence=0.99).high > interval.high


@pytest.mark.parametrize("chips", [5, 20])
def test_the_interval_covers_a_known_truth(chips: int) -> None:
    """4,000 sets of chips with a known mean accuracy: the interval contains it in 93 to 97 % of them."""
    rng = np.random.default_rng(0)
    truth, repetitions = 0.8, 4000
    draws = rng.normal(truth, 0.03, (repetitions, chips))
    intervals = [mean_interval(row.tolist()) for row in draws]
    coverage = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.93 <= coverage <= 0.97
    # The check can fail: the normal quantile in place of Student's covers too little with few chips,
    # and half the width covers far too little.
    half = np.mean([abs(i.mean - truth) <= (i.high - i.low) / 4 for i in intervals])
    assert half < 0.93
    if chips == 5:
        shrink = stats.norm.ppf(0.975) / stats.t.ppf(0.975, 4)
        assert np.mean([abs(i.mean - truth) <= shrink * (i.high - i.low) / 2 for i in intervals]) < 0.93


def test_the_paired_interval_covers_and_uses_the_pairs() -> None:
    rng = np.random.default_rng(1)
    truth, covered, ratios = 0.02, [], []
    for _ in range(4000):
        chip = rng.normal(0, 0.05, 20)
        a, b = 0.8 + truth + chip + rng.normal(0, 0.01, 20), 0.8 + chip + rng.normal(0, 0.01, 20)
        interval = paired_interval(a.tolist(), b.tolist())
        covered.append(interval.low <= truth <= interval.high)
        ratios.append((interval.high - interval.low) / (mean_interval(a.tolist()).high - mean_interval(a.tolist()).low))
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(ratios) < 0.5  # what the chips have in common cancels


@pytest.mark.parametrize(
    ("values", "message"), [([0.5], "at least 2 values"), ([], "at least 2"), ([0.5, math.nan], "must be finite")]
)
def test_bad_values_are_named(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="same chips, got 2 and 3"):
        paired_interval([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([0.1, 0.2], confidence=1.0)
    with pytest.raises(ValueError, match="`degrees` must be ≥ 1"):
        student_quantile(0.9, 0)
