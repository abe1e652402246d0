"""Moments in float64 that the device models are held against, written without any of their code."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Moments = tuple[Array, Array]
"""Mean and mean square."""

_NORMAL = np.linspace(-9, 9, 2_001)
_WEIGHT = np.exp(-(_NORMAL**2) / 2) / np.exp(-(_NORMAL**2) / 2).sum()


def density(x: Array) -> Array:
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def rectified(mean: Array, deviation: Array) -> Moments:
    """Of max(0, N(mean, deviation²))."""
    a = np.clip(mean / np.maximum(deviation, 1e-300), -99, 99)
    one = mean * ndtr(a) + deviation * density(a)
    return one, (mean**2 + deviation**2) * ndtr(a) + mean * deviation * density(a)


def clamped(mean: Array, deviation: Array, low: float, high: float) -> Moments:
    """Of min(high, max(low, N(mean, deviation²)))."""
    above_low, above_high = rectified(mean - low, deviation), rectified(mean - high, deviation)
    one = low + above_low[0] - above_high[0]
    # x² of the clamped value is low² + 2 low (x − low)⁺ + (x − low)⁺² with the part above `high` taken off.
    square = low**2 + 2 * low * above_low[0] + above_low[1] - 2 * high * above_high[0] - above_high[1]
    return one, square


def folded(mean: Array, deviation: Array) -> Moments:
    """Of |N(mean, deviation²)|."""
    a = mean / deviation
    return 2 * deviation * density(a) + mean * (1 - 2 * ndtr(-a)), mean**2 + deviation**2


def over_normal(function: Callable[[Array], Moments]) -> Moments:
    """Average the moments of `function(ξ)` over ξ ~ N(0, 1) on a fine grid; ξ lies along a new last axis."""
    one, square = function(_NORMAL)
    return one @ _WEIGHT, square @ _WEIGHT


def agree(sample: Array, moments: Moments) -> bool:
    """Whether mean and variance over the last axis are within 5 standard errors everywhere."""
    one, square = moments
    n, variance = sample.shape[-1], square - one**2
    centred = sample - one[..., None]
    of_variance = (centred**4).mean(-1) - (centred**2).mean(-1) ** 2
    close_mean = np.abs(sample.mean(-1) - one) <= 5 * np.sqrt(np.maximum(variance, 0) / n) + 1e-6
    close_variance = np.abs(sample.var(-1) - variance) <= 5 * np.sqrt(of_variance / n) + 1e-6
    return bool((close_mean & close_variance).all())
