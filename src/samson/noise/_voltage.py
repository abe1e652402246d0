"""Supply voltage of a memory and its bit error rate: a table of points, log-linear between them."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

from samson._checks import require, require_positive
from samson.noise._types import require_type

RatesByVoltage = tuple[tuple[float, float], ...]
"""Pairs of V/V_min and bit error rate, ascending in voltage."""

RATES: RatesByVoltage = ((0.75, 0.204), (0.79, 0.056), (0.833, 0.012), (0.875, 0.001))
"""Read off the plots of Stutz et al. 2021."""


def bit_error_rate(voltage: float, rates_by_voltage: RatesByVoltage = RATES) -> float:
    """The bit error rate of an SRAM at a supply voltage, log-linear between the points of a table.

    Outside the points the nearest line is continued, to 0.5 at most, with a warning.

    Args:
        voltage: V/V_min, > 0, as a fraction of the lowest voltage without errors.
        rates_by_voltage: The points, in tuples, lists or an array: at least two, ascending in voltage, rates descending
            in (0, ½]. Leave out points without errors; of equal rates keep that of the highest voltage.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(bit_error_rate(0.80), 4)
        0.0391
    """
    require_type("voltage", voltage, float)
    require_positive(voltage=voltage)
    points = _checked(rates_by_voltage)
    if not points[0][0] <= voltage <= points[-1][0]:
        warnings.warn(
            f"`voltage` = {voltage!r} V_min is outside the measured range from {points[0][0]} to {points[-1][0]}: its "
            "bit error rate is extrapolated.",
            stacklevel=2,
        )
    return rate_at(voltage, points)


def rate_at(voltage: float, points: RatesByVoltage) -> float:
    """`bit_error_rate` of arguments that are checked already, without a word where it is extrapolated."""
    start = max(0, min(sum(v < voltage for v, _ in points) - 1, len(points) - 2))
    (v0, p0), (v1, p1) = points[start : start + 2]
    return min(p0 * math.exp(math.log(p1 / p0) * (voltage - v0) / (v1 - v0)), 0.5)


def voltage_at(rate: float, rates_by_voltage: RatesByVoltage = RATES) -> float:
    """The V/V_min at which an SRAM has a bit error rate: the inverse of `bit_error_rate`.

    An access there takes about V² of the energy at V_min = 1 (Stutz et al. 2021).

    Args:
        rate: A fraction in (0, ½]. Outside the measured rates the nearest line is continued.
        rates_by_voltage: As for `bit_error_rate`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(voltage_at(bit_error_rate(0.80)), 4)
        0.8
    """
    require_type("rate", rate, float)
    require(0 < rate <= 0.5, "rate", "be in (0, 0.5]", rate)
    points = _checked(rates_by_voltage)
    start = max(0, min(sum(p > rate for _, p in points) - 1, len(points) - 2))
    (v0, p0), (v1, p1) = points[start : start + 2]
    return v0 + (v1 - v0) * math.log(rate / p0) / math.log(p1 / p0)


def in_tuples(value: Any) -> Any:
    """Lists and arrays as tuples, within each other too; anything else as it is."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(in_tuples, value)) if isinstance(value, list | tuple) else value


def _checked(given: RatesByVoltage) -> RatesByVoltage:
    points: RatesByVoltage = in_tuples(given)
    require_type("rates_by_voltage", points, RatesByVoltage)
    require(len(points) >= 2, "rates_by_voltage", "hold at least two pairs (V/V_min, rate)", points)
    voltages, rates = zip(*points, strict=True)
    rising = all(a < b for a, b in pairwise((0.0, *voltages, math.inf)))
    require(rising, "rates_by_voltage", "have voltages > 0, ascending", points)
    if not (rates[0] <= 0.5 and all(a > b for a, b in pairwise((*rates, 0.0)))):
        raise ValueError(
            f"`rates_by_voltage` must have rates descending in (0, 0.5], got {points!r}. Leave out points without "
            "errors; of equal rates keep that of the highest voltage."
        )
    return points
