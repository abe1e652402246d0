"""Curves of a relative conductance, as published for devices: constants are data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-7
"""Relative conductances are clipped here before a logarithm is taken, as in aihwkit."""


def polynomial(coefficients: Sequence[float], r: Tensor) -> Tensor:
    """Σ c_i r^i, the constant first, as a new tensor."""
    value = torch.full_like(r, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value.mul_(r).add_(c)
    return value


@dataclass(frozen=True)
class Logarithmic:
    """clamp(slope·ln r + offset, low, high) below `split`, and a polynomial of r from there on.

    Example:
        >>> Logarithmic(-0.0155, 0.0244, 0.049, 0.1)(torch.tensor([0.0, 1.0]))
        tensor([0.1000, 0.0490])
    """

    slope: float
    offset: float
    low: float
    high: float
    split: float = math.inf
    above: tuple[float, ...] = ()

    def __call__(self, r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0."""
        below = r.clamp(min=SMALLEST).log_().mul_(self.slope).add_(self.offset).clamp_(self.low, self.high)
        if not self.above:
            return below
        return polynomial(self.above, r).sub_(below).mul_((r >= self.split).to(r.dtype)).add_(below)  # a fast `where`


@dataclass(frozen=True)
class InversePower:
    """min(factor / max(r^exponent, floor), high).

    Example:
        >>> InversePower(0.0088, 0.65, 1e-3, 0.2)(torch.tensor([0.0, 1.0]))
        tensor([0.2000, 0.0088])
    """

    factor: float
    exponent: float
    floor: float
    high: float

    def __call__(self, r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0."""
        smallest = self.floor ** (1 / self.exponent)
        inverse = (
            r.clamp(min=smallest).log_().mul_(-self.exponent).exp_()
        )  # faster than `pow`, and than an infinite one
        return inverse.mul_(self.factor).clamp_(max=self.high)
