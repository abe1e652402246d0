"""The part of the gradient that passes through a layer's range, where the perturbation grows with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samson.optim._ascent import Part, precise
from samson.optim._matrices import axes_of
from samson.optim._sharding import ProcessGroups, local, over_all
from samson.optim.rules import RangeSAM, sizes_of


class Moved(NamedTuple):
    """A weight that was perturbed: its gradient there, where it is, where it was, and the axes of a range."""

    gradient: Tensor
    weight: Tensor
    clean: Tensor
    per: str

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes over which a range goes."""
        return axes_of(self.weight, self.per)


@torch.no_grad()
def add_range_gradients(parts: Sequence[Part]) -> None:
    """Add to the gradients at w + ε what comes through max|w_l|, at a fixed ε / T.

        sign(w)·⟨∇L(w + ε), ε_l⟩ / (n·max|w_l|)     for the n largest |w|

    Call it while the weights are perturbed. Sums are over all shards: two collectives for each way of sharding.

    Args:
        parts: What was perturbed, with copies of the weights in their workspaces.
    """
    alike: dict[tuple[Any, ...], list[Moved]] = {}
    for part in parts:
        if not isinstance(part.rule, RangeSAM) or not part.rule.through_range:
            continue
        per = part.rule.per
        groups = part.split_over if per == "layer" else ()
        for (parameter, view), weight, clean in zip(part.sources, part.weights, part.workspace.copies, strict=True):
            if parameter.grad is not None:
                kind = (groups, weight.device, weight.dtype)
                alike.setdefault(kind, []).append(Moved(view(local(parameter.grad)), weight, clean, per))
    for (groups, *_), found in alike.items():
        largest = _over_all([sizes_of(m.clean.abs(), m.per) for m in found], math.inf, groups)
        at = [m.clean.abs() == size for m, size in zip(found, largest, strict=True)]
        wide = precise(found[0].clean)
        counts = [a.sum(m.axes, keepdim=True).to(wide) for m, a in zip(found, at, strict=True)]
        rises = [(m.gradient.to(wide) * (m.weight - m.clean)).sum(m.axes, keepdim=True) for m in found]
        sums = _over_all([*counts, *rises], 1, groups)
        for m, a, size, n, rise in zip(found, at, largest, sums[: len(found)], sums[len(found) :], strict=True):
            m.gradient.add_(torch.where(a & (size > 0), m.clean.sign() * (rise / (n * size)), 0.0))


def _over_all(values: Sequence[Tensor], p: float, groups: ProcessGroups) -> list[Tensor]:
    """Each of the values over all processes, by one collective."""
    if not groups:
        return [*values]
    flat = over_all(torch.cat([value.flatten() for value in values]), p, groups)
    return [
        one.view_as(value) for one, value in zip(torch.split(flat, [v.numel() for v in values]), values, strict=True)
    ]
