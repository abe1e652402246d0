"""Where a curve crosses a threshold: isotonic regression, whole curves resampled, and limits of skewed drops."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from samson.statistics import crossing, fixed_sequence, upper_limit


def test_the_estimate_is_read_off_the_isotonic_regression() -> None:
    levels = np.geomspace(0.1, 10, 9)
    found, expected = [], []
    for means in np.random.default_rng(0).normal(size=(50, 9)).round(1).cumsum(axis=1):  # rounded: with ties
        rising = optimize.isotonic_regression(means).x
        read = math.exp(np.interp(0.321, rising, np.log(levels)))
        expected.append(0.0 if rising[0] > 0.321 else math.inf if rising[-1] < 0.321 else read)
        found.append(crossing(levels, np.stack([means, means], axis=1), 0.321, 0.95).mean)
    assert found == pytest.approx(expected)
    assert {0.0, math.inf} < set(expected)
    assert len(set(expected)) > 10


def test_whole_curves_are_resampled_by_chips() -> None:
    """Two chips have three means, with chances ¼, ½ and ¼; expanded for two chips, the quantiles are the outer ones."""
    levels, curves = [1.0, 2.0, 4.0], np.array([[0.0, 0.0], [0.1, 0.3], [0.5, 0.7]])
    found = crossing(levels, curves, 0.4, 0.95)
    by_hand = [2 * 2 ** ((0.4 - low) / (high - low)) for low, high in ((0.3, 0.7), (0.2, 0.6), (0.1, 0.5))]
    assert (found.low, found.mean, found.high) == pytest.approx(tuple(by_hand))
    same = crossing(levels, curves[:, [0, 0]], 0.4, 0.95)
    assert same.low == same.high == same.mean == pytest.approx(by_hand[2])  # equal chips leave nothing to resample


def test_the_interval_has_percentiles_that_are_expanded_for_few_chips() -> None:
    levels = np.geomspace(0.1, 10, 7)
    curves = levels[:, None] * np.random.default_rng(1).lognormal(0, 0.5, 5)
    found = crossing(levels, curves, 1.0, 0.9)
    drawn = curves[:, np.random.default_rng(0).integers(5, size=(2000, 5))].mean(axis=2)
    crossed = [math.exp(np.interp(1.0, means, np.log(levels))) for means in drawn.T]
    tail = stats.norm.cdf(math.sqrt(5 / 4) * stats.t.ppf(0.05, 4))
    expected = np.quantile(crossed, [tail, 1 - tail], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert expected[0] < np.quantile(crossed, 0.05)  # plain percentiles are narrower


def test_a_level_above_one_that_fails_does_not_count() -> None:
    curves = np.array([[0.0, 0.001], [0.2, 0.3], [0.0, 0.001]])
    assert fixed_sequence([1.0, 2.0, 3.0], curves, 0.05, 0.95) == 1.0
    assert fixed_sequence([1.0, 3.0], curves[[0, 2]], 0.05, 0.95) == 3.0
    assert fixed_sequence([2.0, 3.0], curves[1:], 0.05, 0.95) == 0.0


def test_a_limit_of_skewed_drops_is_passed_as_seldom_as_stated() -> None:
    """Chips that lose max(ξ, 0) lose 1/√(2π) on average; 5 % of limits may be below that, of Student's 13 % are."""
    rng, mean, many = np.random.default_rng(3), 1 / math.sqrt(2 * math.pi), 2000
    drops = np.maximum(rng.normal(size=(many, 8)), 0)
    below = np.mean([upper_limit(row, 0.95) < mean for row in drops])
    t = drops.mean(1) + stats.t.ppf(0.95, 7) * drops.std(1, ddof=1) / math.sqrt(8)
    assert below <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / many)
    assert np.mean(t < mean) > 0.1  # the negative control


def test_a_limit_without_skewness_is_students_and_of_booleans_exact() -> None:
    assert upper_limit(np.array([0.0, 1.0]), 0.95) == pytest.approx(0.5 + stats.t.ppf(0.975, 1) / 2)
    assert upper_limit(np.full(20, 0.3), 0.95) == pytest.approx(0.3)
    left = 1 - stats.lognorm.ppf((np.arange(20) + 0.5) / 20, 0.6)
    plain = left.mean() + stats.t.ppf(0.95, 19) * left.std(ddof=1) / math.sqrt(20)
    assert upper_limit(left, 0.95) == pytest.approx(plain)  # a tail to the left is no reason to be lenient
    assert upper_limit(-left, 0.95) > plain - 2 * left.mean()
    bad = np.arange(30) < 4
    assert upper_limit(bad, 0.95) == pytest.approx(stats.binomtest(4, 30).proportion_ci(0.9).high)


def test_a_curve_at_the_threshold_keeps_to_it() -> None:
    for height, expected in ((0.1 + 1e-13, math.inf), (0.1, math.inf), (0.1 + 1e-9, 0.0)):
        assert crossing([1.0, 2.0], np.full((2, 5), height), 0.1, 0.95).mean == expected
    steep = np.array([[0.1 + 9e-13] * 2, [0.1 + 1.1e-12] * 2])
    assert crossing([1.0, 2.0], steep, 0.1, 0.95).mean == 1.0  # never below the level that keeps to it
    assert fixed_sequence([1.0, 2.0], np.full((2, 5), 0.25), 0.25, 0.95) == 2.0


def test_where_all_chips_are_bad_the_limit_is_one() -> None:
    assert upper_limit(np.ones(6, dtype=bool), 0.95) == 1.0
