"""The climb: from weights and gradients to w + ε, in place, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samson.optim.rules import Rule

SMALLEST = 1e-16
"""Added to the gradient norm, as in the papers' code, so that a zero gradient gives a zero perturbation."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Share(NamedTuple):
    """One parameter group's share in the climb: tensors that its rule scales, and tensors with T = 1."""

    rule: Rule
    scaled: list[Tensor]
    plain: list[Tensor]


def share(rule: Rule, group: dict[str, Any], names: dict[Tensor, str]) -> Share:
    """Sort a group's moving weights into scaled and plain ones, under the group's own settings."""
    of_group = Share(rule.within(group), [], [])
    for p in group["params"]:
        if rule.moves(p):
            (of_group.scaled if rule.scales_tensor(names.get(p, ""), p) else of_group.plain).append(p)
    return of_group


def norms(tensors: Sequence[Tensor], p: float) -> list[Tensor]:
    """The p-norm of each tensor, in at least float32; p is any real number ≥ 1 or infinity."""
    if not tensors:
        return []
    half = any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors)
    return list(torch._foreach_norm(list(tensors), p, dtype=torch.float32 if half else None))


@torch.no_grad()
def climb(shares: Sequence[Share]) -> Tensor:
    """Move every weight to w + ε with ε = ρ·T²∘g / (‖T∘g‖₂ + 1e-16).

    The norm is one over all shares; a share with ρ = 0 counts in it and stays where it is. The gradients are used up
    as working memory. A norm that is not finite gives ε = 0 exactly: 0·∞ would be NaN, so the bits of ε are
    multiplied as integers, and no value travels to the host.

    Args:
        shares: Weights with a dense gradient each; at least one weight in all.

    Returns:
        The norm ‖T∘g‖₂, a tensor without axes on the weights' device.
    """
    scales: list[list[Tensor]] = []
    for share in shares:
        scales.append(share.rule.scale(share.scaled, norms) if share.scaled else [])
        if share.scaled:
            torch._foreach_mul_(_gradients(share.scaled), scales[-1])
    parts = norms([g for share in shares for g in _gradients(share.scaled + share.plain)], 2)
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([part.to(parts[0].device, widest) for part in parts]))
    for share, scale in zip(shares, scales, strict=True):
        if share.rule.rho == 0:
            continue
        if share.scaled:
            torch._foreach_mul_(_gradients(share.scaled), scale)
        weights = share.scaled + share.plain
        steps = _gradients(weights)
        torch._foreach_mul_(steps, share.rule.rho / (norm + SMALLEST))
        _keep_if(torch.isfinite(norm), steps)
        torch._foreach_add_(weights, steps)
    return norm


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    return [w.grad for w in weights if w.grad is not None]


def _keep_if(condition: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set every tensor to zero, NaN and infinity included, unless the condition (a tensor without axes) holds."""
    real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
    by_size: dict[int, list[Tensor]] = {}
    for t in real:
        by_size.setdefault(t.dtype.itemsize, []).append(t)
    for size, same in by_size.items():
        torch._foreach_mul_([t.view(_INTEGERS[size]) for t in same], condition.to(_INTEGERS[size]))
