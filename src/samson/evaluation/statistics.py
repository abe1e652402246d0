"""Intervals for means over chips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all three in the unit of the values (accuracies are fractions)."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval for the mean of independent values, one a chip.

        mean ± t_{n−1, (1 + confidence) / 2} · s / √n,   s² = Σ (x_i − mean)² / (n − 1)

    It speaks of chips like these, for these networks and these examples. It covers about 95 % when chips are roughly
    normal (.94–.95 in simulation), and too little when a rare chip is dead.

    Args:
        values: Two or more finite values.
        confidence: Between 0 and 1.

    Raises:
        ValueError: With fewer than two values, a value that is not finite, or a confidence outside (0, 1).

    Example:
        >>> interval = mean_interval([0.90, 0.92, 0.94])
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.87, 0.97)

    Reference: Student 1908, Biometrika 6, 1.
    """
    if len(values) < 2:
        raise ValueError(f"`values` must hold at least 2 values for an interval, got {len(values)}.")
    if not np.isfinite(values).all():
        raise ValueError("`values` must be finite, got NaN or infinity among them.")
    mean = float(np.mean(values))
    half = (
        student_quantile((1 + confidence) / 2, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    )
    return Interval(mean, mean - half, mean + half)


def paired_interval(values: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The interval of `mean_interval` for the mean of chip-by-chip differences `values[i] − baseline[i]`.

    Raises:
        ValueError: If the two have different lengths, or as for `mean_interval`.

    Example:
        >>> paired_interval([0.5, 0.75], [0.25, 0.5]).mean
        0.25
    """
    if len(values) != len(baseline):
        raise ValueError(f"`values` and `baseline` must be of the same chips, got {len(values)} and {len(baseline)}.")
    return mean_interval([a - b for a, b in zip(values, baseline, strict=True)], confidence)


def student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, to a relative error of about 1e-8.

    With t = √ν·tan θ the distribution function is ½ + ½ ∫₀^θ cos^{ν−1} / ∫₀^{π/2} cos^{ν−1}; the integrals are taken
    by Gauss–Legendre quadrature and the equation is solved by bisection.

    Args:
        probability: Between 0 and 1.
        degrees: Degrees of freedom ν ≥ 1, a whole number.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> round(student_quantile(0.975, 19), 6)
        2.093024
    """
    if not 0 < probability < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, got a probability of {probability}.")
    if not degrees >= 1:
        raise ValueError(f"`degrees` must be ≥ 1, got {degrees}.")
    if probability < 0.5:
        return -student_quantile(1 - probability, degrees)
    whole = _cosine_power(math.pi / 2, degrees)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if 0.5 + 0.5 * _cosine_power(middle, degrees) / whole < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _cosine_power(angle: float, degrees: int) -> float:
    """∫₀^angle cos^{ν−1}; beyond 12 standard widths of its bell the integrand is nothing."""
    angle = min(angle, 12 / math.sqrt(degrees))
    nodes, weights = _LEGENDRE
    cosines: NDArray[np.float64] = np.cos(angle * (nodes + 1) / 2)
    return float(angle / 2 * np.sum(weights * cosines ** (degrees - 1)))


_LEGENDRE = np.polynomial.legendre.leggauss(120)
