"""Lognormal noise: errors that scale each weight and never change its sign."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from samson._checks import require, require_non_negative
from samson.noise._base import FixedNoise
from samson.noise._random import standard_normal
from samson.noise._types import require_types


@dataclass(frozen=True)
class Lognormal(FixedNoise):
    """Independent factors on every weight, drawn once a chip: w·exp(σξ) with ξ ~ N(0, 1).

    The mean factor is exp(σ²/2), so weights grow on average. With `corrected=True` it is 1: w·exp(σξ − σ²/2).

    Args:
        sigma: σ ≥ 0, the standard deviation of the logarithm; < 1e154 if corrected.
        corrected: Whether the mean factor is 1.

    Raises:
        ValueError: If `sigma` is negative or not finite, or its square is not where that is needed.

    Example:
        >>> import torch
        >>> noisy = Lognormal(0.1)(torch.ones(2, 3), torch.Generator().manual_seed(0))
        >>> bool((noisy > 0).all())
        True

    Reference: the generic lognormal model of the literature; no constants.
    """

    sigma: float
    corrected: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        require_non_negative(sigma=self.sigma)
        finite = not self.corrected or self.sigma < 1e154
        require(finite, "sigma", "be below 1e154 with `corrected`, so that its square is finite", self.sigma)

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """Scale the weights."""
        exponent = standard_normal(weight, generator).mul_(self.sigma)
        if self.corrected:
            exponent.sub_(self.sigma**2 / 2)
        return exponent.exp_().mul_(weight)
