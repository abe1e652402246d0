"""SAMSON: a ball that is wide where weights are large for their own layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from samson._checks import require
from samson.optim.rules._asam import shifted
from samson.optim.rules._base import FastScale, Norms, ScalingRule


@dataclass(frozen=True)
class SAMSON(ScalingRule):
    """SAMSON: T = (|w| + η) / ‖w_l‖_p, a weight's magnitude over the range of its own layer.

    The norm is taken per tensor, of w without η. With η = 0, T does not change when a layer is rescaled. A tensor of
    zeros has no range: its T is 0 and it is left where it is. One that has just left zero has T up to 1 + η/max|w|.

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0.
        policy: Which tensors are scaled.
        p: Order of the norm, a real number ≥ 1 or infinity (the default: the layer's largest weight).

    Raises:
        ValueError: If a setting is out of its range or the policy is unknown.

    Example:
        >>> SAMSON(rho=0.5, p=2).policy
        'authors'

    Reference: Mordido, Henwood, Chandar, Leduc-Primeau 2022, arXiv 2211.11561, with T as in the public code of an
    author (github.com/sebastienwood/SamsonViT, 2023-11).
    """

    p: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.p, Real) and self.p >= 1, "p", "be ≥ 1 (or infinity)", self.p)

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """T = (|w| + η) / ‖w_l‖_p, and 0 for a tensor of zeros."""
        scales = list(torch._foreach_abs(list(weights)))
        torch._foreach_add_(scales, self.eta)
        torch._foreach_mul_(scales, list(inverses(torch.stack(norms(weights, self.p))).unbind()))
        return scales

    def fast(self) -> FastScale:
        """T from |w| in place, and a factor for each weight from its norm."""
        return FastScale(shifted, self.eta, self.p, inverses)


def inverses(norms: Tensor) -> Tensor:
    """1 / ‖w_l‖_p, and 0 where its square is no number: of zeros, and of weights that are nearly so."""
    found = norms.reciprocal()
    square = found.to(torch.promote_types(found.dtype, torch.float32)).square()
    return torch.where(square.isfinite(), found, 0.0)
