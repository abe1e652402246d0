"""Intervals over chips: formulas against scipy and root finding, and coverage on a known truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, stats

from samson.statistics import mean_bound, mean_interval, mean_p_value, share_interval, smallest_step

REPETITIONS = 4000


def hall(values: np.ndarray, mu: float) -> float:
    """Hall's transformed statistic, written again: it follows Student's t if μ is the mean."""
    n, g = len(values), stats.skew(values, bias=False)
    w = (values.mean() - mu) / values.std(ddof=1)
    return math.sqrt(n) * (w + g * w**2 / 3 + g**2 * w**3 / 27 + g / (6 * n))


def test_few_values_have_students_interval() -> None:
    values = [0.90, 0.94, 0.92, 0.96]
    half = stats.t.ppf(0.975, 3) * math.sqrt(sum((v - 0.93) ** 2 for v in values) / 3) / 2
    interval = mean_interval(values)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.93, 0.93 - half, 0.93 + half), rel=1e-8)
    assert mean_interval(values, confidence=0.99).high > interval.high
    assert interval.half_width == pytest.approx(half)


@pytest.mark.parametrize("probability", [0.005, 0.025, 0.3, 0.95, 0.999])
def test_bounds_solve_the_transformed_statistic(probability: float) -> None:
    values = 1 - np.random.default_rng(3).exponential(0.05, 25)
    bound = mean_bound(values.tolist(), probability)
    skewed = optimize.brentq(lambda mu: hall(values, mu) - stats.t.ppf(1 - probability, 24), -1, 2)
    plain = values.mean() - values.std(ddof=1) / 5 * stats.t.ppf(1 - probability, 24)
    assert abs(skewed - plain) > 1e-5  # the skewness of these values is seen
    assert bound == pytest.approx((min if probability < 0.5 else max)(skewed, plain), rel=1e-9)


@pytest.mark.parametrize(
    "tail", [lambda rng, shape: rng.lognormal(0, 1, shape), lambda rng, shape: rng.beta(0.1, 9, shape)]
)
def test_differences_of_equal_methods_are_seldom_significant(tail: Callable[..., np.ndarray]) -> None:
    """They are symmetric, and few chips have an outlier that looks like skewness: Hall's p-value alone is too small."""
    rng, chips, level = np.random.default_rng(5), 20, 0.05
    differences = tail(rng, (1000, chips)) - tail(rng, (1000, chips))
    found = [mean_p_value(of.tolist()) < level for of in differences]
    assert np.mean(found) < level + 2 * math.sqrt(level * (1 - level) / 1000)
    alone = [2 * stats.t.sf(abs(hall(of, 0.0)), chips - 1) < level for of in differences]
    assert np.mean(alone) > 0.08


def test_the_p_value_is_where_the_interval_meets_zero() -> None:
    values = (0.02 - np.random.default_rng(4).exponential(0.03, 30)).tolist()
    p = mean_p_value(values)
    interval = mean_interval(values, confidence=1 - p)
    assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-9)
    assert mean_p_value([0.0] * 5) == 1.0


FAR_OFF = [-0.0349, -0.0339, -0.0320, -0.0310, -0.0283, -0.0273, -0.0249, -0.0216, -0.0034, 0.0071]
"""Differences on ten chips, two of which are far from the others."""


@pytest.mark.parametrize("sign", [1, -1])
def test_an_end_lies_no_further_than_the_outermost_value(sign: int) -> None:
    values = sign * np.array(FAR_OFF)
    low, high = (optimize.brentq(lambda mu, t=t: hall(values, mu) - t, -1, 1) for t in stats.t.ppf([0.975, 0.025], 9))
    assert max(abs(low), abs(high)) > 0.018  # by skewness alone: more than twice as far as the chip that is furthest
    half = stats.t.ppf(0.975, 9) * values.std(ddof=1) / math.sqrt(10)
    plain = values.mean() - half, values.mean() + half
    wanted = (min(low, plain[0]), 0.0071) if sign > 0 else (-0.0071, max(high, plain[1]))
    found = mean_interval(values.tolist())
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_values_on_one_side_of_zero_leave_it_out_where_students_interval_does(sign: int) -> None:
    values = sign * (np.array(FAR_OFF) - 0.01)
    high = optimize.brentq(lambda mu: hall(values, mu) - stats.t.ppf(0.5 - sign * 0.475, 9), -1, 1)
    assert sign * high > 0  # by skewness alone, on the other side of zero
    found = mean_interval(values.tolist())
    assert found.low * found.high > 0
    assert mean_p_value(values.tolist()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_an_interval_leaves_zero_out_where_p_says_so() -> None:
    rng = np.random.default_rng(5)
    seen = []
    for shift in np.linspace(0, 2, 400):
        values = (rng.choice([-1, 1]) * (rng.lognormal(0, 1, rng.integers(8, 14)) - shift)).tolist()
        p = mean_p_value(values)
        for confidence in (0.8, 0.95, 0.99, 1 - 1.0001 * p, 1 - 0.9999 * p):
            interval = mean_interval(values, confidence)
            assert (interval.low > 0 or interval.high < 0) == (p < 1 - confidence)
            seen.append((p < 1 - confidence, min(values) > 0 or max(values) < 0))
    assert len(set(seen)) == 4


def chips_of(name: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Sets of chips with a known mean: Gaussian, or Beta with sd = factor·√(mean·(1 − mean))."""
    if name == "gauss":
        return rng.normal(0.9, 0.03, (REPETITIONS, count)), 0.9
    mean, factor = map(float, name.split())
    total = 1 / factor**2 - 1
    return rng.beta(mean * total, (1 - mean) * total, (REPETITIONS, count)), mean


GRID = [
    *((10, name) for name in ("gauss", ".95 .1", ".99 .1")),
    *((50, name) for name in (".95 .3", ".99 .3")),
]


@pytest.mark.parametrize(("count", "name"), GRID)
def test_the_interval_covers_a_known_truth(count: int, name: str) -> None:
    chips, truth = chips_of(name, count, np.random.default_rng(0))
    intervals = [mean_interval(row.tolist()) for row in chips]
    coverage = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.93 <= coverage <= 0.97
    # The check can fail: Student's interval alone does on skewed chips, half the width always.
    half = np.mean([abs(i.mean - truth) <= (i.high - i.low) / 4 for i in intervals])
    assert half < 0.93
    if (count, name) in {(10, ".99 .1"), (50, ".99 .3")}:
        widths = stats.t.ppf(0.975, count - 1) * chips.std(axis=1, ddof=1) / math.sqrt(count)
        assert np.mean(np.abs(chips.mean(axis=1) - truth) <= widths) < 0.93


def test_equal_values_have_an_interval_with_a_width() -> None:
    interval = mean_interval([0.75] * 20, resolution=1 / 100)
    assert interval.half_width == pytest.approx(stats.t.ppf(0.975, 19) * 0.01 / math.sqrt(12) / math.sqrt(20))
    assert mean_interval([0.75] * 20).half_width == 0  # without a resolution nothing is known of one
    values = np.array([0.75] * 19 + [0.80])
    s = 0.05 / math.sqrt(12)  # of which the skewness is taken, too
    g = stats.skew(values, bias=False) * (values.std(ddof=1) / s) ** 3
    y = stats.t.ppf(0.975, 19) / math.sqrt(20)
    high = values.mean() - s * 3 / g * (math.cbrt(1 + g * (-y - g / 120)) - 1)
    found = mean_interval(values.tolist(), resolution=0.05)
    assert found.high == pytest.approx(high, rel=1e-9)
    assert found.low == pytest.approx(values.mean() - s * y, rel=1e-9)  # these are skewed to the other side


def test_values_as_large_as_records_may_hold_have_their_interval() -> None:
    found, large = mean_interval(FAR_OFF), mean_interval([1e151 * value for value in FAR_OFF])
    assert (large.low, large.high) == pytest.approx((1e151 * found.low, 1e151 * found.high))


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([9.0, 12.0, 14.0, 12.0], 2.0),
        ([-3.0, -3.0000002, 1.0], 4.0),  # a rounding error of float32
        ([7.0, 7.0], 0.0),
        ([1e-3, 1.1e-3, 1e4], 1e-4),  # beside one that exploded
        ([0.1 + 0.2, 0.3], 2**-20 * (0.1 + 0.2)),  # nothing but rounding
    ],
)
def test_the_smallest_step_is_no_rounding_error(values: list[float], step: float) -> None:
    assert smallest_step(values) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize(("share", "total"), [(0.5, 20), (0.9, 20), (0.99, 50), (0.999, 50), (1.0, 10)])
def test_the_share_interval_covers_at_least_as_often_as_it_says(share: float, total: int) -> None:
    """Exact, by summing over all outcomes; the normal approximation fails the same check near 1."""
    chances = stats.binom.pmf(range(total + 1), total, share)
    intervals = [share_interval(k, total) for k in range(total + 1)]
    assert sum(p for p, i in zip(chances, intervals, strict=True) if i.low <= share <= i.high) >= 0.95
    if share == 0.99:
        wald = [abs(k / total - share) <= 1.96 * math.sqrt(k / total * (1 - k / total) / total) for k in range(51)]
        assert sum(p for p, inside in zip(chances, wald, strict=True) if inside) < 0.95
    reference = stats.binomtest(total - 2, total).proportion_ci(0.9)
    ours = share_interval(total - 2, total, 0.9)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high))
