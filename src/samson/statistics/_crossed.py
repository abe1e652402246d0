"""Intervals for crossed levels of randomness: seeds x chips x examples, each drawn from a population of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between
from samson.records import Interval
from samson.statistics._means import CONFIDENCE, binomial_limits, mean_interval
from samson.statistics._student import t_quantile

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Component:
    """The part of the variance of a grand mean that one effect or interaction brings.

    Args:
        variance: Its mean square over the number of all values.
        degrees: Its degrees of freedom.
    """

    variance: float
    degrees: float

    def error(self, resolution: float = 0.0) -> float:
        """The standard error, never below that of a value known to the nearest step."""
        return max(math.sqrt(self.variance), resolution / math.sqrt(12))


def components(values: NDArray[Any]) -> dict[Axes, Component]:
    """Split the variance of the mean of a fully crossed table among its axes and their interactions.

        S_A = MS_A / N,   MS_A = SS_A / Π_{i∈A} (n_i − 1),   N = Π n_i,   for each non-empty set of axes A

    so for chips x examples S_(0,) = var(chip means) / C, S_(1,) = var(example means) / E and S_(0, 1) = the residual
    mean square / (C·E).

    Args:
        values: One axis for each level of randomness, each of length ≥ 2; booleans or numbers.

    Raises:
        ValueError: If an axis is too short.
    """
    if min(values.shape, default=0) < 2:
        raise ValueError(f"`values` must have at least 2 entries along each axis, got a table of {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("`values` must be finite, got NaN or infinity among them.")
    axes = tuple(range(values.ndim))
    size = values.size
    mean = float(np.mean(values, dtype=np.float64))
    squares: dict[Axes, float] = {}
    for chosen in _subsets(axes):
        if chosen == axes:
            total = sum(float(np.sum((row.astype(np.float64) - mean) ** 2)) for row in values)
        else:
            rest = tuple(axis for axis in axes if axis not in chosen)
            margin = np.mean(values, axis=rest, dtype=np.float64) - mean
            total = size / margin.size * float(np.sum(margin**2))
        squares[chosen] = max(0.0, total - sum(squares[part] for part in _subsets(chosen) if part != chosen))
    degrees = {chosen: math.prod(values.shape[axis] - 1 for axis in chosen) for chosen in squares}
    return {a: Component(s / degrees[a] / size, degrees[a]) for a, s in squares.items()}


def crossed_interval(
    values: NDArray[Any], confidence: float = CONFIDENCE, *, floor: Sequence[Axes] = (), resolution: float = 0.0
) -> Interval:
    """The interval for the mean over all levels at once, by inclusion and exclusion.

        V = Σ_A (−1)^(|A| + 1) S_A,   mean ± t_df · √V,   df = V² / Σ_A S_A² / df_A   (Satterthwaite)

    For chips x examples V = S_c + S_e − S_ce. The interval is never narrower than mean ± t_{df_A}·√S_A for an A of
    `floor`: a V that is hardly larger than S_A would have many more degrees of freedom. Where V comes out below S_A,
    this takes its place; where nothing is left, the largest of all S does. df is never below 1, that of two values:
    where V is a small rest of large parts, Satterthwaite's goes to 0 and t_df to infinity. There the interval covers
    .95 to 1.0 (3,000 simulated tables of 2 or 3 by 2, 5 or 20 normal values).

    Coverage at 10 chips and more: .93–.96; counting all N values as independent would cover .21–.65.

    Args:
        values: As for `components`.
        confidence: Between 0 and 1.
        floor: Effects that alone make the interval at least as wide as it is, for example `[(0,)]`.
        resolution: As for `mean_interval`.

    Example:
        >>> right = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)  # 2 chips, 4 examples
        >>> interval = crossed_interval(right)
        >>> interval.mean, round(interval.half_width, 3)
        (0.625, 0.907)

    Reference: Satterthwaite 1946, Biometrics Bulletin 2, 110.
    """
    require_between(0, 1, confidence=confidence)
    half = half_width(combine(components(values), floor), (1 + confidence) / 2, resolution)
    mean = float(np.mean(values, dtype=np.float64))
    return Interval(mean, mean - half, mean + half)


def crossed_share_interval(
    values: NDArray[Any], confidence: float = CONFIDENCE, *, floor: Sequence[Axes] = ()
) -> Interval:
    """The interval for a share of right answers over all levels at once: exact limits at an effective number.

        n = p·(1 − p)·(z / h)²,  with the half-width h of `crossed_interval`, t_df·√V;  the limits of n·p in n by the
        Beta distribution. Where all answers are the same, n is the length of the last axis, the examples.

    Where few answers are wrong, a handful of examples carries what is known of their spread, and n − 1 degrees of
    freedom claim too much. So those of chips and of examples are 2 / (2 / (n − 1) + κ / n), with the excess kurtosis
    κ ≥ 0 of their means: what makes the relative variance 2 / df of a sample variance right for values that are not
    normal.

    It stays within 0 and 1, and reaches further towards ½. Of simulated tables (`benchmarks/coverage.py`) it covers .95
    to 1.0 with 5 chips and more, .89 with 2 and .93 with 3 where half of the answers are right; where chips differ
    much, a few do not show how far they are apart, and it covers less.

    Args:
        values: Booleans, one axis for each level of randomness.
        confidence: Between 0 and 1.
        floor: As for `crossed_interval`.

    Reference: Korn and Graubard 1998, Survey Methodology 24, 193; Cramér 1946, Mathematical Methods of Statistics, 27.4
    (the variance of a sample variance).
    """
    require_between(0, 1, confidence=confidence)
    share, size = float(np.mean(values)), float(values.shape[-1])
    if 0 < share < 1:
        found = components(values)
        own: dict[Axes, Component] = {
            (axis,): _with_kurtosis(values, axis, found[axis,]) for axis in range(values.ndim)
        }
        upper = (1 + confidence) / 2
        half = half_width(combine({**found, **own}, floor), upper)
        size = share * (1 - share) * (NormalDist().inv_cdf(upper) / half) ** 2
    return binomial_limits(share * size, size, confidence)


def table_interval(
    values: NDArray[Any], confidence: float = CONFIDENCE, *, floor: Sequence[Axes] = (), resolution: float = 0.0
) -> Interval:
    """The interval for the mean of a table: a share of right answers, a mean over one axis, or over crossed ones.

    Args:
        values: One axis for each level of randomness; booleans are answers, for `crossed_share_interval`.
        confidence: Between 0 and 1.
        floor: As for `crossed_interval`.
        resolution: As for `mean_interval`.
    """
    if values.dtype == np.bool_:
        return crossed_share_interval(values, confidence, floor=floor)
    if values.ndim == 1:
        return mean_interval(values.tolist(), confidence, resolution=resolution)
    return crossed_interval(values, confidence, floor=floor, resolution=resolution)


def combine(found: dict[Axes, Component], floor: Sequence[Axes] = ()) -> tuple[Component, ...]:
    """The variance of the grand mean, and those of the floor: the widest counts (see `crossed_interval`)."""
    variance = sum((-1) ** (len(axes) + 1) * part.variance for axes, part in found.items())
    least = tuple(found[axes] for axes in floor)
    if any(max(variance, 0.0) < part.variance for part in least):
        return least
    if variance <= 0:
        return max(found.values(), key=lambda part: (part.variance, part.degrees)), *least
    degrees = 1 / sum((part.variance / variance) ** 2 / part.degrees for part in found.values())
    return Component(variance, max(1.0, degrees)), *least


def half_width(parts: Sequence[Component], probability: float, resolution: float = 0.0) -> float:
    """The largest t_df·√S at a probability above ½; 0 where nothing is random."""
    return max((t_quantile(part.degrees, probability) * part.error(resolution) for part in parts), default=0.0)


def _with_kurtosis(values: NDArray[Any], axis: int, part: Component) -> Component:
    """A component of one axis with the degrees of freedom that the kurtosis of its means leaves."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    means = np.asarray(np.mean(values, axis=others, dtype=np.float64))
    squares = (means - means.mean()) ** 2
    if not squares.any():
        return part
    excess = max(0.0, float(np.mean(squares**2) / np.mean(squares) ** 2) - 3)
    return Component(part.variance, 2 / (2 / part.degrees + excess / len(means)))


def _subsets(axes: Axes) -> Iterator[Axes]:
    """The non-empty subsets, small ones first."""
    for size in range(1, len(axes) + 1):
        yield from combinations(axes, size)
