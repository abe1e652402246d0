"""Where a curve of drops against noise levels crosses a threshold: from chips' own curves alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import betaincinv, ndtr, stdtrit

from samson.evaluation.statistics import mean_bound

RESAMPLINGS = 2000


@dataclass(frozen=True)
class Crossing:
    """Where the mean of rising curves reaches a threshold, within the levels that were measured.

    Args:
        estimate: The level; infinity if it lies above all, 0 if below.
        low: The lower end of its interval, with the same meaning.
        high: The upper end.
    """

    estimate: float
    low: float
    high: float


def crossing(
    levels: Sequence[float], curves: NDArray[Any], threshold: float, confidence: float, seed: int = 0
) -> Crossing:
    """Estimate where the mean curve crosses a threshold, with an interval from resampling whole curves.

    The mean over chips is made to rise by isotonic regression, and read off linearly in log(level). The interval takes
    the quantiles of the same estimate over 2,000 sets of chips drawn with replacement, expanded for few chips: at the
    probabilities Φ(∓√(n / (n − 1))·t_{n−1}).

    Args:
        levels: Ascending, > 0.
        curves: One row a level, one column a chip.
        threshold: The value to reach.
        confidence: Of the interval, between 0 and 1.
        seed: Of the resampling.

    Reference: Hesterberg 2015, The American Statistician 69, 371, section 4.4 (expanded percentiles).
    """
    points = np.log(np.asarray(levels, dtype=np.float64))
    chips = curves.shape[1]
    estimate = _read_off(points, curves.mean(axis=1), threshold)
    drawn = np.random.default_rng(seed).integers(chips, size=(RESAMPLINGS, chips))
    counts = np.stack([np.bincount(row, minlength=chips) for row in drawn])
    means = counts @ curves.T / chips
    found = np.array([_read_off(points, mean, threshold) for mean in means])
    tail = float(ndtr(math.sqrt(chips / (chips - 1)) * stdtrit(chips - 1, (1 - confidence) / 2)))
    low, high = (float(np.quantile(found, p, method="inverted_cdf")) for p in (tail, 1 - tail))
    return Crossing(estimate, low, high)


def holds_up_to(
    levels: Sequence[float], curves: NDArray[Any], threshold: float, confidence: float, *, resolution: float = 0.0
) -> float:
    """The largest level such that it and every level below have a mean of at most the threshold, with confidence.

    Levels are tested in ascending order, each at the full confidence, up to the first that fails: in a fixed sequence
    that needs no correction for their number. The limit of a mean is `mean_bound`; where all values are 0 or 1, the
    exact binomial one.

    Returns:
        A level, or 0 if not even the lowest holds.
    """
    found = 0.0
    for level, values in zip(levels, curves, strict=True):
        if upper_limit(values, confidence, resolution) > threshold:
            break
        found = level
    return found


def upper_limit(values: NDArray[Any], confidence: float, resolution: float = 0.0) -> float:
    """The one-sided upper limit of a mean over chips, exact where the values are booleans."""
    if values.dtype == np.bool_:
        ones, total = int(values.sum()), len(values)
        return float(betaincinv(ones + 1, total - ones, confidence)) if ones < total else 1.0
    return mean_bound(values.tolist(), confidence, resolution=resolution)


def _read_off(points: NDArray[np.float64], mean: NDArray[np.float64], threshold: float) -> float:
    rising = isotonic_regression(mean).x
    above = int(np.searchsorted(rising, threshold, side="right"))
    if above == 0:
        return 0.0
    if above == len(points):
        return math.inf
    below = above - 1
    share = (threshold - rising[below]) / (rising[above] - rising[below])
    return float(math.exp(points[below] + share * (points[above] - points[below])))
