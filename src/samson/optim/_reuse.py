"""LookSAM: what a perturbation changed in the gradient is used again in the steps that follow.

With the clean gradient g and the perturbed one g_s, the part of g_s at right angles to g is

    g_v = g_s − (⟨g_s, g⟩ / ‖g‖²)·g

and a step between takes g + α·(‖g‖ / ‖g_v‖)·g_v. Products and norms are over the whole network.

Reference: Liu et al. 2022, arXiv 2203.02714, section 4 (which takes the norms layer by layer in large batches).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from samson.optim._sharding import ProcessGroups, local, over_all, process_groups

ACROSS = "gradient_across"
"""Key in a parameter's optimizer state."""


@torch.no_grad()
def across(base: Optimizer, clean: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """g_v of each parameter that has a gradient in both passes, zeros where one overflowed; uses up the clean ones."""
    found = {p: p.grad for group in base.param_groups for p in group["params"] if p in clean and p.grad is not None}
    if not found:
        return {}
    size = _product([(p, clean[p], clean[p]) for p in found])
    share = torch.where(size == 0, 0.0, _product([(p, g, clean[p]) for p, g in found.items()]) / size)
    return {p: (g - share.to(p.device, g.dtype) * clean.pop(p)).nan_to_num(0.0, 0.0, 0.0) for p, g in found.items()}


def remember(base: Optimizer, found: dict[Tensor, Tensor]) -> None:
    """Keep each g_v for the steps between; of a parameter that the last perturbation left out, nothing of before."""
    for group in base.param_groups:
        for p in group["params"]:
            if p in found:
                base.state[p][ACROSS] = found[p]
            elif ACROSS in base.state.get(p, {}):
                base.state[p][ACROSS].zero_()


def begin(base: Optimizer) -> None:
    """Zeros for each parameter that has no g_v: they add nothing, and a checkpoint can be loaded into them."""
    for group in base.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                base.state[p].setdefault(ACROSS, torch.zeros_like(p.grad))


@torch.no_grad()
def add(base: Optimizer, alpha: float) -> None:
    """Add α·(‖g‖ / ‖g_v‖)·g_v to the gradients; nothing before the first perturbation."""
    found = [
        (p, p.grad, base.state[p][ACROSS])
        for group in base.param_groups
        for p in group["params"]
        if p.grad is not None and ACROSS in base.state.get(p, {})
    ]
    if not found:
        return
    ratio = _product([(p, g, g) for p, g, _ in found]) / _product([(p, v, v) for p, _, v in found])
    factor = alpha * ratio.sqrt()
    factor = torch.where(factor.isfinite(), factor, 0.0)
    for _, g, v in found:
        g.add_(v * factor.to(v.device, v.dtype))


def _product(pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The real inner product over all parameters and processes, from (parameter, one, other)."""
    device = local(pairs[0][0]).device
    sums: dict[ProcessGroups, list[Tensor]] = {}
    for p, one, other in pairs:
        wide = torch.promote_types(one.dtype, torch.float32)  # or small numbers of half precision would be nothing
        product = (local(one).to(wide).conj() * local(other).to(wide)).real.sum()
        sums.setdefault(process_groups(p), []).append(product.to(device))
    totals = [over_all(torch.stack(of_groups).sum(), 1, groups) for groups, of_groups in sums.items()]
    return torch.stack(totals).sum()
