"""Times as a person writes them."""

from __future__ import annotations

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "y": 365 * 86_400.0}
"""Seconds, by the letter that a user writes."""
_SHOWN = {"y": "year", "d": "day", "h": "h", "m": "min"}


def seconds_of(word: str) -> float:
    """What a number with one of `UNITS` says; ValueError if it is none.

    Example:
        >>> seconds_of("1.5h")
        5400.0
    """
    if word[-1:] not in UNITS:
        raise ValueError(word)
    return float(word[:-1]) * UNITS[word[-1]]


def age_text(seconds: float) -> str:
    """A time in the largest unit of which it is at least one, with three digits.

    Example:
        >>> age_text(3600), age_text(86_400), age_text(315_360_000), age_text(90), age_text(0.5)
        ('1 h', '1 day', '10 years', '1.5 min', '0.5 s')
    """
    for letter, unit in _SHOWN.items():
        number = f"{seconds / UNITS[letter]:.3g}"
        if float(number) >= 1:
            several = unit in ("year", "day") and number != "1"
            return f"{number} {unit}{'s' * several}"
    return f"{seconds:.3g} s"


def level_text(level: float, unit: str) -> str:
    """A level of a noise: a time where the unit is "s", else the number alone, with three digits.

    Example:
        >>> level_text(86_400, "s"), level_text(0.1234, "level")
        ('1 day', '0.123')
    """
    return age_text(level) if unit == "s" else f"{level:.3g}"
