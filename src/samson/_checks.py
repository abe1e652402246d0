"""Checks of arguments, whose errors name the argument, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Iterable


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise ValueError unless the argument of that name keeps to a rule, such as "be ≥ 0"."""
    if not holds:
        raise ValueError(f"`{name}` must {rule}, got {value!r}.")


def require_positive(**values: float) -> None:
    """Require numbers > 0, by the names of the arguments."""
    for name, value in values.items():
        require(0 < value < math.inf, name, "be > 0 and finite", value)


def require_non_negative(**values: float) -> None:
    """Require numbers ≥ 0, by the names of the arguments."""
    for name, value in values.items():
        require(0 <= value < math.inf, name, "be ≥ 0 and finite", value)


def require_finite(**values: float) -> None:
    """Require finite numbers, by the names of the arguments."""
    for name, value in values.items():
        require(math.isfinite(value), name, "be finite", value)


def require_one_of(options: Iterable[str], **values: str) -> None:
    """Require known words, by the names of the arguments."""
    for name, value in values.items():
        require(value in options, name, f"be one of {', '.join(options)}", value)
