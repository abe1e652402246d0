"""The range ball: every weight of a layer on the chip may move by the same share of the layer's range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samson._checks import require_one_of
from samson._select import Select
from samson.optim._matrices import PER, axes_of
from samson.optim.rules._base import AscentRule, FastScale, Norms


@dataclass(frozen=True)
class RangeSAM(AscentRule):
    """Range ball: T = max|w_l| for every entry of a weight on the chip, and 0 for what stays digital.

    The ball has the shape of noise that grows with a layer's range, ‖ε / max|w_l|‖₂ ≤ ρ. Unlike SAMSON, which moves
    large weights most, it moves small and large ones alike, as a chip does. The loss on it does not change when a layer
    is rescaled and what follows undoes that.

    Args:
        rho: Radius ρ ≥ 0.
        per: Whether a whole "layer" has one range, or each output "channel" its own, as on chips that map them so.
        through_range: Whether the step's gradient passes through the range, of which the perturbation is a function:
            at a fixed ε / T it adds sign(w)·⟨∇L(w + ε), ε_l⟩ / max|w_l| at the largest weights, in equal shares.
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; by default every known one that is no
            embedding. Needs the model.

    Raises:
        ValueError: If `rho` or `per` is out of its range; in an optimizer, if no weight lies on the chip or a layer
            computes one.

    Example:
        >>> RangeSAM(rho=0.5).per
        'layer'

    Reference: ours, not published. The gradient through the range is that of the largest loss on the ball by Danskin's
    theorem, with ε / T as the point where it is reached; ties as `torch.amax` treats them.
    """

    rho: float = 0.5
    per: str = "layer"
    through_range: bool = False
    select: Select = None

    on_chip = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(PER, per=self.per)

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        """Every tensor that is perturbed at all."""
        return True

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """T = max|w_l|, or that of each channel along the first axis."""
        if self.per == "layer":
            return [size.expand(w.shape) for w, size in zip(weights, norms(weights, torch.inf), strict=True)]
        return [sizes_of(w.abs(), self.per).expand(w.shape) for w in weights]

    def fast(self) -> FastScale | None:
        """1 in place of |w|, times the largest |w| of each weight."""
        return FastScale(_ones, 0.0, torch.inf, _as_it_is) if self.per == "layer" else None


def sizes_of(magnitudes: Tensor, per: str) -> Tensor:
    """The largest |w|, for the layer or each channel along the first axis, with as many axes as the weight."""
    axes = axes_of(magnitudes, per)
    if not magnitudes.numel() or not axes:
        return magnitudes.sum(dim=axes, keepdim=True) if axes else magnitudes
    return magnitudes.amax(dim=axes, keepdim=True)


def _ones(sizes: Tensor, _: float) -> Tensor:
    return sizes.fill_(1.0)


def _as_it_is(sizes: Tensor) -> Tensor:
    return sizes
