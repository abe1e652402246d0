"""Levels of noises and ages of chips: those by default, and as a user writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from samson._errors import SetupError, require
from samson._times import UNITS, seconds_of

LEVELS = {
    "level": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "bit error rate": (0.0, 1e-4, 1e-3, 0.01, 0.05),
    "s": (3600.0, 86_400.0, 31_536_000.0, 315_360_000.0),
}
"""Noise levels by default, by what a level of the family is."""

USUAL = {"level": 0.1, "bit error rate": 0.01, "s": 86_400.0}
"""The level where there is one alone."""

_UNITS = ", ".join(UNITS)


def parse_levels(text: str, unit: str = "level") -> list[float]:
    """Read noise levels separated by commas; where the unit is "s", each may be an age with s, m, h, d or y.

    Raises:
        SetupError: If one is not a number.

    Example:
        >>> parse_levels("0,.1"), parse_levels("3600,1d", "s")
        ([0.0, 0.1], [3600.0, 86400.0])
    """
    also, example = (f"numbers, or ages with {_UNITS},", "1h,1d,1y") if unit == "s" else ("numbers", "0,.1,.2")
    with _numbers("`levels`", f"{also} separated by commas", text, example):
        return [_level(word, unit) for word in text.split(",")]


def parse_level(text: str, unit: str, parameter: str) -> float:
    """Read one noise level, as `parse_levels` does.

    Raises:
        SetupError: If it is not one number.
    """
    rule, example = (f"one number, or one age with {_UNITS}", "1d") if unit == "s" else ("one number", ".1")
    with _numbers(parameter, rule, text, example):
        return _level(text, unit)


def _level(word: str, unit: str) -> float:
    return seconds_of(word) if unit == "s" and word[-1:] in UNITS else float(word)


@contextmanager
def _numbers(parameter: str, rule: str, text: str, example: str) -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise SetupError(f"{parameter} must be {rule}, got {text!r}.\nWrite for example {example}.") from None


def parse_time(word: str, parameter: str = "`times`") -> float:
    """Read a time, a number with s, m, h, d or y; in seconds.

    Raises:
        SetupError: If it is none.

    Example:
        >>> parse_time("1.5h")
        5400.0
    """
    try:
        found = seconds_of(word)
    except ValueError:
        found = math.nan
    require(0 <= found < math.inf, parameter, f"numbers ≥ 0 with one of {_UNITS}", word, "Write for example 1h or 10y.")
    return found
