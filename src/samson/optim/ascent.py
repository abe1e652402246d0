"""The climb: from weights and directions to w + ε, in place, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from samson.optim.memory import Room
from samson.optim.rules import Norms, Rule
from samson.optim.sharding import Groups, over_all

SMALLEST = 1e-16
"""Added to the gradient norm, as in the papers' code, so that a zero gradient gives a zero perturbation."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(eq=False)
class Part:
    """Weights of one dtype, device and sharding that one rule treats alike.

    Args:
        rule: The rule, with the settings of the weights' parameter group.
        rho: Radius ρ, a number or a tensor without axes.
        scaled: Whether the rule's T applies; it is 1 otherwise.
        weights: The weights, or this process's parts of them; changed by the climb.
        directions: A gradient for each weight; used up as working memory.
        room: Memory for copies of the weights, which the climb makes first, and for T.
        groups: The process groups over which each weight is split.
    """

    rule: Rule
    rho: float | Tensor
    scaled: bool
    weights: list[Tensor]
    directions: list[Tensor]
    room: Room
    groups: Groups = ()


class Height(NamedTuple):
    """What a climb measured, as tensors without axes.

    Args:
        norm: ‖T∘g‖₂ over all parts and processes.
        epsilon: ‖ε‖₂, or None where it was not asked for.
    """

    norm: Tensor
    epsilon: Tensor | None


def norms(tensors: Sequence[Tensor], p: float) -> list[Tensor]:
    """The p-norm of each tensor, in at least float32; p is any real number ≥ 1 or infinity. Empty ones have 0."""
    full = [t for t in tensors if t.numel()]
    if not full:
        return [torch.zeros((), dtype=_precise(t), device=t.device) for t in tensors]
    exact = _precise(full[0])
    if 2 < p < math.inf:  # in float32, small weights to a high power are nothing
        wide = torch.complex128 if full[0].is_complex() else torch.float64
        found = [norm.to(exact) for norm in torch._foreach_norm(full, p, dtype=wide)]
    else:
        found = list(torch._foreach_norm(full, p, dtype=exact if _half(full) else None))
    if len(full) == len(tensors):
        return found
    each = iter(found)
    return [next(each) if t.numel() else torch.zeros_like(found[0]) for t in tensors]


@torch.no_grad()
def climb(parts: Sequence[Part], measure: bool = False) -> Height:
    """Keep a copy of every weight and move it to w + ε with ε = ρ·T²∘g / (‖T∘g‖₂ + 1e-16).

    The norm is one over all parts and all processes; a part with ρ = 0 counts in it and stays where it is. A norm
    that is not finite gives ε = 0 exactly, and no value travels to the host.

    Args:
        parts: At least one weight in all.
        measure: Whether ‖ε‖₂ is wanted, which costs one more pass over the scaled weights.
    """
    for part in parts:
        part.room.keep(part.weights)
    scales = _scales(parts)
    for part, of_part in zip(parts, scales, strict=True):
        if of_part:
            torch._foreach_mul_(part.directions, of_part)
    lengths = [torch.stack(norms(part.directions, 2)) for part in parts]
    groups = [part.groups for part in parts]
    norm = norm_over_all(lengths, groups)
    for i, part in enumerate(parts):
        if not isinstance(part.rho, Tensor) and part.rho == 0:
            lengths[i] = torch.zeros_like(lengths[i])
            continue
        if scales[i]:
            torch._foreach_mul_(part.directions, scales[i])
            lengths[i] = torch.stack(norms(part.directions, 2)) if measure else lengths[i]
        factor = part.rho / (norm + SMALLEST)
        lengths[i] = lengths[i] * factor.to(lengths[i].device)
        _add(part, factor.to(part.weights[0].device), norm.isfinite())
    if not measure:
        return Height(norm, None)
    return Height(norm, torch.where(norm.isfinite(), norm_over_all(lengths, groups), 0.0))


def norm_over_all(lengths: Sequence[Tensor], groups: Sequence[Groups]) -> Tensor:
    """The 2-norm of all that vectors of lengths belong to, over all processes: one collective for each sharding.

    Args:
        lengths: Vectors of 2-norms of this process's parts.
        groups: For each vector, the process groups over which its parts are split.
    """
    widest = _widest(lengths)
    by_groups: dict[Groups, list[Tensor]] = {}
    for vector, of_vector in zip(lengths, groups, strict=True):
        by_groups.setdefault(of_vector, []).append(vector.to(lengths[0].device, widest))
    totals = [
        over_all(torch.linalg.vector_norm(torch.cat(vectors)), 2, of_groups) for of_groups, vectors in by_groups.items()
    ]
    return totals[0] if len(totals) == 1 else torch.linalg.vector_norm(torch.stack(totals))


def _scales(parts: Sequence[Part]) -> list[list[Tensor]]:
    """T for each part; an empty list where it is 1."""
    scales: list[list[Tensor]] = []
    orders: dict[tuple[float, Groups], list[tuple[Room, float, Tensor]]] = {}
    for part in parts:
        form = part.rule.magnitude() if part.scaled else None
        if not part.scaled:
            scales.append([])
        elif form is None or part.room.scales is None:
            scales.append(part.rule.scale(part.weights, _norms_over_all(part.groups)))
        else:
            scales.append(part.room.scales)
            part.room.fill()
            if form.p is None:
                part.room.shift(form.eta)
            else:
                own = part.room.largest() if form.p == math.inf else torch.stack(norms(part.weights, form.p))
                orders.setdefault((form.p, part.groups), []).append((part.room, form.eta, own))
    for (p, groups), waiting in orders.items():  # one collective for all that divide by the same norm
        widest = _widest([own for _, _, own in waiting])
        home = waiting[0][2].device
        ranges = over_all(torch.cat([own.to(home, widest) for _, _, own in waiting]), p, groups)
        inverses = torch.where(ranges > 0, ranges.reciprocal(), 0.0)
        each = torch.split(inverses, [len(own) for _, _, own in waiting])
        for (room, eta, own), inverse in zip(waiting, each, strict=True):
            room.shift(eta, inverse.to(own.device))
    return scales


def _norms_over_all(groups: Groups) -> Norms:
    def whole(tensors: Sequence[Tensor], p: float) -> list[Tensor]:
        return list(over_all(torch.stack(norms(tensors, p)), p, groups).unbind()) if groups else norms(tensors, p)

    return whole


def _add(part: Part, factor: Tensor, finite: Tensor) -> None:
    """Add factor·direction to each weight if the condition holds, else leave every bit as it is."""
    weights, steps = part.weights, part.directions
    finite = finite.to(weights[0].device)
    if not _fusable(part):
        torch._foreach_mul_(steps, factor)
        _keep_if(finite, steps)
        torch._foreach_add_(weights, steps)
        return
    torch._fused_sgd_(
        weights,
        steps,
        [],
        weight_decay=0.0,
        momentum=0.0,
        lr=factor.float() if weights[0].is_cuda else factor,
        dampening=0.0,
        nesterov=False,
        maximize=True,
        is_first_step=False,
        found_inf=finite.logical_not().float(),
    )


def _fusable(part: Part) -> bool:
    """Whether torch's fused SGD kernel may add the steps: it skips all of them on a flag, without a wait.

    On CUDA its learning rate is float32, too coarse for float64 weights; it takes no complex numbers, and the
    compiler does not know it.
    """
    weights, steps = part.weights, part.directions
    kind = weights[0].device.type
    return (
        not torch.compiler.is_compiling()
        and weights[0].is_floating_point()
        and (kind == "cpu" or (kind == "cuda" and weights[0].dtype != torch.float64))
        and part.room.dense
        and all(own[0] == s.stride() for own, s in zip(part.room.layouts, steps, strict=True))
        and weights[0].dtype == steps[0].dtype
    )


def _keep_if(condition: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set every tensor to zero, NaN and infinity included, unless the condition (a tensor without axes) holds.

    0·∞ would be NaN, so the bits are multiplied as integers.
    """
    real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
    by_size: dict[int, list[Tensor]] = {}
    for t in real:
        by_size.setdefault(t.dtype.itemsize, []).append(t)
    for size, same in by_size.items():
        torch._foreach_mul_([t.view(_INTEGERS[size]) for t in same], condition.to(_INTEGERS[size]))


def _widest(tensors: Sequence[Tensor]) -> torch.dtype:
    widest = tensors[0].dtype
    for t in tensors[1:]:
        widest = torch.promote_types(widest, t.dtype)
    return widest


def _half(tensors: Sequence[Tensor]) -> bool:
    return any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors)


def _precise(t: Tensor) -> torch.dtype:
    return torch.float32 if t.dtype in (torch.float16, torch.bfloat16) else t.abs().dtype if t.is_complex() else t.dtype


Climb = Callable[[Sequence[Part], bool], Height]
