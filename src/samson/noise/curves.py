"""Curves of a relative conductance, as published for devices: constants are data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from samson.noise.units import choose

SMALLEST = 1e-7
"""Relative conductances are clipped here before a logarithm is taken, as in aihwkit."""


def logarithm(r: Tensor) -> Tensor:
    """The natural logarithm of r, clipped at `SMALLEST`, as a new tensor; curves share it, as it costs most of them."""
    return r.clamp(min=SMALLEST).log_()


def polynomial(coefficients: Sequence[float], r: Tensor) -> Tensor:
    """Σ c_i r^i of two coefficients or more, the constant first, as a new tensor."""
    value = r * coefficients[-1]
    for c in reversed(coefficients[1:-1]):
        value.add_(c).mul_(r)
    return value.add_(coefficients[0])


@dataclass(frozen=True)
class Logarithmic:
    """clamp(slope·ln r + offset, low, high) below `split`, and a polynomial of r from there on.

    Example:
        >>> import torch
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

    def __call__(self, r: Tensor, log_r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0, whose `logarithm` is given."""
        below = (log_r * self.slope).add_(self.offset).clamp_(self.low, self.high)
        if not self.above:
            return below
        return choose(r, self.split, polynomial(self.above, r), below)


@dataclass(frozen=True)
class InversePower:
    """min(factor / max(r^exponent, floor), high).

    Example:
        >>> import torch
        >>> r = torch.tensor([0.0, 1.0])
        >>> InversePower(0.0088, 0.65, 1e-3, 0.2)(r, logarithm(r))
        tensor([0.2000, 0.0088])
    """

    factor: float
    exponent: float
    floor: float
    high: float

    def __call__(self, r: Tensor, log_r: Tensor) -> Tensor:
        """The curve at relative conductances ≥ 0, whose `logarithm` is given: a line there, and faster than `pow`."""
        largest = min(self.factor / self.floor, self.high)
        line = (log_r * -self.exponent).add_(math.log(self.factor))
        return line.clamp_(max=math.log(largest)).exp_()
