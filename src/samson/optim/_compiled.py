"""The climb as one compiled function, which reads and writes each weight as few times as can be.

In words (one for each element read or written): norms and scales in one pass over weights and gradients, then one
pass that moves the weights. With the copy and its restoring that is 7 words for SAM and 8 for ASAM and SAMSON.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from samson.optim._ascent import SMALLEST, Climb, Part, climb, precise
from samson.optim._sharding import unit_of
from samson.optim.rules import FastScale, fast_scale

_AT_LIMIT = "FailOnRecompileLimitHit", "RecompileLimitExceeded"
"""What the compiler raises at its limit: in torch 2.13, and in 2.6."""


def compiled_climb() -> Climb:
    """A climb that compiles itself at its first use, for rules with a fast form; others climb as usual.

    So do all, from the first on for which the compiler has reached its limit of variants, which those of one process
    share.
    """
    fused = torch.compile(_fused, fullgraph=True, dynamic=False)
    at_limit = False

    def run(parts: Sequence[Part], measure: bool = False) -> tuple[Tensor, Tensor | None]:
        nonlocal at_limit
        forms = [fast_scale(part.rule) if part.scaled else None for part in parts]
        known = all(form is not None or not part.scaled for form, part in zip(forms, parts, strict=True))
        plain = all(not part.split_over and w.is_floating_point() for part in parts for w in part.weights)
        if at_limit or not known or not plain or len({w.device for part in parts for w in part.weights}) > 1:
            return climb(parts, measure)
        device = parts[0].weights[0].device
        entries = [list(zip(p.weights, p.directions, p.workspace.copies, strict=True)) for p in parts]
        radii = [_number(part.rho, device) for part in parts]
        budgets = [_number(part.budget, device) for part in parts]
        try:
            with torch.no_grad():
                found: tuple[Tensor, Tensor | None] = fused(entries, forms, radii, budgets, measure)
        except Exception as error:
            if type(error).__name__ not in _AT_LIMIT:
                raise
            at_limit = True
            warnings.warn(
                "`compiled=True` has reached the compiler's limit for one process, "
                f"{torch._dynamo.config.cache_size_limit} variants, so from here on the climb is not compiled. Raise "
                "`torch._dynamo.config.cache_size_limit`.",
                stacklevel=2,
            )
            return climb(parts, measure)
        for part in parts:
            part.workspace.saved = True  # only now: where compiling fails, nothing was copied
        return found

    return run


def _number(value: float | Tensor, device: torch.device) -> Tensor:
    """A number as a tensor on a device; one that the host holds is filled in there, so that nothing waits."""
    if isinstance(value, Tensor):
        return value.to(device, torch.float64)
    return torch.full((), value, dtype=torch.float64, device=device)


def _fused(
    entries: list[list[tuple[Tensor, Tensor, Tensor]]],
    forms: list[FastScale | None],
    radii: list[Tensor],
    budgets: list[Tensor],
    measure: bool,
) -> tuple[Tensor, Tensor | None]:
    """The climb over (weight, direction, copy) of each part."""
    flat = [
        (*entry, form, rho, budget, _factor(entry[0], form))
        for of_part, form, rho, budget in zip(entries, forms, radii, budgets, strict=True)
        for entry in of_part
    ]
    squares = []
    for w, g, _, form, _, _, c in flat:
        square = (_numerator(w, form) * g.to(precise(w))).square().sum()
        squares.append(square if c is None else square * c * c)
    norm = torch.stack(squares).sum().sqrt()
    finite = norm.isfinite()
    lengths = []
    for w, g, copy, form, rho, budget, c in flat:
        most = budget.to(norm.dtype) / (norm + SMALLEST)
        step = rho.to(norm.dtype).clamp(-most, most) / (norm + SMALLEST)
        step = step if c is None else step * c * c
        step = torch.where(step.isfinite(), step, 0.0).to(precise(w))
        epsilon = torch.where(finite, _numerator(w, form).square() * g.to(precise(w)) * step, 0.0)
        if measure:
            lengths.append(epsilon.square().sum())
        # A plain copy is taken for the argument itself, and may be read only after the addition.
        copy.copy_(torch.where(finite, w, w))
        w.add_(epsilon.to(w.dtype))
    return norm, torch.stack(lengths).sum().sqrt() if measure else None


def _numerator(w: Tensor, form: FastScale | None) -> Tensor:
    exact = w.to(precise(w))
    if form is None:
        return torch.ones((), dtype=exact.dtype, device=w.device)
    return form.numerator(exact.abs(), form.eta)


def _factor(w: Tensor, form: FastScale | None) -> Tensor | None:
    if form is None or form.p is None or not w.numel():
        return None
    size = w.to(precise(w)).abs()
    if form.p == math.inf:
        size = size.max()
    elif form.p == 2:
        size = size.square().sum().sqrt()
    else:
        unit = unit_of(size.max())
        size = unit * (size / unit).pow(form.p).sum().pow(1 / form.p)
    return form.factor(size)
