"""ASAM: a ball that is wide where weights are large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samson.optim.rules._base import FastScale, Norms, ScalingRule


@dataclass(frozen=True)
class ASAM(ScalingRule):
    """Adaptive SAM: T = |w| + η, so that sharpness does not change when a layer is rescaled (η = 0).

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0.
        policy: Which tensors are scaled.

    Example:
        >>> ASAM(rho=0.5).eta
        0.01

    Reference: Kwon et al. 2021, arXiv 2102.11600, section 3. Its text scales every weight but no bias; here, as in
    the SAMSON authors' code, the policy decides.
    """

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """T = |w| + η; for a complex weight |w| is the modulus."""
        scales = list(torch._foreach_abs(list(weights)))
        torch._foreach_add_(scales, self.eta)
        return scales

    def fast(self) -> FastScale:
        """T from |w| in place."""
        return FastScale(shifted, self.eta)


def shifted(sizes: Tensor, eta: float) -> Tensor:
    """|w| + η, in place of |w|."""
    return sizes.add_(eta)
