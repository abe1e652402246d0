"""The climb: from weights and directions to w + ε, in place, without waiting for the device."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samson.optim._memory import Workspace
from samson.optim._sharding import ProcessGroups, over_all, unit_of
from samson.optim.rules import AscentRule, FastScale, Norms, fast_scale

SMALLEST = 1e-16
"""Added to the gradient norm, as in the papers' code, so that a zero gradient gives a zero perturbation."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(eq=False)
class Ascent:
    """What the last perturbation was, as tensors on the device: reading one is what waits for it.

    Args:
        gradient_norm: ‖T∘g‖₂, the norm by which ε is divided; None if the perturbation was a random draw.
        epsilon_norm: ‖ε‖₂, if the optimizer was made with `measure=True`.
        clean_loss: Loss at the weights. In the explicit form the losses are None unless you set them.
        perturbed_loss: Loss at the perturbed weights.
    """

    gradient_norm: Tensor | None = None
    epsilon_norm: Tensor | None = None
    clean_loss: Tensor | None = None
    perturbed_loss: Tensor | None = None


@dataclass(eq=False)
class Part:
    """Weights of one dtype, device and sharding that one rule treats alike.

    Args:
        rule: The rule, with the settings of the weights' parameter group; its own ρ plays no part.
        rho: The group's ρ, a number or a tensor without axes; negative where the way of the ascent is downhill.
        scaled: Whether the rule's T applies; it is 1 otherwise.
        weights: The weights, or this process's shards of them; changed by the climb.
        directions: A gradient for each weight, none of which shares memory; used up as working memory. All are of the
            weights' dtype, or of at least float32, in which half precision is not lost.
        workspace: Memory for copies of the weights, which the climb makes first, and for T.
        split_over: The process groups over which each weight is split.
        budget: Largest rise of the loss to first order, > 0; ρ is smaller where it would be more.
        sources: For each weight the parameter, and how the weight is seen in this process's part of it.
    """

    rule: AscentRule
    rho: float | Tensor
    scaled: bool
    weights: list[Tensor]
    directions: list[Tensor]
    workspace: Workspace
    split_over: ProcessGroups = ()
    budget: float = math.inf
    sources: Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]] = ()

    def radius(self, norm: Tensor) -> float | Tensor:
        """The part's ρ, or less where the rise ρ·‖T∘g‖₂ would be more than the budget."""
        rho = self.rho
        if isinstance(rho, Tensor) and rho.device.type != "cpu":  # from the host a copy would wait, and is not needed
            rho = rho.to(norm.device)
        if self.budget == math.inf:
            return rho
        size: Any = abs(rho)
        most = self.budget / (norm + SMALLEST)
        radius: Tensor = rho * (most / size).clamp(max=1)  # no number of the host is copied, which would wait
        return radius


def norms(tensors: Sequence[Tensor], p: float) -> list[Tensor]:
    """The p-norm of each tensor, in at least float32; p is any real number ≥ 1 or infinity. Empty ones have 0."""
    full = [t for t in tensors if t.numel()]
    if not full:
        return [torch.zeros((), dtype=precise(t), device=t.device) for t in tensors]
    exact = precise(full[0])
    wide = exact if full[0].dtype.itemsize == 2 else None
    if 2 < p < math.inf:  # small weights to a high power would be nothing
        units = unit_of(torch.stack(torch._foreach_norm(full, math.inf, dtype=wide))).unbind()
        wider = {dtype: torch.promote_types(dtype, exact) for dtype in {t.dtype for t in full}}
        shares = torch._foreach_div([t.to(wider[t.dtype]) for t in full], units)
        found = list(torch._foreach_mul(torch._foreach_norm(shares, p), units))
    else:
        found = list(torch._foreach_norm(full, p, dtype=wide))
    if len(full) == len(tensors):
        return found
    each = iter(found)
    return [next(each) if t.numel() else torch.zeros_like(found[0]) for t in tensors]


@torch.no_grad()
def climb(parts: Sequence[Part], measure: bool = False) -> tuple[Tensor, Tensor | None]:
    """Copy every weight and move it to w + ε with ε = ρ·T²∘g / (‖T∘g‖₂ + 1e-16).

    The norm is one over all parts and all processes; a part with ρ = 0 counts in it and stays where it is. A norm
    that is not finite gives ε = 0 exactly, and no value travels to the host.

    Args:
        parts: At least one weight in all.
        measure: Whether ‖ε‖₂ is wanted, which costs one more pass over the scaled weights.

    Returns:
        ‖T∘g‖₂ over all parts and processes, and ‖ε‖₂ if it was asked for.
    """
    for part in parts:
        part.workspace.save(part.weights)
    scales = _scales(parts)
    for part, of_part in zip(parts, scales, strict=True):
        if of_part:
            torch._foreach_mul_(part.directions, of_part)
    lengths = [torch.stack(norms(part.directions, 2)) for part in parts]
    splits = [part.split_over for part in parts]
    norm = norm_over_all(lengths, splits)
    for i, part in enumerate(parts):
        if not isinstance(part.rho, Tensor) and part.rho == 0:
            lengths[i] = torch.zeros_like(lengths[i])
            continue
        if scales[i]:
            torch._foreach_mul_(part.directions, scales[i])
            lengths[i] = torch.stack(norms(part.directions, 2)) if measure else lengths[i]
        factor = part.radius(norm) / (norm + SMALLEST)
        lengths[i] = lengths[i] * factor.to(lengths[i].device)
        _add(part, factor.to(part.weights[0].device), norm.isfinite())
    return norm, torch.where(norm.isfinite(), norm_over_all(lengths, splits), 0.0) if measure else None


def norm_over_all(lengths: Sequence[Tensor], splits: Sequence[ProcessGroups]) -> Tensor:
    """The 2-norm of all that vectors of lengths belong to, over all processes: one collective for each sharding.

    Args:
        lengths: Vectors of 2-norms of this process's shards.
        splits: For each vector, the process groups over which its weights are split.
    """
    totals = []
    for split_over in dict.fromkeys(splits):
        vectors = [vector for vector, split in zip(lengths, splits, strict=True) if split == split_over]
        totals.append(over_all(torch.linalg.vector_norm(_joined(vectors, lengths)), 2, split_over))
    return totals[0] if len(totals) == 1 else torch.linalg.vector_norm(torch.stack(totals))


def _scales(parts: Sequence[Part]) -> list[list[Tensor]]:
    """T for each part; an empty list where it is 1."""
    scales: list[list[Tensor]] = []
    waiting: dict[tuple[float, ProcessGroups], list[tuple[Part, FastScale, Tensor]]] = {}
    for part in parts:
        space, fast = part.workspace, fast_scale(part.rule)
        if not part.scaled:
            scales.append([])
        elif fast is None or space.scales is None:
            scales.append(part.rule.scale(part.weights, _norms_over_all(part.split_over)))
        else:
            scales.append(space.scales)
            sizes = space.magnitudes()
            if fast.p is not None:
                own = space.largest() if fast.p == math.inf else torch.stack(norms(part.weights, fast.p))
                waiting.setdefault((fast.p, part.split_over), []).append((part, fast, own))
            fast.numerator(sizes, fast.eta)
    for (p, split_over), found in waiting.items():  # one collective for all that need the same norm
        vectors = [own for _, _, own in found]
        whole = torch.split(over_all(_joined(vectors, vectors), p, split_over), [len(own) for own in vectors])
        for (part, fast, own), of_part in zip(found, whole, strict=True):
            part.workspace.multiply(fast.factor(of_part).to(own.device))
    return scales


def _norms_over_all(split_over: ProcessGroups) -> Norms:
    def whole(tensors: Sequence[Tensor], p: float) -> list[Tensor]:
        return list(over_all(torch.stack(norms(tensors, p)), p, split_over).unbind())

    return whole if split_over else norms


def _add(part: Part, factor: Tensor, finite: Tensor) -> None:
    """Add factor·direction to each weight if the condition holds, else leave every bit as it is."""
    weights, steps = part.weights, part.directions
    finite = finite.to(weights[0].device)
    if not _fusable(part):
        torch._foreach_mul_(steps, factor)
        _zero_unless(finite, steps)
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
    torch.autograd.graph.increment_version(weights)  # the kernel does not, and old graphs would use the new weights


def _fusable(part: Part) -> bool:
    """Whether torch's fused SGD kernel may add the steps: it skips all of them on a flag, without a wait.

    On CUDA its learning rate is float32, too coarse for float64 weights; on a CPU it leaves most half-precision weights
    where they are. It takes no complex numbers, and the compiler does not know it.
    """
    weights, steps = part.weights, part.directions
    kind, dtype = weights[0].device.type, weights[0].dtype
    return (
        not torch.compiler.is_compiling()
        and ((dtype == torch.float32 and kind in ("cpu", "cuda")) or (dtype == torch.float64 and kind == "cpu"))
        and part.workspace.dense
        and all(w.stride() == s.stride() for w, s in zip(weights, steps, strict=True))
        and dtype == steps[0].dtype
    )


def _zero_unless(condition: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set every tensor to zero, NaN and infinity included, unless the condition (a tensor without axes) holds.

    0·∞ would be NaN, so the bits are multiplied as integers.
    """
    real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
    by_size: dict[int, list[Tensor]] = {}
    for t in real:
        by_size.setdefault(t.dtype.itemsize, []).append(t)
    for size, same in by_size.items():
        torch._foreach_mul_([t.view(_INTEGERS[size]) for t in same], condition.to(_INTEGERS[size]))


def _joined(vectors: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """The vectors as one, on the device of the first of `like` and in the widest dtype among them."""
    widest = functools.reduce(torch.promote_types, (t.dtype for t in like))
    return torch.cat([v.to(like[0].device, widest) for v in vectors])


def precise(t: Tensor) -> torch.dtype:
    """The real dtype, of float32 or more, in which a tensor's norm is taken."""
    return torch.promote_types(t.real.dtype, torch.float32)


Climb = Callable[[Sequence[Part], bool], tuple[Tensor, Tensor | None]]
