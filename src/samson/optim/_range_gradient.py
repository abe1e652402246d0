"""The part of the gradient that passes through a layer's range, where the perturbation grows with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from samson.optim._ascent import Part
from samson.optim._sharding import local, over_all
from samson.optim.rules import RangeSAM, sizes_of


@torch.no_grad()
def add_range_gradients(parts: Sequence[Part]) -> None:
    """Add to the gradients at w + ε what comes through max|w_l|, at a fixed ε / T.

        sign(w)·⟨∇L(w + ε), ε_l⟩ / (n·max|w_l|)     for the n largest |w|

    Call it while the weights are perturbed. Sums are over all shards.

    Args:
        parts: What was perturbed, with copies of the weights in their workspaces.
    """
    for part in parts:
        if not isinstance(part.rule, RangeSAM) or not part.rule.through_range:
            continue
        per = part.rule.per
        for (parameter, view), weight, clean in zip(part.sources, part.weights, part.workspace.copies, strict=True):
            if parameter.grad is None:
                continue
            gradient = view(local(parameter.grad))
            axes = tuple(range(0 if per == "layer" else 1, weight.ndim))
            groups = part.split_over if per == "layer" else ()
            largest = over_all(sizes_of(clean.abs(), per), math.inf, groups)
            at = clean.abs() == largest
            count = over_all(at.sum(axes, keepdim=True).to(largest.dtype), 1, groups)
            rise = over_all((gradient * (weight - clean)).sum(axes, keepdim=True), 1, groups)
            gradient.add_(torch.where(at & (largest > 0), clean.sign() * (rise / (count * largest)), 0.0))
