"""Times as a person writes them."""

from __future__ import annotations

_UNITS = (("year", 365 * 86_400.0), ("day", 86_400.0), ("h", 3600.0), ("min", 60.0))


def age_text(seconds: float) -> str:
    """A time in the largest unit of which it is at least one, with three digits.

    Example:
        >>> age_text(3600), age_text(86_400), age_text(315_360_000), age_text(90), age_text(0.5)
        ('1 h', '1 day', '10 years', '1.5 min', '0.5 s')
    """
    for unit, size in _UNITS:
        number = f"{seconds / size:.3g}"
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
