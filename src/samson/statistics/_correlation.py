"""Rank correlation between sharpness and robustness over methods and training seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between, require_whole
from samson._shown import Shown
from samson.records import CorrelationRow, Interval, SharpnessRecord
from samson.statistics._means import CONFIDENCE
from samson.statistics._ranks import rounded

LEAST_METHODS = 6
"""Methods below which a rank correlation is refused."""
RESAMPLES = 10_000

Values = Mapping[str, Sequence[float]]
"""One value for each training seed, by method."""


@dataclass(frozen=True, repr=False)
class RankCorrelation(Shown):
    """Rank correlations between two quantities.

    Args:
        kendall: Kendall's τ-b over all points, with its interval.
        spearman: Spearman's ρ over all points, with its interval.
        kendall_of_means: τ-b over the methods' means, one point a method; 0 where these are all the same.
        spearman_of_means: ρ over the methods' means, likewise.
        points: Number of points.
        methods: Number of methods, which is what the intervals count.
        resamples: Resamplings of the methods.
        confidence: Of the intervals.
    """

    kendall: Interval
    spearman: Interval
    kendall_of_means: float
    spearman_of_means: float
    points: int
    methods: int
    resamples: int
    confidence: float

    def __str__(self) -> str:
        return (
            f"Kendall {self.kendall:+.2f}, Spearman {self.spearman:+.2f} "
            f"({100 * self.confidence:g}%, {self.methods} methods resampled whole, {self.points} networks)"
        )


def rank_correlation(
    sharpness: Values,
    robustness: Values,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RankCorrelation:
    """Kendall's τ-b and Spearman's ρ over all networks, with intervals from resampling whole methods.

        s_ij = sign(x_i − x_j),   t_ij = sign(y_i − y_j),   a_i = ½ Σ_j c_j s_ij,   b_i = ½ Σ_j c_j t_ij
        τ_b = Σ c_i c_j s_ij t_ij / √(Σ c_i c_j s_ij² · Σ c_i c_j t_ij²)
        ρ = Σ c_i a_i b_i / √(Σ c_i a_i² · Σ c_i b_i²)

    where c_i counts how often the method of network i was drawn (1 for the point estimate), and a and b are midranks
    less their mean. The networks of one method are one cluster: they are alike for many reasons, so that drawing them
    one by one would count each as new evidence. The interval is from percentiles over `resamples` draws of the methods
    with replacement, leaving out the rare ones in which a quantity does not vary. It speaks of other methods like
    these. Share of 600 simulated comparisons whose interval holds the mean of the estimate over simulations (normal
    methods that correlate by r, networks with a deviation of .3 within a method):

    | methods x seeds | r      | covers  | mean width for τ | networks drawn one by one |
    |-----------------|--------|---------|------------------|---------------------------|
    | 6 x 3           | 0      | .95     | 1.01             | .77                       |
    | 7 x 3           | 0, −.7 | .93–.97 | .95, .82         | .73–.82                   |
    | 12 x 3          | 0, −.7 | .93–.96 | .72, .59         | .77–.79                   |
    | 20 x 3          | −.7    | .95–.96 | .45              | .76–.77                   |

    Args:
        sharpness: By method, one value a training seed.
        robustness: The same methods and seeds, in the same order.
        confidence: Between 0 and 1.
        resamples: Number of resamplings, ≥ 100.
        seed: Seed of the resampling, ≥ 0.

    Raises:
        ValueError: If there are fewer than 6 methods, the two do not match, a value is not finite, or a quantity is the
            same for every network.

    Example:
        >>> sharp = {name: [i, i + 0.1] for i, name in enumerate("abcdef")}
        >>> accurate = {name: [1 - i / 10, 0.99 - i / 10] for i, name in enumerate("abcdef")}
        >>> rank_correlation(sharp, accurate).kendall.mean
        -1.0

    Reference: Kendall 1945, Biometrika 33, 239 (τ-b); Field and Welsh 2007, J. R. Statist. Soc. B 69, 369 (bootstrap of
    clusters).
    """
    _check(sharpness, robustness, confidence, resamples, seed)
    names = list(sharpness)
    x, y = (
        np.concatenate([np.asarray(of[name], dtype=np.float64) for name in names]) for of in (sharpness, robustness)
    )
    member = np.repeat(np.arange(len(names)), [len(sharpness[name]) for name in names])
    for name, values in (("sharpness", x), ("robustness", y)):
        if not np.isfinite(values).all() or (values == values[0]).all():
            raise ValueError(f"`{name}` must be finite and differ between networks, got {values.tolist()[:5]} ….")
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    taus, rhos = _correlations(x, y, member, draws)
    tau, rho = _correlations(x, y, member, np.ones((1, len(names))))
    means = [rounded(np.array([np.mean(of[name]) for name in names])) for of in (sharpness, robustness)]
    of_means = _correlations(means[0], means[1], np.arange(len(names)), np.ones((1, len(names))))
    tau_of_means, rho_of_means = (float(np.nan_to_num(found[0])) for found in of_means)
    return RankCorrelation(
        _percentiles(tau[0], taus, confidence),
        _percentiles(rho[0], rhos, confidence),
        tau_of_means,
        rho_of_means,
        len(x),
        len(names),
        resamples,
        confidence,
    )


def sharpness_correlations(record: SharpnessRecord) -> tuple[CorrelationRow, ...]:
    """Every measure against the metric on every kind of chip; nothing with fewer than 6 methods.

    A measure or an accuracy that is the same for all networks has no row. Accuracies are equal that differ by nothing
    but the order in which chips were added.
    """
    methods = dict.fromkeys(network.method for network in record.networks)
    if len(methods) < LEAST_METHODS:
        return ()
    of_method = {m: [network for network in record.networks if network.method == m] for m in methods}
    rows = []
    for measure in record.measures:
        sharp = {m: [n.measures[measure].mean for n in networks] for m, networks in of_method.items()}
        for number, kind in enumerate(record.kinds):
            sign = 1 if record.problem.higher_is_better else -1
            accurate = {
                m: [sign * round(n.accuracies[number], 12) for n in networks] for m, networks in of_method.items()
            }
            if any(len({value for values in of.values() for value in values}) == 1 for of in (sharp, accurate)):
                continue
            found = rank_correlation(sharp, accurate, confidence=record.confidence, seed=record.settings.seed)
            rows.append(
                CorrelationRow(
                    measure,
                    kind,
                    found.kendall,
                    found.spearman,
                    found.kendall_of_means,
                    found.spearman_of_means,
                    found.points,
                    found.methods,
                )
            )
    return tuple(rows)


Array = NDArray[np.float64]


def _correlations(x: Array, y: Array, member: NDArray[np.int_], draws: NDArray[np.generic]) -> tuple[Array, Array]:
    """τ-b and ρ for each row of draws: how often each cluster counts. NaN where a quantity does not vary."""
    one_hot = np.eye(draws.shape[1])[member]  # points x clusters
    counts = draws.astype(np.float64)
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]

    def pairs(of_points: Array) -> Array:
        """Σ_ij c_i c_j m_ij, for each row of draws."""
        found: Array = np.sum((counts @ (one_hot.T @ of_points @ one_hot)) * counts, axis=1)
        return found

    weights = counts @ one_hot.T
    a, b = (counts @ (one_hot.T @ sign.T) / 2 for sign in signs)

    def weighted(values: Array) -> Array:
        found: Array = np.sum(weights * values, axis=1)
        return found

    with np.errstate(invalid="ignore", divide="ignore"):
        tau = pairs(signs[0] * signs[1]) / np.sqrt(pairs(signs[0] ** 2) * pairs(signs[1] ** 2))
        rho = weighted(a * b) / np.sqrt(weighted(a**2) * weighted(b**2))
    return tau, rho


def _percentiles(estimate: float, resampled: Array, confidence: float) -> Interval:
    low, high = np.nanquantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(estimate), float(low), float(high))


def _check(sharpness: Values, robustness: Values, confidence: float, resamples: int, seed: int) -> None:
    if len(sharpness) < LEAST_METHODS:
        raise ValueError(
            f"`sharpness` must have at least {LEAST_METHODS} methods, got {len(sharpness)}: an interval counts "
            "methods, not networks. Compare more methods."
        )
    if any(not len(values) for values in sharpness.values()):
        raise ValueError("`sharpness` must have a value for each method, got none for one. Leave out what has none.")
    if list(map(len, sharpness.values())) != [len(robustness.get(name, ())) for name in sharpness]:
        raise ValueError("`robustness` must have the methods and seeds of `sharpness`. Measure what is missing.")
    require_between(0, 1, confidence=confidence)
    require_whole(100, resamples=resamples)
    require_whole(0, seed=seed)
