"""Intervals for one level of randomness: means over chips, and shares of chips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between, require_non_negative, require_whole
from samson.records import Interval
from samson.statistics._student import t_below, t_quantile

CONFIDENCE = 0.95
"""The share of intervals that hold the truth, where none is asked for."""
SKEWNESS_FROM = 10
"""Values from which on their skewness is estimated."""


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, *, resolution: float = 0.0) -> Interval:
    """Student's t interval for the mean of independent values, with Hall's correction for their skewness.

        t = t_{n−1, (1 + confidence) / 2} / √n,   s² = Σ (x_i − mean)² / (n − 1),   g the skewness (n ≥ 10, else 0)
        low = mean − s·h(t),  high = mean − s·h(−t),   h(y) = (3/g)·(∛(1 + g·(y − g / (6n))) − 1),  h(y) = y for g = 0

    The correction only widens, since it would take an outlier of symmetric values for skewness. It moves an end no
    further than to the outermost value: h alone may go far past all of few values.

    It speaks of chips like these, for these networks and these examples. Share of 4,000 and more simulated sets of
    chips whose interval holds the truth (`benchmarks/coverage.py`, with the plain t interval beside it):

    | chips    | values                                                | covers | plain t  |
    |----------|-------------------------------------------------------|--------|----------|
    | 10, 50   | Gaussian                                              | .96    | .95      |
    | 10       | Beta, mean .5 to .99, sd .1·√(mean·(1 − mean))        | .95–.96| .90–.95  |
    | 50       | Beta, mean .5 to .99, sd ≤ .3·√(mean·(1 − mean))      | .95–.97| .86–.95  |
    | 5        | Beta, mean .99, sd .1·√(mean·(1 − mean))              | .89    | .89      |
    | 5, 10, 50| 1 − .02·lognormal with σ = 1                          | .82, .92, .95 | .82, .84, .90 |
    | 5, 10    | Beta, mean .99, sd .3·√(mean·(1 − mean))              | .58, .84 | .58, .69 |
    | 10, 50   | .95 ± .005, but one chip in 50 dead                   | .19, .64 | .19, .64 |

    The last rows are no fault of the formula: few chips most often do not show that there are others far away. Take at
    least 10 where chips may be skewed, and where rare ones fail ask for a yield (`Evaluation.yield_at`), whose interval
    is exact.

    Args:
        values: Two or more finite values.
        confidence: Between 0 and 1.
        resolution: The step between possible values: s is never taken below resolution / √12, the deviation of a
            value known to the nearest step, so that equal values have no interval of width 0.

    Raises:
        ValueError: With fewer than two values, a value that is not finite, or a confidence outside (0, 1).

    Example:
        >>> interval = mean_interval([0.90, 0.92, 0.94])
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.87, 0.97)

    Reference: Student 1908, Biometrika 6, 1; Hall 1992, J. R. Statist. Soc. B 54, 221.
    """
    require_between(0, 1, confidence=confidence)
    tail = (1 - confidence) / 2
    low, high = (mean_bound(values, p, resolution=resolution) for p in (tail, 1 - tail))
    return Interval(float(np.mean(values)), low, high)


def mean_bound(values: Sequence[float], probability: float, *, resolution: float = 0.0) -> float:
    """A number that is above the mean of what the values were drawn from with the given probability.

    The upper end of a one-sided interval for a probability above ½, the lower end for one below (see
    `mean_interval`).
    """
    found: list[float] = numbers(values).tolist()
    hall, student = both_bounds(found, probability, resolution, SKEWNESS_FROM)
    return min(student, max(hall, min(found))) if probability < 0.5 else max(student, min(hall, max(found)))


def both_bounds(
    values: Sequence[float], probability: float, resolution: float, skewness_from: int
) -> tuple[float, float]:
    """Hall's end of a one-sided interval, however far beyond the values it lies, and Student's.

    The skewness of `skewness_from` values and more, at least 3, is corrected for.
    """
    n, mean, std, skewness = _moments(values, resolution, skewness_from)
    require_between(0, 1, probability=probability)
    y = t_quantile(n - 1, 1 - probability) / math.sqrt(n)
    hall = 3 / skewness * (float(np.cbrt(1 + skewness * (y - skewness / (6 * n)))) - 1) if skewness else y
    return mean - std * hall, mean - std * y


def mean_p_value(values: Sequence[float], *, resolution: float = 0.0) -> float:
    """The two-sided p-value of a mean of 0, which is below 1 − confidence where `mean_interval` leaves 0 out."""
    n, mean, std, skewness = _moments(values, resolution)
    if not std:
        return float(mean == 0)
    w = mean / std
    student = math.sqrt(n) * w
    hall = student + math.sqrt(n) * (skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / (6 * n))
    one_side = min(values) > 0 or max(values) < 0
    return max(2 * t_below(n - 1, -abs(t)) for t in ((student,) if one_side else (hall, student)))


def _moments(
    values: Sequence[float], resolution: float, skewness_from: int = SKEWNESS_FROM
) -> tuple[int, float, float, float]:
    """Number, mean, standard deviation and skewness, which is 0 where it is not corrected for."""
    found = numbers(values)
    require_non_negative(resolution=resolution)
    if len(found) < 2:
        raise ValueError(f"`values` must hold at least 2 values for an interval, got {len(found)}.")
    if not np.isfinite(found).all():
        raise ValueError("`values` must be finite, got NaN or infinity among them.")
    n, mean = len(found), float(found.mean())
    deviations = found - mean
    own = math.sqrt(float(np.sum(deviations**2)) / (n - 1))
    std = max(own, resolution / math.sqrt(12))
    skewness = n / ((n - 1) * (n - 2)) * float(np.sum((deviations / std) ** 3)) if n >= skewness_from and own else 0.0
    return n, mean, std, skewness if abs(skewness) > 1e-6 else 0.0


def smallest_step(values: Sequence[float]) -> float:
    """The smallest difference between values that is no rounding error, as a guess at the step between possible ones.

    Values that differ by a few rounding errors of float32 are the same; where all are, the step is that much, or 0 if
    they are equal.

    Example:
        >>> smallest_step([12.0, 9.0, 9.000001, 11.0])
        1.0
    """
    found = np.unique(numbers(values))
    steps, errors = np.diff(found), 8 * float(np.finfo(np.float32).eps) * np.maximum(*np.abs([found[:-1], found[1:]]))
    return float(min(steps[steps > errors], default=max(errors, default=0.0)))


def share_interval(successes: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact (Clopper–Pearson) interval for a share, such as the yield: at least `confidence`, whatever the share.

    Args:
        successes: Number of successes among `total` independent trials.
        total: At least 1.
        confidence: Between 0 and 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> interval = share_interval(20, 20)
        >>> round(interval.low, 4), interval.high
        (0.8316, 1.0)

    Reference: Clopper and Pearson 1934, Biometrika 26, 404.
    """
    require_whole(0, successes=successes, total=total)
    if successes > total or total < 1:
        raise ValueError(f"`successes` must be between 0 and `total` ≥ 1, got {successes} of {total}.")
    return binomial_limits(successes, total, confidence)


def binomial_limits(successes: float, total: float, confidence: float) -> Interval:
    """The limits of `share_interval`, by the Beta distribution, also for numbers that are not whole."""
    from scipy.special import betaincinv  # slow to import

    require_between(0, 1, confidence=confidence)
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, total - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, total - successes, 1 - tail)) if successes < total else 1.0
    return Interval(successes / total, low, high)


def numbers(values: Sequence[float], name: str = "values") -> NDArray[np.float64]:
    """One number after the other, as an array.

    Raises:
        ValueError: If they are something else.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = None
    if found is None or found.ndim != 1:
        raise ValueError(f"`{name}` must be numbers, one after the other, got {values!r:.80}.")
    return found
