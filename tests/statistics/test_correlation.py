"""Rank correlation: the numbers of scipy, whole methods resampled as copies, and what single points would claim."""

import numpy as np
import pytest
from scipy import stats

from samson.statistics import rank_correlation


def by_method(values: np.ndarray) -> dict[str, list[float]]:
    return {f"m{i}": row for i, row in enumerate(values.tolist())}


def simulated(rng: np.random.Generator, methods: int, seeds: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Methods that correlate, and networks of one method that are alike in both quantities."""
    a = rng.normal(size=(methods, 1))
    b = correlation * a + (1 - correlation**2) ** 0.5 * rng.normal(size=(methods, 1))
    return tuple(of + 0.3 * rng.normal(size=(methods, seeds)) for of in (a, b))


@pytest.mark.parametrize("ties", [False, True])
def test_the_estimates_are_those_of_scipy(ties: bool) -> None:
    x, y = simulated(np.random.default_rng(0), 8, 3, -0.6)
    if ties:
        x, y = np.round(x, 0), np.round(y, 1)
    found = rank_correlation(by_method(x), by_method(y))
    assert found.kendall.mean == pytest.approx(stats.kendalltau(x.ravel(), y.ravel()).statistic, abs=1e-12)
    assert found.spearman.mean == pytest.approx(stats.spearmanr(x.ravel(), y.ravel()).statistic, abs=1e-12)
    means = x.mean(axis=1), y.mean(axis=1)
    assert found.kendall_of_means == pytest.approx(stats.kendalltau(*means).statistic, abs=1e-12)
    assert found.spearman_of_means == pytest.approx(stats.spearmanr(*means).statistic, abs=1e-12)
    assert (found.points, found.methods) == (24, 8)
    assert found.kendall.low < found.kendall.mean < found.kendall.high


def test_means_that_are_all_the_same_go_with_nothing() -> None:
    """They have no order, so that scipy has no number; a record must hold one."""
    same = {name: [1.0, 0.5] if place % 2 else [0.5, 1.0] for place, name in enumerate("abcdef")}
    other = {name: [float(place), place + 0.5] for place, name in enumerate("abcdef")}
    assert np.isnan(stats.kendalltau([0.75] * 6, range(6)).statistic)
    for pair in ((same, other), (other, same)):
        found = rank_correlation(*pair, confidence=0.995, resamples=200)
        assert (found.kendall_of_means, found.spearman_of_means) == (0.0, 0.0)
        assert "(99.5%, 6 methods resampled whole, 12 networks)" in str(found)


def test_means_of_the_same_values_in_another_order_are_equal() -> None:
    same = {name: [0.1, 0.2, 0.3] if place % 2 else [0.3, 0.2, 0.1] for place, name in enumerate("abcdef")}
    other = {name: [float(place)] * 3 for place, name in enumerate("abcdef")}
    assert rank_correlation(same, other, resamples=200).kendall_of_means == 0
    alike = {name: [0.1, 0.2, 0.3] if place % 2 else [0.2] * 3 for place, name in enumerate("abcdef")}
    assert rank_correlation(alike, other, resamples=200).kendall_of_means == 0


def test_the_interval_is_of_copies_of_whole_methods() -> None:
    rng = np.random.default_rng(1)
    sizes = [1, 2, 3, 3, 2, 4, 3]  # not every method has every seed
    x, y = ([np.round(rng.normal(size=size), 1).tolist() for size in sizes] for _ in range(2))
    found = rank_correlation(*({f"m{i}": row for i, row in enumerate(of)} for of in (x, y)), resamples=200, seed=4)
    taus, rhos = [], []
    for draw in np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), size=200):
        a, b = (np.concatenate([of[m] for m in range(7) for _ in range(draw[m])]) for of in (x, y))
        taus.append(stats.kendalltau(a, b).statistic)
        rhos.append(stats.spearmanr(a, b).statistic)
    for interval, resampled in ((found.kendall, taus), (found.spearman, rhos)):
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=1e-12)


def test_a_resampling_costs_methods_times_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of each with all pairs of networks took most of the time."""
    costs, sign = [], np.sign

    class Counted(np.ndarray):
        def __rmatmul__(self, other: np.ndarray) -> np.ndarray:
            costs.append(other.size * self.shape[1])
            return np.matmul(other, self)

    x, y = map(by_method, simulated(np.random.default_rng(5), 6, 4, 0.5))
    plain = rank_correlation(x, y, resamples=1000)
    monkeypatch.setattr(np, "sign", lambda values: sign(values).view(Counted))
    assert rank_correlation(x, y, resamples=1000) == plain
    assert max(costs) == 1000 * 6 * 24


def test_the_interval_covers_and_single_points_would_not() -> None:
    rng = np.random.default_rng(2)
    methods, seeds, size = 7, 3, 250
    sets = [simulated(rng, methods, seeds, -0.7) for _ in range(size)]
    found = [rank_correlation(by_method(x), by_method(y), resamples=500) for x, y in sets]
    for name in ("kendall", "spearman"):
        truth = np.mean([getattr(f, name).mean for f in found])
        inside = [getattr(f, name).low <= truth <= getattr(f, name).high for f in found]
        assert 0.90 <= np.mean(inside) <= 0.99
    truth = np.mean([f.kendall.mean for f in found])
    apart = [rank_correlation(*(by_method(v.reshape(-1, 1)) for v in xy), resamples=300).kendall for xy in sets]
    assert np.mean([i.low <= truth <= i.high for i in apart]) < 0.87  # each network counted as a method of its own


def test_the_seed_decides() -> None:
    x, y = map(by_method, simulated(np.random.default_rng(3), 6, 2, 0.5))
    one, again, other = (rank_correlation(x, y, seed=seed, resamples=200) for seed in (1, 1, 2))
    assert one == again
    assert (one.spearman.low, one.spearman.high) != (other.spearman.low, other.spearman.high)
    wide, narrow = rank_correlation(x, y, confidence=0.99).kendall, rank_correlation(x, y, confidence=0.5).kendall
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("change", "setting", "message"),
    [
        ({"m0": None}, {}, "at least 6 methods, got 5: an interval counts methods, not networks"),
        ({"m0": []}, {}, "`sharpness` must have a value for each method, got none for one"),
        ({"m0": [1.0]}, {}, "`robustness` must have the methods and seeds"),
        ({f"m{i}": [1.0, 1.0] for i in range(6)}, {}, "`sharpness` must be finite and differ"),
        ({"m0": [1.0, float("nan")]}, {}, "`sharpness` must be finite and differ"),
        ({}, {"confidence": 95}, "`confidence` must lie between 0 and 1, got 95"),
        ({}, {"resamples": 10}, "`resamples` must be at least 100, got 10"),
    ],
)
def test_bad_input_is_an_error(change: dict[str, list[float] | None], setting: dict[str, float], message: str) -> None:
    x, y = map(by_method, simulated(np.random.default_rng(4), 6, 2, 0.5))
    changed = {name: values for name, values in (x | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        rank_correlation(changed, y, **setting)
