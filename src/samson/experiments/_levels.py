"""Levels of noises and ages of chips: those by default, and as a user writes them."""

from __future__ import annotations

import math

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


def parse_level(text: str, unit: str, parameter: str = "`levels`") -> float:
    """Read one noise level; where the unit is "s", it may be an age with s, m, h, d or y.

    Raises:
        SetupError: If it is neither.

    Example:
        >>> parse_level(".1", "level"), parse_level("3600", "s"), parse_level("1d", "s")
        (0.1, 3600.0, 86400.0)
    """
    rule, example = (f"a number, or an age with {_UNITS}", "1d") if unit == "s" else ("a number", ".1")
    try:
        return seconds_of(text) if unit == "s" and text[-1:] in UNITS else float(text)
    except ValueError:
        raise SetupError(f"{parameter} must be {rule}, got {text!r}.\nWrite for example {example}.") from None


def parse_time(word: str) -> float:
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
    require(0 <= found < math.inf, "`times`", f"numbers ≥ 0 with one of {_UNITS}", word, "Write for example 1h or 10y.")
    return found
