"""Where a curve of drops against noise levels crosses a threshold: from chips' own curves alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between
from samson.records import Interval
from samson.statistics._means import both_bounds, numbers
from samson.statistics._student import expanded_tail

RESAMPLINGS = 2000
FEW = 20
"""Chips below which a limit is allowed half the error: so few do not show how skewed they are."""
ROUNDING = 1e-12
"""How far above a threshold a mean still counts as at it."""


def crossing(levels: Sequence[float], curves: NDArray[Any], threshold: float, confidence: float) -> Interval:
    """Estimate where the mean curve crosses a threshold, with an interval from resampling whole curves.

    The mean over chips is made to rise by isotonic regression, and read off linearly in log(level). The interval takes
    the quantiles of the same estimate over 2,000 sets of chips drawn with replacement (`expanded_tail`).

    Args:
        levels: Ascending, > 0.
        curves: One row a level, one column a chip.
        threshold: The value to reach.
        confidence: Of the interval, between 0 and 1.

    Returns:
        The level; it and its ends are infinity where they lie above all levels that were measured, 0 where below.
    """
    _check(levels, curves, confidence)
    points = np.log(np.asarray(levels, dtype=np.float64))
    chips = curves.shape[1]
    estimate = float(_read_off(points, curves.mean(axis=1)[:, None], threshold)[0])
    found = _read_off(points, curves @ _resampled(chips) / chips, threshold)
    tail = expanded_tail(chips, confidence)
    low, high = (float(np.quantile(found, p, method="inverted_cdf")) for p in (tail, 1 - tail))
    return Interval(estimate, low, high)


def fixed_sequence(
    levels: Sequence[float], curves: NDArray[Any], threshold: float, confidence: float, *, resolution: float = 0.0
) -> float:
    """The largest level such that it and every level below have a mean of at most the threshold, with confidence.

    Levels are tested in ascending order, each at the full confidence, up to the first that fails: in a fixed sequence
    that needs no correction for their number. What is compared with the threshold is `upper_limit`.

    Returns:
        A level, or 0 if not even the lowest holds.
    """
    _check(levels, curves, confidence)
    found = 0.0
    for level, values in zip(levels, curves, strict=True):
        if upper_limit(values, confidence, resolution) > threshold:
            break
        found = level
    return found


def upper_limit(values: NDArray[Any], confidence: float, resolution: float = 0.0) -> float:
    """The one-sided upper limit of a mean over chips, exact (binomial) where the values are booleans.

        limit = mean + s·max(t, h),   t = t_{n−1, confidence} / √n,   g the skewness (n ≥ 3, else 0)
        h = (3/g)·(1 − ∛(1 − g·(t + g / (6n)))),   h = t for g = 0

    Drops are skewed to the right, and a few chips tend to hide their tail: the larger of Student's and Hall's limit is
    taken, with (1 + confidence) / 2 for `confidence` below 20 chips. Share of 4,000 simulated budgets that are a level
    2 % above the crossing, where 5 % is nominal (`benchmarks/coverage.py`; beside it Student's t alone):

    | drops over chips: a·level² ± .001     | 5 chips   | 10        | 15        | 20        | 50        |
    |---------------------------------------|-----------|-----------|-----------|-----------|-----------|
    | a lognormal, σ = .2                   | .01 (.04) | .01 (.02) | .00 (.02) | .01 (.01) | .00 (.00) |
    | a lognormal, σ = .6                   | .04 (.11) | .04 (.09) | .04 (.08) | .04 (.07) | .03 (.04) |
    | a = max(ξ, 0), ξ ~ N(0, 1)            | .07 (.17) | .02 (.12) | .01 (.11) | .03 (.09) | .03 (.06) |

    More skewed drops, of rare chips that fail, pass more often: ask for a yield there, whose limit is exact.

    Args:
        values: One a chip, at least 2.
        confidence: Between 0 and 1.
        resolution: The step between possible values; s is never taken below resolution / √12.

    Reference: Hall 1992, J. R. Statist. Soc. B 54, 221; Clopper and Pearson 1934, Biometrika 26, 404.
    """
    require_between(0, 1, confidence=confidence)
    n = len(values)
    if values.dtype == np.bool_:
        from scipy.special import betaincinv  # slow to import

        ones = int(values.sum())
        return float(betaincinv(ones + 1, n - ones, confidence)) if ones < n else 1.0
    probability = confidence if n >= FEW else (1 + confidence) / 2
    return max(both_bounds(values.tolist(), probability, resolution, 3))


def _check(levels: Sequence[float], curves: NDArray[Any], confidence: float) -> None:
    require_between(0, 1, confidence=confidence)
    steps = np.diff(numbers(levels, "levels"))
    if not (steps > 0).all() or not levels[0] > 0:
        raise ValueError(f"`levels` must be > 0 and ascending, got {levels!r:.80}.")
    if curves.ndim != 2 or len(curves) != len(levels) or curves.shape[1] < 2:
        raise ValueError(
            f"`curves` must have a row for each of {len(levels)} levels and at least 2 chips, got {curves.shape}."
        )
    if not np.isfinite(curves).all():
        raise ValueError("`curves` must be finite, got NaN or infinity among them.")


@lru_cache(maxsize=4)
def _resampled(chips: int) -> NDArray[np.float64]:
    """How often each chip is in each set drawn with replacement: one row a chip, one column a set."""
    drawn = np.random.default_rng(0).integers(chips, size=(RESAMPLINGS, chips))
    return np.stack([np.bincount(row, minlength=chips) for row in drawn], axis=1).astype(np.float64)


def _read_off(points: NDArray[np.float64], means: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """Where each column of means, made to rise, reaches the threshold."""
    rising = _rising(means)
    above = (rising <= threshold + ROUNDING).sum(axis=0)
    found = np.where(above == 0, 0.0, math.inf)
    columns = np.flatnonzero((above > 0) & (above < len(points)))
    upper = above[columns]
    start, end = rising[upper - 1, columns], rising[upper, columns]
    share = np.maximum(threshold - start, 0) / (end - start)
    found[columns] = np.exp(points[upper - 1] + share * (points[upper] - points[upper - 1]))
    return found


def _rising(means: NDArray[Any]) -> NDArray[np.float64]:
    """Isotonic regression of each column: at j, the largest over i ≤ j of the smallest mean of i to k over k ≥ j."""
    sums = np.cumsum(means, axis=0, dtype=np.float64)
    sizes = np.arange(1, len(means) + 1)[:, None]
    rising: NDArray[np.float64] = np.full(means.shape, -math.inf)
    for first in range(len(means)):
        before = sums[first - 1] if first else 0.0
        of_spans = (sums[first:] - before) / sizes[: len(means) - first]
        smallest = np.minimum.accumulate(of_spans[::-1])[::-1]
        np.maximum(rising[first:], smallest, out=rising[first:])
    return rising
