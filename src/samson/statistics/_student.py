"""Student's distribution, with degrees of freedom that need not be whole.

Importing scipy's takes longer than to write the report of a comparison.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

NORMAL_FROM = 1e8
"""Degrees of freedom from which on Student's t is normal to seven digits."""


def t_below(degrees: float, t: float) -> float:
    """The probability that Student's t is at most `t`.

        P(T ≤ −|t|) = I_x(ν / 2, 1 / 2) / 2,   x = ν / (ν + t²),   I the regularised incomplete beta function

    Args:
        degrees: ν > 0, or infinite for the normal distribution.
        t: Any number.

    Example:
        >>> round(t_below(1, -1.0), 12)
        0.25
    """
    if degrees > NORMAL_FROM:
        return math.erfc(-t / math.sqrt(2)) / 2
    a, whole = degrees / 2, degrees + t * t
    x, y = degrees / whole, t * t / whole
    if not x or not y:  # too large or too small to be told from
        return float(t > 0) if y else 0.5
    front = math.exp(-a * math.log1p(t * t / degrees) + math.log(y) / 2 - _log_beta(a))
    left = x < (a + 1) / (a + 2.5)
    tail = front / a * _fraction(a, 0.5, x) / 2 if left else 0.5 - front * _fraction(0.5, a, y)
    return tail if t < 0 else 1 - tail


@lru_cache(maxsize=1024)
def t_quantile(degrees: float, probability: float) -> float:
    """Where Student's t lies below with a probability.

    Newton's method: below ½ the probability is convex in t, and the normal quantile, where it starts, is nearer to 0,
    so that it comes to the quantile from one side.

    Args:
        degrees: ν > 0, or infinite for the normal distribution.
        probability: Between 0 and 1.

    Example:
        >>> round(t_quantile(19, 0.975), 3)
        2.093
    """
    if probability > 0.5:
        return -t_quantile(degrees, 1 - probability)
    t = NormalDist().inv_cdf(probability)
    if degrees > NORMAL_FROM:
        return t
    scale = math.exp(-_log_beta(degrees / 2)) / math.sqrt(degrees)
    for _ in range(200):
        density = scale * math.exp(-(degrees + 1) / 2 * math.log1p(t * t / degrees))
        step = (t_below(degrees, t) - probability) / density
        t -= step
        if step <= 1e-14 * abs(t):
            break
    return t


def _fraction(a: float, b: float, x: float) -> float:
    """I_x(a, b)·a·B(a, b) / (xᵃ·(1 − x)ᵇ), as a continued fraction that converges fast for x < (a + 1) / (a + b + 2).

    Reference: Press et al. 2007, Numerical Recipes, section 6.4.
    """
    ratio = 1.0
    below = value = 1 / (1 - (a + b) * x / (a + 1))
    for m in range(1, 1000):  # a few dozen are enough
        n = a + 2 * m
        for term in (m * (b - m) * x / ((n - 1) * n), -(a + m) * (a + b + m) * x / (n * (n + 1))):
            below, ratio = 1 / (1 + term * below), 1 + term / ratio
            value *= below * ratio
        if abs(below * ratio - 1) < 1e-15:
            break
    return value


def _log_beta(a: float) -> float:
    """The logarithm of B(a, 1 / 2), by Stirling's series where two large numbers would cancel."""
    if a < 100:
        return math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    return (math.log(math.pi) - math.log(a)) / 2 + 1 / (8 * a) - 1 / (192 * a**3) + 1 / (640 * a**5)
