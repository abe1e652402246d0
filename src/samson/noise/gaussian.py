"""The generic Gaussian noise of the literature, relative to a layer, an output channel or the weight itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from samson.noise.base import State, WeightNoise
from samson.noise.random import standard_normal, working_dtype

UNITS = ("layer", "channel", "weight")


@dataclass(frozen=True)
class Gaussian(WeightNoise):
    """Independent Gaussian errors on every weight, drawn once a chip: w + σ·s·ξ with ξ ~ N(0, 1).

    The size s is the largest |w| of the tensor (`per="layer"`), the largest |w| of each output channel
    (`per="channel"`), or the weight's own |w| (`per="weight"`: multiplicative noise, w(1 + σξ)).

    Args:
        sigma: σ ≥ 0, a fraction.
        per: What the noise is relative to.

    Raises:
        ValueError: If `sigma` is negative or not finite, or `per` is unknown.

    Example:
        >>> import torch
        >>> noisy = Gaussian(0.1)(torch.ones(2, 3), torch.Generator().manual_seed(0))
        >>> noisy.shape
        torch.Size([2, 3])

    Reference: Joshi et al. 2020, Nature Communications 11, 2473 (relative to the layer's largest weight); the generic
    model of Mordido et al. 2022, arXiv 2211.11561.
    """

    sigma: float
    per: str = "layer"

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"`sigma` must be ≥ 0 and finite, got {self.sigma!r}.")
        if self.per not in UNITS:
            raise ValueError(f"`per` must be one of {', '.join(UNITS)}, got {self.per!r}.")

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Add the errors, in at least float32; the result has the weight's dtype."""
        exact = weight.detach().to(working_dtype(weight))
        errors = standard_normal(weight, generator).mul_(self._size(exact) * self.sigma)
        return {"weight": errors.add_(exact).to(weight.dtype)}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Give the programmed weight: this noise neither drifts nor changes from read to read."""
        return state["weight"]

    def _size(self, weight: Tensor) -> Tensor:
        magnitudes = weight.abs()
        if self.per == "weight" or not weight.numel():
            return magnitudes
        if self.per == "layer" or weight.ndim < 2:
            return magnitudes.max()
        return magnitudes.amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
