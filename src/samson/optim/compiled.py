"""The climb as one compiled function, which reads and writes each weight as few times as can be.

In words (one for each element read or written): norms and scales in one pass over weights and gradients, then one
pass that moves the weights. With the copy and its restoring that is 7 words for SAM and 8 for ASAM and SAMSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from samson.optim.ascent import SMALLEST, Climb, Height, Part, climb
from samson.optim.rules import Magnitude


def compiled_climb() -> Climb:
    """A climb that compiles itself at its first use, for the rules that it knows; others climb as usual."""
    fused = torch.compile(_fused, fullgraph=True, dynamic=False)

    def run(parts: Sequence[Part], measure: bool = False) -> Height:
        known = all(not part.scaled or part.rule.magnitude() is not None for part in parts)
        plain = all(not part.groups and w.is_floating_point() for part in parts for w in part.weights)
        if not known or not plain or len({w.device for part in parts for w in part.weights}) > 1:
            return climb(parts, measure)
        weights, copies = [part.weights for part in parts], [part.room.copies for part in parts]
        directions = [part.directions for part in parts]
        forms = [part.rule.magnitude() if part.scaled else None for part in parts]
        device = weights[0][0].device
        radii = [torch.as_tensor(part.rho, dtype=torch.float64, device=device) for part in parts]
        with torch.no_grad():
            height = Height(*fused(copies, weights, directions, forms, radii, measure))
        for part in parts:
            part.room.kept = True  # only now: where compiling fails, nothing was copied
        return height

    return run


def _fused(
    copies: list[list[Tensor]],
    weights: list[list[Tensor]],
    directions: list[list[Tensor]],
    forms: list[Magnitude | None],
    radii: list[Tensor],
    measure: bool,
) -> tuple[Tensor, Tensor | None]:
    sums: list[list[Tensor]] = []
    inverses: list[list[Tensor | None]] = []
    for of_part, along, form in zip(weights, directions, forms, strict=True):
        sums.append([(_scale(w, form) * g.to(_precise(w))).square().sum() for w, g in zip(of_part, along, strict=True)])
        inverses.append([_inverse(w, form) for w in of_part])
    squares = [
        s if c is None else s * c * c
        for of_part, factors in zip(sums, inverses, strict=True)
        for s, c in zip(of_part, factors, strict=True)
    ]
    norm = torch.stack(squares).sum().sqrt()
    finite = norm.isfinite()
    lengths = []
    for of_part, kept, along, form, rho, factors in zip(
        weights, copies, directions, forms, radii, inverses, strict=True
    ):
        for w, k, g, c in zip(of_part, kept, along, factors, strict=True):
            step = rho.to(norm.dtype) / (norm + SMALLEST)
            step = step if c is None else step * c * c
            step = torch.where(step.isfinite(), step, 0.0).to(_precise(w))
            epsilon = torch.where(finite, _scale(w, form).square() * g.to(_precise(w)) * step, 0.0)
            if measure:
                lengths.append(epsilon.square().sum())
            # A plain copy is taken for the argument itself, and may be read only after the addition.
            k.copy_(torch.where(finite, w, w))
            w.add_(epsilon.to(w.dtype))
    return norm, torch.stack(lengths).sum().sqrt() if measure else None


def _scale(w: Tensor, form: Magnitude | None) -> Tensor:
    exact = w.to(_precise(w))
    return torch.ones((), dtype=exact.dtype, device=w.device) if form is None else exact.abs() + form.eta


def _inverse(w: Tensor, form: Magnitude | None) -> Tensor | None:
    if form is None or form.p is None:
        return None
    size = w.to(_precise(w)).abs()
    if form.p == math.inf:
        size = size.max()
    elif form.p == 2:
        size = size.square().sum().sqrt()
    else:
        size = size.pow(form.p).sum().pow(1 / form.p)
    return torch.where(size > 0, size.reciprocal(), 0.0)


def _precise(w: Tensor) -> torch.dtype:
    return torch.promote_types(w.dtype, torch.float32)
