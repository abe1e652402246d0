"""Curves of a relative conductance, as published for devices: constants are data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samson._checks import require, require_finite, require_non_negative, require_positive
from samson.noise._types import require_types
from samson.noise._units import where_ge

SMALLEST = 1e-7
"""Relative conductances are clipped here before a logarithm is taken, as in aihwkit."""


def logarithm(r: Tensor) -> Tensor:
    """The natural logarithm of r, clipped at `SMALLEST`, as a new tensor; curves share it, as it costs most of them."""
    return r.clamp(min=SMALLEST).log_()


def polynomial(coefficients: Sequence[float], r: Tensor) -> Tensor:
    """Σ c_i r^i, the constant first, as a new tensor."""
    *lower, highest = coefficients
    if not lower:
        return torch.full_like(r, highest)
    value = r * highest
    for c in reversed(lower[1:]):
        value.add_(c).mul_(r)
    return value.add_(lower[0])


def check_coefficients(name: str, coefficients: Sequence[float], at_least: int = 0) -> None:
    """Raise unless these are enough finite numbers.

    Raises:
        ValueError: If that is not so.
    """
    enough = f"at least {at_least} finite number" if at_least else "finite numbers"
    held = len(coefficients) >= at_least and all(map(math.isfinite, coefficients))
    require(held, name, f"hold {enough}", coefficients)


@dataclass(frozen=True)
class Logarithmic:
    """clamp(slope·ln r + offset, low, high) below `split`, and a polynomial of r from there on.

    Args:
        slope: Finite.
        offset: Finite.
        low: Finite, ≥ 0.
        high: Finite, ≥ `low`.
        split: The relative conductance from which on the polynomial holds, > 0; inf is nowhere.
        above: Coefficients of the polynomial, the constant first; needed where `split` is finite, and only there.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> r = torch.tensor([0.0, 1.0])
        >>> Logarithmic(-0.0155, 0.0244, 0.049, 0.1)(r, logarithm(r))
        tensor([0.1000, 0.0490])
    """

    slope: float
    offset: float
    low: float
    high: float
    split: float = math.inf
    above: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        require_finite(slope=self.slope, offset=self.offset)
        if not 0 <= self.low <= self.high < math.inf:
            raise ValueError(f"`low` must be ≥ 0 and ≤ `high`, both finite, got {self.low!r} and {self.high!r}.")
        if not self.split > 0 or (self.split < math.inf) != bool(self.above):
            raise ValueError(
                f"`split` must be > 0, and finite where and only where `above` has coefficients, got {self.split!r} "
                f"with above={self.above!r}."
            )
        check_coefficients("above", self.above)

    def __call__(self, r: Tensor, log_r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0, whose `logarithm` is given."""
        below = (log_r * self.slope).add_(self.offset).clamp_(self.low, self.high)
        if not self.above:
            return below
        return where_ge(r, self.split, polynomial(self.above, r), below)


@dataclass(frozen=True)
class InversePower:
    """min(factor / max(r^exponent, floor), high).

    Args:
        factor: Finite, ≥ 0.
        exponent: Finite, > 0.
        floor: Finite, > 0.
        high: Finite, ≥ 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> r = torch.tensor([0.0, 1.0])
        >>> InversePower(0.0088, 0.65, 1e-3, 0.2)(r, logarithm(r))
        tensor([0.2000, 0.0088])
    """

    factor: float
    exponent: float
    floor: float
    high: float

    def __post_init__(self) -> None:
        require_types(self)
        require_non_negative(factor=self.factor, high=self.high)
        require_positive(exponent=self.exponent, floor=self.floor)

    def __call__(self, r: Tensor, log_r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0, whose `logarithm` is given: a line there, and faster than `pow`."""
        largest = min(self.factor / self.floor, self.high)
        if not largest:
            return torch.zeros_like(r)
        line = (log_r * -self.exponent).add_(math.log(self.factor))
        return line.clamp_(max=math.log(largest)).exp_()
