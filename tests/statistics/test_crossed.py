"""Crossed levels of randomness: the formula for chips x examples by hand, and coverage on a known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from samson.statistics import Component, combine, components, crossed_interval, crossed_share_interval, spread


def by_hand(values: np.ndarray, *, with_kurtosis: bool = False) -> tuple[float, float]:
    """V = S_c + S_e − S_ce and its degrees of freedom, from the residuals themselves."""
    chips, examples = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    residuals = values - rows[:, None] - columns[None] + values.mean()
    s_c, s_e = rows.var(ddof=1) / chips, columns.var(ddof=1) / examples
    s_ce = (residuals**2).sum() / ((chips - 1) * (examples - 1)) / (chips * examples)
    v = s_c + s_e - s_ce
    of_c, of_e = chips - 1, examples - 1
    if with_kurtosis:
        of_c, of_e = (
            2 / (2 / (len(m) - 1) + max(0, stats.kurtosis(m)) / len(m))  # of which the variance of m's variance is made
            for m in (rows, columns)
        )
    spread = s_c**2 / of_c + s_e**2 / of_e + s_ce**2 / ((chips - 1) * (examples - 1))
    return v, v**2 / spread


def answers(rng: np.random.Generator, chips: int, examples: int) -> np.ndarray:
    """Right answers with a spread between chips, between examples, and in each pair of them."""
    size = rng.normal(0, 0.3, (chips, 1)) + rng.normal(1.2, 1.0, (1, examples)) + rng.normal(0, 0.7, (chips, examples))
    return size > 0


TRUTH = stats.norm.cdf(1.2 / math.sqrt(0.3**2 + 1.0**2 + 0.7**2))


@pytest.mark.parametrize("kind", [bool, float])
def test_chips_and_examples_are_the_published_formula(kind: type) -> None:
    values = answers(np.random.default_rng(0), 7, 40).astype(kind)
    v, degrees = by_hand(values.astype(float))
    interval = crossed_interval(values)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(v)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


def test_three_levels_estimate_the_variance_of_the_mean_without_bias() -> None:
    """Inclusion and exclusion over seeds, chips and examples, against the true variance of the grand mean."""
    rng = np.random.default_rng(1)
    sizes, found, means, uncorrected = (4, 6, 8), [], [], []
    stds = {(0,): 0.5, (1,): 0.4, (2,): 0.3, (0, 1): 0.6, (0, 2): 0.5, (1, 2): 0.7, (0, 1, 2): 1.0}
    for _ in range(3000):
        table = np.zeros(sizes)
        for axes, std in stds.items():
            table += rng.normal(0, std, [n if axis in axes else 1 for axis, n in enumerate(sizes)])
        parts = components(table)
        found.append(sum((-1) ** (len(axes) + 1) * part.variance for axes, part in parts.items()))
        uncorrected.append(sum(part.variance for axes, part in parts.items() if len(axes) == 1))
        means.append(table.mean())
    truth = sum(std**2 / math.prod(sizes[axis] for axis in axes) for axes, std in stds.items())
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / math.sqrt(3000)
    assert np.var(means) == pytest.approx(truth, rel=0.1)
    # The check can fail: the main effects alone count what they share twice.
    assert abs(np.mean(uncorrected) - truth) > 4 * np.std(uncorrected) / math.sqrt(3000)


def test_the_interval_covers_other_chips_and_other_examples() -> None:
    rng, inside, pooled = np.random.default_rng(10), [], []
    for _ in range(4000):
        values = answers(rng, 10, 100)
        interval = crossed_interval(values)
        inside.append(interval.low <= TRUTH <= interval.high)
        half = 1.96 * math.sqrt(values.mean() * (1 - values.mean()) / values.size)
        pooled.append(abs(values.mean() - TRUTH) <= half)
    assert 0.93 <= np.mean(inside) <= 0.97
    assert np.mean(pooled) < 0.65  # counting every answer as independent covers far too little


def test_a_floor_takes_its_own_degrees_of_freedom() -> None:
    # Rows that mirror each other: chips alone spread, examples alone do not.
    values = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]) + np.array([[0.1], [0.0]])
    found = components(values)
    assert combine(found, [(0,)]) == (Component(values.mean(axis=1).var(ddof=1) / 2, 1),)
    assert combine(found) == (found[(0, 1)],)  # nothing left: the largest, which is the interaction
    alike = np.eye(2, dtype=bool)[:, :, None].repeat(3, axis=2)  # seeds of one mean, and examples that are all alike
    found = components(alike)
    assert combine(found, [(0,)]) == (found[(0, 1)], found[(0,)])
    share = crossed_share_interval(alike, floor=[(0,)])
    assert 0 < share.low < 0.5 < share.high <= 1


@pytest.mark.parametrize(("mu", "examples"), [(1.2, 100), (3.2, 200), (3.8, 1000)])
def test_shares_near_one_are_covered_by_exact_limits(mu: float, examples: int) -> None:
    """At a truth of .9995 the symmetric interval covers far too little."""
    rng, exact, symmetric = np.random.default_rng(11), [], []
    truth = stats.norm.cdf(mu / math.sqrt(0.2**2 + 1 + 0.5**2))
    for _ in range(600):
        of_chips, of_examples = rng.normal(0, 0.2, (10, 1)), rng.normal(mu, 1.0, (1, examples))
        values = of_chips + of_examples + rng.normal(0, 0.5, (10, examples)) > 0
        share, plain = crossed_share_interval(values), crossed_interval(values)
        assert 0 <= share.low <= share.mean <= share.high <= 1
        exact.append(share.low <= truth <= share.high)
        symmetric.append(plain.low <= truth <= plain.high)
    assert np.mean(exact) >= 0.93
    if mu > 3:
        assert np.mean(symmetric) < 0.9


def test_exact_limits_are_those_of_the_effective_number() -> None:
    values = answers(np.random.default_rng(12), 8, 50)
    v, degrees = by_hand(values.astype(float), with_kurtosis=True)
    share = values.mean()
    n = share * (1 - share) / v * (stats.norm.ppf(0.025) / stats.t.ppf(0.025, degrees)) ** 2
    found = crossed_share_interval(values)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, n * share, n * (1 - share) + 1))
    assert found.high == pytest.approx(stats.beta.ppf(0.975, n * share + 1, n * (1 - share)))
    same = crossed_share_interval(np.ones((5, 100), dtype=bool))  # of as many examples
    assert (same.low, same.high) == pytest.approx((0.025 ** (1 / 100), 1.0))


def test_equal_values_have_no_interval_of_width_0() -> None:
    half = stats.t.ppf(0.975, 6) * 0.1 / math.sqrt(12)
    assert crossed_interval(np.full((3, 4), 0.5), resolution=0.1).half_width == pytest.approx(half)
    assert spread(np.ones((3, 4)), np.ones((3, 4)), shared=(0, 1)).interval(0.95, 0.1).high == pytest.approx(half)
    assert spread(np.ones((3, 4)), np.ones((3, 4)), shared=(0, 1)).p_value(0.1) == 1.0
