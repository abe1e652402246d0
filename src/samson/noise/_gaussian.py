"""The generic Gaussian noise of the literature, relative to a layer, an output channel or the weight itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from samson._checks import require_non_negative, require_one_of
from samson.noise._base import FixedNoise
from samson.noise._random import standard_normal
from samson.noise._types import require_types
from samson.noise._units import reduce_by


@dataclass(frozen=True)
class Gaussian(FixedNoise):
    """Independent Gaussian errors on every weight, drawn once a chip: w + σ·s·ξ with ξ ~ N(0, 1).

    The size s is the largest |w| of the tensor (`per="layer"`), the largest |w| of each output channel
    (`per="channel"`), its square root (`per="filter"`), or the weight's own |w| (`per="weight"`: multiplicative noise,
    w(1 + σξ)). A filter is an output channel; the square root makes the error depend on the scale of the weights.

    Args:
        sigma: σ ≥ 0, a fraction.
        per: What the noise is relative to.

    Raises:
        ValueError: If `sigma` is negative or not finite, or `per` is unknown.

    Example:
        >>> import torch
        >>> Gaussian(0.1)(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    Reference: Joshi et al. 2020, Nature Communications 11, 2473 (relative to the layer's largest weight); the generic
    model of Mordido et al. 2022, arXiv 2211.11561; "Incorruptible Neural Networks", arXiv 2602.07320 (filter).
    """

    sigma: float
    per: str = "layer"

    def __post_init__(self) -> None:
        require_types(self)
        require_non_negative(sigma=self.sigma)
        require_one_of(("layer", "channel", "filter", "weight"), per=self.per)

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """Add the errors."""
        return standard_normal(weight, generator).mul_(self._size(weight) * self.sigma).add_(weight)

    def _size(self, weight: Tensor) -> Tensor:
        magnitudes = weight.abs()
        if self.per == "weight":
            return magnitudes
        largest = reduce_by(magnitudes, "layer" if self.per == "layer" else "channel", "amax")
        return largest.sqrt() if self.per == "filter" else largest
