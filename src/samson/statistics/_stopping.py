"""When to stop drawing chips: at looks whose confidence allows for looking, or by a bet that is valid at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from samson._checks import require, require_between
from samson.records import Interval
from samson.statistics._means import numbers

FIRST_LOOK = 10
"""Chips before the first look."""
Stopping = Literal["looks", "betting"]
"""How an evaluation until a precision knows when to stop: by looks that are spaced out, or by betting at any time."""


@dataclass(frozen=True)
class Look:
    """One look at the interval.

    Args:
        number: k, from 1.
        size: Chips at this look.
        confidence: Of the interval that is taken.
    """

    number: int
    size: int
    confidence: float


def first_look(largest: int, confidence: float) -> Look:
    """The look at 10 chips, or at all of fewer."""
    return Look(1, min(FIRST_LOOK, largest), 1 - (1 - confidence) / 2)


def next_look(look: Look, half_width: float, precision: float, largest: int, confidence: float) -> Look:
    """The look after one whose interval was not narrow enough.

        level_k = 1 − (1 − confidence) / (k·(k + 1)),   n_{k+1} = 2·n_k, or fewer where these should do:
        1.1·n_k·(z_{k+1}·half_width / (z_k·precision))²,  z_k the normal quantile of level_k

    So looks are at 10, 20, 40, … chips, and the last one a little beyond the chips that are needed. The levels' errors
    add up to at most 1 − confidence, however often it is looked, so the interval at which one stops covers at least
    that often, as far as those of a fixed number do: .84 to .88 where most chips are perfect and a few far off. A 95 %
    interval looked at after every chip misses in 48 % of runs.

    Args:
        look: The latest look.
        half_width: Of its interval.
        precision: The half-width that is wanted.
        largest: Chips at most.
        confidence: Over all looks, between 0 and 1.

    Example:
        >>> next_look(first_look(100, 0.95), half_width=0.02, precision=0.001, largest=100, confidence=0.95).size
        20
    """
    number = look.number + 1
    level = 1 - (1 - confidence) / (number * (number + 1))
    z, before = (NormalDist().inv_cdf((1 + p) / 2) for p in (level, look.confidence))
    share = min(z * half_width / (before * precision), 2.0)  # more than 2·n_k is never taken
    enough = math.ceil(1.1 * look.size * share**2)
    return Look(number, min(max(enough, look.size + 1), 2 * look.size, largest), level)


def betting_interval(values: Sequence[float], confidence: float, bounds: tuple[float, float]) -> Interval:
    """An interval for the mean that holds at every number of values at once, whatever their distribution.

    A gambler bets against each possible mean m with stakes that never look ahead; the interval is where neither the
    one who bets that the mean is larger, nor the one who bets that it is smaller, has multiplied the money by
    2 / (1 − confidence). For values in [0, 1]:

        K⁺(m) = Π (1 + min(λ_i, c/m)·(x_i − m)),   K⁻(m) = Π (1 − min(λ_i, c/(1 − m))·(x_i − m)),   c = ½
        λ_i = √(2·ln(2/α) / (v_{i−1}·i·ln(i + 1))),   v_i = (¼ + Σ_{j≤i} (x_j − μ_j)²) / (i + 1),
        μ_i = (½ + Σ_{j≤i} x_j) / (i + 1)

    It is exact for any chips, dead ones among them, and wider than `mean_interval` for it.

    Args:
        values: One or more, independent, within `bounds`.
        confidence: Between 0 and 1.
        bounds: The smallest and the largest possible value.

    Raises:
        ValueError: If there is no value or one is out of bounds.

    Example:
        >>> wide, narrow = (betting_interval([0.9, 0.92] * n, 0.95, (0, 1)) for n in (5, 50))
        >>> round(wide.low, 2), round(narrow.low, 2)
        (0.48, 0.85)

    Reference: Waudby-Smith and Ramdas 2024, J. R. Statist. Soc. B 86, 1 (arXiv 2010.09686), section 4.
    """
    require_between(0, 1, confidence=confidence)
    require(bounds[0] < bounds[1], "bounds", "be two numbers in ascending order", bounds)
    start, span = bounds[0], bounds[1] - bounds[0]
    x = (numbers(values) - start) / span
    if not len(x) or not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"`values` must be one or more numbers within {bounds}, got {list(values)[:5]}.")
    steps = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (steps + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (steps + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    stakes = np.sqrt(2 * math.log(2 / (1 - confidence)) / (before * steps * np.log(steps + 1)))
    enough = math.log(2 / (1 - confidence))
    mean = float(np.mean(x))

    def won(m: float, sign: int) -> bool:
        """Whether who bets that the mean is larger (+1) or smaller (−1) than m has won."""
        room = m if sign > 0 else 1 - m
        capped = np.minimum(stakes, 0.5 / room) if room > 0 else stakes
        return float(np.sum(np.log1p(sign * capped * (x - m)))) >= enough

    low = _edge(mean, lambda m: won(m, 1))
    high = 1 - _edge(1 - mean, lambda m: won(1 - m, -1))
    return Interval(start + span * mean, start + span * low, start + span * high)


def _edge(end: float, refuted: Callable[[float], bool]) -> float:
    """Where "refuted" ends, between 0 and an end that is not, by bisection; 0 if that is not refuted."""
    start = 0.0
    if not refuted(start):
        return start
    for _ in range(60):
        middle = (start + end) / 2
        start, end = (middle, end) if refuted(middle) else (start, middle)
    return start
