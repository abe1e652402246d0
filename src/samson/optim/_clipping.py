"""Weight clipping: a small range leaves less room for noise that grows with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from samson._checks import require
from samson.optim._chip import chip_weights
from samson.optim._groups import linked_models


@dataclass(frozen=True)
class WeightClipping:
    """A step hook that clamps each weight that lies on a chip to ±α times its standard deviation.

    That is the weight matrices of linear, convolution, attention, recurrent and bilinear layers, if the model is
    known (see `param_groups`), else what has two axes or more with more than one element. Scales, biases, embeddings,
    frozen weights and such that are no real numbers are left alone, and so is a tensor whose entries are all equal.

    Args:
        alpha: α > 0; 1.5 to 2.5 are usual.

    Raises:
        ValueError: If `alpha` is not a positive finite number; after the first step, if the weight of a layer is
            computed (weight norm, pruning, other parametrizations).

    Example:
        >>> layer = torch.nn.Linear(8, 8)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> handle = optimizer.register_step_post_hook(WeightClipping(alpha=2.0))

    Reference: Joshi et al. 2020, Nature Communications 11, 2473, who clip after every step; the standard deviation
    is that of the tensor at that moment, over all its entries (divided by n).
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        require(0 < self.alpha < math.inf, "alpha", "be > 0 and finite", self.alpha)

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Clamp the optimizer's weights in place; the signature is that of torch's step hooks."""
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad and p.numel()]
        models = [getattr(optimizer, "model", None), *linked_models(weights)]
        for weight in chip_weights(weights, models, "clipping"):
            deviation = weight.std(correction=0)
            bound = torch.where(deviation > 0, self.alpha * deviation, math.inf)
            weight.clamp_(-bound, bound)
