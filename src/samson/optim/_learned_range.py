"""Clipping to a range that is learned along with the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _default_to_fused_or_foreach

from samson._checks import require, require_non_negative, require_one_of, require_positive
from samson.optim._ascent import precise
from samson.optim._clipping import Clipping, deviations
from samson.optim._matrices import PER, ChipWeight, axes_of, change_matrices
from samson.optim._sharding import whole

RANGES = "ranges"
"""Key in a parameter's optimizer state under which learned ranges are kept."""


@dataclass(frozen=True)
class LearnedRange(Clipping):
    """Clamp each weight that lies on a chip to ±r, a range that is learned along, after each step.

        r ← r − lr·(∂L/∂r / √n + penalty·r),    ∂L/∂r = Σ_{|w| ≥ r} min(0, sign(w)·∂L/∂w)

    with n weights in the range and lr the learning rate of the parameter's group. The gradient is that of a clamp,
    summed over the weights that want beyond their range; one that wants back inside is free to go and not counted. So
    the loss widens ranges where that helps, and the penalty narrows them. The ranges are kept in the optimizer's state;
    for weights of half precision torch rounds them when a state is loaded.

    Args:
        start: The first range in standard deviations, > 0.
        penalty: Strength ≥ 0 of what narrows the ranges.
        per: Whether the whole "layer" has one range, or each output "channel" its own.
        select: Which layers lie on the chip, as for `samson.noise.on_chip`; needs the model.

    Raises:
        ValueError: If a setting is out of its range; after the first step as for `WeightClipping`; after a step, if a
            loaded state has other ranges than `per` says, or torch's SGD has overwritten the gradients.

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
        require_positive(start=self.start)
        require_non_negative(penalty=self.penalty)
        require_one_of(PER, per=self.per)

    def clip(self, optimizer: Optimizer, weights: Sequence[ChipWeight]) -> None:
        """Move the ranges, then clamp the weights to them."""
        rates: dict[Tensor, Any] = {p: group.get("lr") for group in optimizer.param_groups for p in group["params"]}
        known_rates = all(rates[weight.parameter] is not None for weight in weights)
        require(known_rates, "lr", "be a number, by which a learned range moves (else take WeightClipping)", None)
        base = getattr(optimizer, "base", optimizer)
        overwritten = isinstance(base, torch.optim.SGD) and any(map(_overwritten, optimizer.param_groups))
        rule = "be False, or `fused` True, with Nesterov momentum and no weight decay: torch overwrites gradients then"
        require(not overwritten, "foreach", rule, None)
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


def _overwritten(group: dict[str, Any]) -> bool:
    """Whether torch's SGD has written the look ahead of Nesterov's momentum into the gradients that it stepped with."""
    copies = any(group.get(key) for key in ("weight_decay", "maximize", "fused")) or not group.get("nesterov")
    foreach = group["foreach"]
    if foreach is None and not copies and group["params"]:
        foreach = _default_to_fused_or_foreach(group["params"], group["differentiable"])[1]
    return bool(foreach) and not copies
