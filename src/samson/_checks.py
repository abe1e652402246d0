"""Checks of arguments, whose errors name the argument, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from samson._names import nearest


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise ValueError unless the argument of that name keeps to a rule, such as "be ≥ 0"."""
    if not holds:
        raise ValueError(f"`{name}` must {rule}, got {value!r}.")


def promise(kept: Any, words: str) -> None:
    """Raise AssertionError with these words unless a promise is kept: by a bool, or a tensor of one."""
    if not kept:
        raise AssertionError(f"{words}.")


def require_number(name: str, value: object) -> None:
    """Require a real number, also a tensor of one; NaN, which further rules refuse, counts as one here."""
    require(hasattr(value, "__float__"), name, "be a number", value)


def require_positive(**values: float) -> None:
    """Require numbers > 0, by the names of the arguments."""
    for name, value in values.items():
        require_number(name, value)
        require(0 < value < math.inf, name, "be > 0 and finite", value)


def require_non_negative(**values: float) -> None:
    """Require numbers ≥ 0, by the names of the arguments."""
    for name, value in values.items():
        require_number(name, value)
        require(0 <= value < math.inf, name, "be ≥ 0 and finite", value)


def require_finite(**values: float) -> None:
    """Require finite numbers, by the names of the arguments."""
    for name, value in values.items():
        require(math.isfinite(value), name, "be finite", value)


def require_whole(least: int, **values: Any) -> None:
    """Require whole numbers of at least `least`, by the names of the arguments; True and False are none."""
    for name, value in values.items():
        require(isinstance(value, Integral) and not isinstance(value, bool), name, "be a whole number", value)
        require(value >= least, name, f"be at least {least}", value)


def require_between(low: float, high: float, **values: Any) -> None:
    """Require numbers between two others, which do not count, by the names of the arguments."""
    for name, value in values.items():
        require(is_number(value) and low < value < high, name, f"lie between {low} and {high}", value)


def is_number(value: object) -> bool:
    """Whether a value is a real number; True, False and NaN are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def require_one_of(options: Iterable[str], **values: str) -> None:
    """Require known words, by the names of the arguments; the error suggests the nearest."""
    known = tuple(options)
    for name, value in values.items():
        if value not in known:
            hint = nearest(str(value), known)
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.{hint}")
