"""Converters: saturate and round, with gradients that pass the rounding and stop at the clamp."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

OUTSIDE = 0.05
"""Share of inputs within a range above which the range decays."""


def convert(values: Tensor, bound: Tensor | float, steps: int | None, offset: Tensor | None = None) -> Tensor:
    """Saturate at ± bound around an offset, and round to steps + 1 levels between.

    Args:
        values: Any values.
        bound: The bound, > 0, in a shape that goes with the values; inf does not saturate.
        steps: Even number ≥ 2; None does not round.
        offset: What is taken off before and added again after; gets the gradient that saturation keeps from the values.
    """
    if isinstance(bound, float) and bound == math.inf:
        return values
    converted: Tensor = _Convert.apply(values, bound, steps, offset)  # type: ignore[no-untyped-call]
    return converted


def convert_inputs(values: Tensor, limit: Tensor, steps: int | None, decay: float) -> Tensor:
    """Saturate inputs at ± their range r, and round; the range has a gradient of its own.

        r·(Σ_{x ≥ r} min(g, 0) − Σ_{x ≤ −r} max(g, 0)) + decay·r      the last while more than 95 % lie inside

    Args:
        values: The inputs.
        limit: The range, one number; its magnitude counts.
        steps: Even number ≥ 2; None does not round.
        decay: Strength ≥ 0 of what narrows the range, in each backward pass, whatever the loss was scaled by.

    Reference: aihwkit-lightning 2.1.0 (IBM), the gradient of its input ranges; arXiv 2505.09663.
    """
    converted: Tensor = _ConvertInputs.apply(values, limit, steps, decay)  # type: ignore[no-untyped-call]
    return converted


def range_of(limit: Tensor) -> Tensor:
    """A learned range as it is used: a step that went below zero does not turn inputs round."""
    return limit.detach().abs().clamp_min(1e-6)


def _converted(values: Tensor, bound: Tensor | float, steps: int | None) -> tuple[Tensor, Tensor]:
    """The values saturated and rounded, and on the scale of the converter, where the bound is half of its steps."""
    share = values / bound  # ± 1 exactly at the bound
    if steps is None:
        return values.clamp(-bound, bound), share  # type: ignore[arg-type]
    half = steps / 2
    return (share * half).round_().clamp_(-half, half).mul_(bound / half), share


def _passed(gradient: Tensor, scaled: Tensor) -> Tensor:
    """The gradient where nothing saturated, else 0; comparisons and masks would take several times as long on a CPU.

    Compilers write its output as a view, which takes contiguous tensors.
    """
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient.contiguous(), scaled.contiguous(), -1.0, 1.0)
    return passed


class _Convert(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: Tensor | float, steps: int | None, offset: Tensor | None) -> Tensor:
        found, scaled = _converted(values if offset is None else values - offset, bound, steps)
        ctx.offset = None if offset is None else offset.shape
        ctx.save_for_backward(scaled)
        return found if offset is None else found.add_(offset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        [scaled] = ctx.saved_tensors
        passed = _passed(gradient, scaled)
        around = None if ctx.offset is None else (gradient - passed).sum_to_size(ctx.offset)
        return passed, None, None, around


class _ConvertInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: Tensor, steps: int | None, decay: float) -> Tensor:
        size = range_of(limit).to(values.dtype)
        found, scaled = _converted(values, size, steps)
        ctx.save_for_backward(scaled, found, size, limit.sign())
        ctx.decay = decay
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled, converted, size, sign = ctx.saved_tensors
        passed = _passed(gradient, scaled)
        stopped = gradient - passed
        # Σ min(0, sign(x)·g) over what saturated, where x was converted to ± r
        outward = ((stopped * converted).sum(dtype=sign.dtype) / size - stopped.abs().sum(dtype=sign.dtype)) / 2
        beyond = scaled.abs().clamp_(max=1).floor_().mean(dtype=sign.dtype)
        return passed, sign * size * (outward + ctx.decay * (beyond < OUTSIDE).to(sign.dtype)), None, None
