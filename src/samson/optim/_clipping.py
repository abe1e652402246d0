"""Weight clipping: a small range leaves less room for noise that grows with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson._checks import require, require_one_of, require_positive
from samson._select import Select
from samson.optim._ascent import precise
from samson.optim._chip import Finder, chip_weights, how_to_select, is_all_unknown
from samson.optim._groups import linked_models, rates_are_zero
from samson.optim._matrices import PER, ChipWeight, axes_of, change_matrices


class _Finders(dict[int, tuple[Any, Finder]]):
    """By a clipping's id: itself, and how its weights are found in the model at hand; so copies have none."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Finders, ()


@dataclass(frozen=True)
class Clipping:
    """A step hook that clamps each weight that lies on a chip to a range.

    That is the weight matrices of linear, convolution, attention, recurrent and bilinear layers, if the model is
    known (see `param_groups`), else what has two axes or more with more than one element. Scales, biases, embeddings,
    frozen weights and such that are no real numbers are left alone.

    Args:
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model. Names are those of the
            `model` that `SharpnessAware` was given, else of the one that `param_groups` was.
    """

    select: Select = field(default=None, kw_only=True)

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Clamp the optimizer's weights in place; the signature is that of torch's step hooks."""
        full = [p for group in optimizer.param_groups for p in group["params"] if p.numel()]
        parameters = [p for p in full if p.requires_grad]
        known = getattr(optimizer, "model", None)
        models = [known, *linked_models(optimizer.param_groups, known)]
        finders = vars(optimizer).setdefault("_finders_of_clippings", _Finders())  # here they would keep models alive
        _, find = finders.get(id(self)) or (self, Finder("clipping", self.select))
        weights = find(parameters, models)
        if not weights and id(self) not in finders:
            self._require_reach(full, models)
        finders[id(self)] = self, find
        if rates_are_zero(optimizer):
            self.prepare(optimizer, weights)
        else:
            self.clip(optimizer, weights)

    def _require_reach(self, parameters: Sequence[Tensor], models: Sequence[nn.Module | None]) -> None:
        """Refuse what never clips anything; weights that are frozen, or another optimizer's, may yet be clipped."""
        if self.select is not None:
            found = chip_weights(parameters, models, "clipping", self.select)
            require(bool(found), "select", "pick a weight that lies on the chip", self.select)
        elif is_all_unknown(models):
            raise ValueError(
                f"`{type(self).__name__}` needs a weight that lies on a chip, but no layer of the model that "
                f"`param_groups` was given is of a known type, so that nothing is clipped. {how_to_select(models)}; or "
                "register no clipping on this optimizer."
            )

    def prepare(self, optimizer: Optimizer, weights: Sequence[ChipWeight]) -> None:
        """Make the state into which a checkpoint may be loaded, and leave the weights as they are."""

    def clip(self, optimizer: Optimizer, weights: Sequence[ChipWeight]) -> None:
        """Clamp these weights."""
        change_matrices(weights, self.clipped)

    def clipped(self, weight: ChipWeight, matrix: Tensor) -> Tensor:
        """A matrix, with its outputs along the first axis, within its range."""
        raise NotImplementedError


@dataclass(frozen=True)
class WeightClipping(Clipping):
    """Clamp each weight that lies on a chip to ±α times its standard deviation, after each step.

    Register it as a step hook of the optimizer; a hook of all optimizers runs for a wrapper and its base, so twice.
    A tensor or channel whose entries are all equal is left alone.

    Args:
        alpha: α > 0; 1.5 to 2.5 are usual.
        per: Whether the deviation is that of the whole "layer" or of each output "channel".
        keep_norm: Whether the clamped weights are multiplied by what gives the layer, or channel, its norm back. Else
            each step shrinks them, the more the smaller α is: with weight decay a network may end a long training at
            chance (`docs/evidence.md`).
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model.

    Raises:
        ValueError: If `alpha` is not a positive finite number or `per` is unknown; after the first step, if no layer of
            the model lies on a chip, or the weight of one is computed (weight norm, pruning, other parametrizations).

    Example:
        >>> layer = torch.nn.Linear(8, 8)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> handle = optimizer.register_step_post_hook(WeightClipping(alpha=2.0))

    Reference: Joshi et al. 2020, Nature Communications 11, 2473, who clip after every step; per channel as in
    aihwkit-lightning 2.1.0. The deviation is that of the entries at that moment (divided by n).
    """

    alpha: float = 2.0
    per: str = "layer"
    keep_norm: bool = False

    def __post_init__(self) -> None:
        require_positive(alpha=self.alpha)
        require_one_of(PER, per=self.per)
        require(isinstance(self.keep_norm, bool), "keep_norm", "be True or False", self.keep_norm)

    def clipped(self, weight: ChipWeight, matrix: Tensor) -> Tensor:
        """The matrix within ±α·std, perhaps as long as before."""
        bound = self.alpha * deviations(matrix, self.per)
        bound = bound.where(bound > 0, math.inf)
        found = matrix.clamp(-bound, bound)
        if not self.keep_norm:
            return found
        before, after = (lengths(one, self.per) for one in (matrix, found))
        return (found * (before / after).where(after > 0, 1.0)).to(found.dtype)


@dataclass(frozen=True)
class FixedClipping(Clipping):
    """Clamp each weight that lies on a chip to ±w_max, after each step.

    Register it as a step hook.

    Args:
        w_max: Largest |w|, > 0; 0.1 to 0.2 are usual for networks with norm layers.
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model.

    Raises:
        ValueError: If `w_max` is not a positive finite number; after the first step as for `WeightClipping`.

    Reference: Stutz et al. 2021, arXiv 2006.13977.
    """

    w_max: float = 0.1

    def __post_init__(self) -> None:
        require_positive(w_max=self.w_max)

    def clipped(self, weight: ChipWeight, matrix: Tensor) -> Tensor:
        """The matrix within ±w_max."""
        return matrix.clamp(-self.w_max, self.w_max)


def lengths(matrix: Tensor, per: str) -> Tensor:
    """The norm of the whole matrix or of each row, with as many axes, in at least float32."""
    found: Tensor = torch.linalg.vector_norm(matrix.to(precise(matrix)), dim=axes_of(matrix, per), keepdim=True)
    return found


def deviations(matrix: Tensor, per: str) -> Tensor:
    """The standard deviation of the whole matrix or of each row, with as many axes; of equal entries exactly 0."""
    axes = axes_of(matrix, per)
    if not axes:
        return torch.zeros_like(matrix)
    differs = matrix.amax(axes, keepdim=True) > matrix.amin(axes, keepdim=True)
    return matrix.std(axes, correction=0, keepdim=True).where(differs, 0.0)
