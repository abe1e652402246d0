"""The difference of two methods from their tables of models x chips x examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samson._checks import require_between
from samson.records import Interval
from samson.statistics._crossed import Axes, Component, combine, components, half_width
from samson.statistics._means import CONFIDENCE, mean_bound, mean_p_value, numbers
from samson.statistics._student import t_below, t_quantile


@dataclass(frozen=True)
class Spread:
    """A difference with what its interval at any level is made from.

    Args:
        mean: The difference.
        values: Independent differences, one a chip, if chips are the only level of randomness; then Hall's correction
            applies (see `mean_interval`).
        parts: Else variances of the mean with their degrees of freedom, the widest of which counts (see `combine`);
            none where nothing is random.
    """

    mean: float
    values: tuple[float, ...] = field(default=(), repr=False)
    parts: tuple[Component, ...] = ()

    def bound(self, probability: float, resolution: float) -> float:
        """The end of a one-sided interval."""
        if self.values:
            return mean_bound(self.values, probability, resolution=resolution)
        half = half_width(self.parts, max(probability, 1 - probability), resolution)
        return self.mean + (half if probability > 0.5 else -half)

    def interval(self, confidence: float, resolution: float) -> Interval:
        """The two-sided interval."""
        require_between(0, 1, confidence=confidence)
        tail = (1 - confidence) / 2
        return Interval(self.mean, self.bound(tail, resolution), self.bound(1 - tail, resolution))

    def p_value(self, resolution: float) -> float:
        """The two-sided p-value of no difference."""
        if self.values:
            return mean_p_value(self.values, resolution=resolution)
        errors = [(part.degrees, part.error(resolution)) for part in self.parts]
        found = [2 * t_below(degrees, -abs(self.mean) / error) for degrees, error in errors if error]
        return max(found, default=float(self.mean == 0))


def spread(ours: NDArray[Any], theirs: NDArray[Any], *, shared: Axes, floor: Sequence[Axes] = ()) -> Spread:
    """The spread of the difference of two tables' means.

    Inclusion and exclusion as in `crossed_interval`. What both tables share counts by the table of differences, after
    averaging over what they do not share; every effect of what they do not share counts for each table.

    Args:
        ours: Values, one axis for each level of randomness.
        theirs: Values, with the same axes; those that are shared have the same length.
        shared: Axes whose entries are the same in both: the same chip, the same example, the same training seed.
        floor: Effects that alone make the interval at least as wide as it is.

    An axis with one entry, such as that of chips without noise, is no level of randomness and is left out.
    """
    single = {axis for axis in range(ours.ndim) if ours.shape[axis] == theirs.shape[axis] == 1}
    if single:
        kept = [axis for axis in range(ours.ndim) if axis not in single]
        places = {axis: place for place, axis in enumerate(kept)}
        floor = [tuple(places[axis] for axis in axes) for axes in floor if not single & set(axes)]
        shared = tuple(places[axis] for axis in shared if axis in places)
        ours, theirs = (table.squeeze(tuple(single)) for table in (ours, theirs))
    mean = float(np.mean(ours, dtype=np.float64)) - float(np.mean(theirs, dtype=np.float64))
    own = tuple(axis for axis in range(ours.ndim) if axis not in shared)
    if not ours.ndim:
        return Spread(mean)
    if shared and ours.ndim == 1:
        return Spread(mean, tuple((ours.astype(np.float64) - theirs).tolist()))
    parts: dict[Axes, Component] = {}
    if shared:
        found = components(_margin(ours, own) - _margin(theirs, own))
        parts = {tuple(shared[i] for i in axes): part for axes, part in found.items()}
    if own:
        separate = [components(table) for table in (ours, theirs)]
        parts |= {axes: _sum([each[axes] for each in separate]) for axes in separate[0] if set(axes) & set(own)}
    return Spread(mean, (), combine(parts, floor))


def variance_ratio(ours: Sequence[float], theirs: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """How much smaller the variance of a difference is because the chips are common.

        R = (var(a) + var(b)) / var(a − b) = (1 + var(a + b) / var(a − b)) / 2

    With the interval of the F distribution for the ratio var(a + b) / var(a − b), exact for normal chips of equal
    spread in both. R = 1 is no gain.

    Args:
        ours: One value a chip.
        theirs: The same chips.
        confidence: Between 0 and 1.

    Reference: F of n and n degrees of freedom by t of n: Cacoullos 1965, J. Am. Statist. Assoc. 60, 528.
    """
    require_between(0, 1, confidence=confidence)
    a, b = numbers(ours, "ours"), numbers(theirs, "theirs")
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"`ours` and `theirs` must be at least 2 values of the same chips, got {len(a)} and {len(b)}.")
    same, different = (float(np.var(values, ddof=1)) for values in (a + b, a - b))
    tiny = (1e-12 * max(np.abs(a).max(), np.abs(b).max())) ** 2  # rounding, where no difference varies
    if different <= tiny:
        return Interval(math.inf, 0.5, math.inf)
    tail, degrees = (1 - confidence) / 2, len(a) - 1
    shift = t_quantile(degrees, 1 - tail) / math.sqrt(degrees)
    high = (shift + math.sqrt(1 + shift**2)) ** 2  # the quantile of F, whose other end is its inverse
    ratio = same / different
    return Interval((1 + ratio) / 2, (1 + ratio / high) / 2, (1 + ratio * high) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, which allow for having made all of these comparisons.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference: Holm 1979, Scand. J. Statist. 6, 65.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"`p_values` must lie between 0 and 1, got {list(p_values)!r:.80}.")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _margin(table: NDArray[Any], over: Axes) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.mean(table, axis=over, dtype=np.float64)
    return found


def _sum(parts: Sequence[Component]) -> Component:
    """The sum of independent components, with Satterthwaite's degrees of freedom."""
    variance = sum(part.variance for part in parts)
    if not variance:
        return Component(0.0, sum(part.degrees for part in parts))
    return Component(variance, 1 / sum((part.variance / variance) ** 2 / part.degrees for part in parts))
