"""Weight clipping: a small range leaves less room for noise that grows with it. The range is given, or learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson._checks import require
from samson._select import Select
from samson.optim._ascent import precise
from samson.optim._chip import (
    PER,
    ChipWeight,
    Finder,
    axes_of,
    change_matrices,
    chip_weights,
    how_to_select,
    is_all_unknown,
)
from samson.optim._groups import linked_models, rates_are_zero
from samson.optim._sharding import whole

RANGES = "ranges"
"""Key in a parameter's optimizer state under which learned ranges are kept."""


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

    @cached_property
    def _finders(self) -> WeakKeyDictionary[Optimizer, Finder]:
        return WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Clamp the optimizer's weights in place; the signature is that of torch's step hooks."""
        full = [p for group in optimizer.param_groups for p in group["params"] if p.numel()]
        parameters = [p for p in full if p.requires_grad]
        models = [getattr(optimizer, "model", None), *linked_models(full)]
        find = self._finders.get(optimizer) or Finder("clipping", self.select)
        weights = find(parameters, models)
        if not weights and optimizer not in self._finders:
            self._require_reach(full, models)
        self._finders[optimizer] = find
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

    Register it as a step hook. A tensor or channel whose entries are all equal is left alone.

    Args:
        alpha: α > 0; 1.5 to 2.5 are usual.
        per: Whether the deviation is that of the whole "layer" or of each output "channel".
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

    def __post_init__(self) -> None:
        require(0 < self.alpha < math.inf, "alpha", "be > 0 and finite", self.alpha)
        require(self.per in PER, "per", f"be one of {', '.join(PER)}", self.per)

    def clipped(self, weight: ChipWeight, matrix: Tensor) -> Tensor:
        """The matrix within ±α·std."""
        bound = self.alpha * deviations(matrix, self.per)
        bound = bound.where(bound > 0, math.inf)
        return matrix.clamp(-bound, bound)


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
        require(0 < self.w_max < math.inf, "w_max", "be > 0 and finite", self.w_max)

    def clipped(self, weight: ChipWeight, matrix: Tensor) -> Tensor:
        """The matrix within ±w_max."""
        return matrix.clamp(-self.w_max, self.w_max)


@dataclass(frozen=True)
class LearnedRange(Clipping):
    """Clamp each weight that lies on a chip to ±r, a range that is learned along, after each step.

        r ← r − lr·(∂L/∂r / √n + penalty·r),    ∂L/∂r = Σ_{|w| ≥ r} min(0, sign(w)·∂L/∂w)

    with n weights in the range and lr the learning rate of the parameter's group. The gradient is that of a clamp,
    summed over the weights that want beyond their range; one that wants back inside is free to go and not counted. So
    the loss widens ranges where that helps, and the penalty narrows them. The ranges are kept in the optimizer's state.

    Args:
        start: The first range in standard deviations, > 0.
        penalty: Strength ≥ 0 of what narrows the ranges.
        per: Whether the whole "layer" has one range, or each output "channel" its own.
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model.

    Raises:
        ValueError: If a setting is out of its range; after the first step as for `WeightClipping`; after a step, if a
            loaded state has other ranges than `per` says.

    Example:
        >>> layer = torch.nn.Linear(8, 8)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> handle = optimizer.register_step_post_hook(LearnedRange(start=2.0, penalty=0.01))

    Reference: Esser et al. 2020 (LSQ), arXiv 1902.08153, equation 3 and section 2.2 for the gradient and its scale,
    there through a rounding, and with latent weights beyond the range where here the weights themselves are clamped.
    On the digits that was no worse: .984 of the validation split on noisy chips, and .972 with latent weights, each
    the best of eight settings and the mean of two seeds (`benchmarks/records/learned-range.json`).
    """

    start: float = 2.0
    penalty: float = 0.01
    per: str = "layer"

    def __post_init__(self) -> None:
        require(0 < self.start < math.inf, "start", "be > 0 and finite", self.start)
        require(0 <= self.penalty < math.inf, "penalty", "be ≥ 0 and finite", self.penalty)
        require(self.per in PER, "per", f"be one of {', '.join(PER)}", self.per)

    def clip(self, optimizer: Optimizer, weights: Sequence[ChipWeight]) -> None:
        """Move the ranges, then clamp the weights to them."""
        rates: dict[Tensor, Any] = {p: group.get("lr") for group in optimizer.param_groups for p in group["params"]}
        known_rates = all(rates[weight.parameter] is not None for weight in weights)
        require(known_rates, "lr", "be a number, by which a learned range moves (else take WeightClipping)", None)
        uphill = {p for group in optimizer.param_groups if group.get("maximize") for p in group["params"]}
        gradients = {w.parameter: None if w.parameter.grad is None else whole(w.parameter.grad) for w in weights}
        skips = getattr(optimizer, "found_inf", None)  # a fused base leaves a scaler's step out by itself
        for p, count in self._counts(weights).items():
            known = len(optimizer.state.get(p, {}).get(RANGES, ())) or count
            rule = f"be as in the loaded state, and `select` too (ranges of a weight there: {known}, here: {count})"
            require(known == count, "per", rule, self.per)
        ranges: dict[Tensor, list[Tensor]] = {}

        def clipped(weight: ChipWeight, matrix: Tensor) -> Tensor:
            parameter, layout = weight.parameter, weight.matrix
            known = optimizer.state.get(parameter, {}).get(RANGES)
            before = sum(r.numel() for r in ranges.get(parameter, ()))
            deviation = deviations(matrix, self.per)
            bound = self.start * deviation
            bound = bound.where(bound > 0, matrix.abs().amax()).to(precise(matrix))
            own = torch.full_like(bound, math.inf)  # a range that has not begun
            if known is not None:
                own = known[before : before + deviation.numel()].view_as(deviation).to(bound.dtype)
                bound = own.where(own.isfinite(), bound)
            gradient = gradients[parameter]
            if gradient is not None:
                along = layout.output_first(layout.within(gradient)) * matrix.sign()
                along = -along if parameter in uphill else along
                beyond = along.clamp(max=0).where(matrix.abs() >= bound.to(matrix.dtype), 0)
                slope = beyond.sum(axes_of(matrix, self.per), keepdim=True) / math.sqrt(matrix.numel() / bound.numel())
                moved = (bound - rates[parameter] * (slope + self.penalty * bound)).clamp(min=0)
                bound = moved if skips is None else moved.where(skips.to(moved.device) == 0, own)
            ranges.setdefault(parameter, []).append(bound)
            bound = bound.to(matrix.dtype)
            return matrix.clamp(-bound, bound)

        change_matrices(weights, clipped)
        for parameter, found in ranges.items():
            if gradients[parameter] is None:
                continue  # and perhaps no state of the base yet, which takes an empty one for its sign to begin
            optimizer.state[parameter][RANGES] = torch.cat([r.flatten() for r in found])

    def prepare(self, optimizer: Optimizer, weights: Sequence[ChipWeight]) -> None:
        """Ranges that are yet to begin, as infinity."""
        for p, count in self._counts(weights).items():
            if p.grad is not None and RANGES not in optimizer.state.get(p, {}):
                optimizer.state[p][RANGES] = torch.full((count,), math.inf, dtype=precise(p), device=p.device)

    def _counts(self, weights: Sequence[ChipWeight]) -> dict[Tensor, int]:
        """How many ranges each parameter has."""
        found: dict[Tensor, int] = {}
        for parameter, matrix, _ in weights:
            outputs = 1
            if self.per == "channel":
                outputs = len(matrix.output_first(matrix.within(torch.empty(parameter.shape, device="meta"))))
            found[parameter] = found.get(parameter, 0) + outputs
        return found


def deviations(matrix: Tensor, per: str) -> Tensor:
    """The standard deviation of the whole matrix or of each row, with as many axes."""
    axes = axes_of(matrix, per)
    return matrix.std(axes, correction=0, keepdim=True) if axes else torch.zeros_like(matrix)
