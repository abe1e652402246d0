"""A mean of both gradients of a step: `mix=λ` steps with λ·g(w + ε) + (1 − λ)·g(w)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer


@torch.no_grad()
def clean_gradients(base: Optimizer, over: str = "") -> dict[Tensor, Tensor]:
    """Copies of the gradients that there are, written over what a parameter's state has under a key, where it has."""
    found = {}
    for p in (p for group in base.param_groups for p in group["params"] if p.grad is not None):
        old = base.state.get(p, {}).get(over)
        found[p] = p.grad.clone() if old is None or p.grad.layout != old.layout else old.copy_(p.grad)
    return found


@contextmanager
def stepped_with(base: Optimizer, wanted: bool, over: str = "") -> Iterator[dict[Tensor, Tensor]]:
    """Copies of the gradients with which the base steps inside the block, if they are wanted: some write into them.

    They are taken after its own hooks, such as a clipping, and after the step where it has no hooks. In a step that is
    compiled, where another hook would compile it again, they are taken before.
    """
    found: dict[Tensor, Tensor] = {}
    if not wanted or torch.compiler.is_compiling():
        yield clean_gradients(base, over) if wanted else found
        return
    hook = base.register_step_pre_hook(lambda *_: found.update(clean_gradients(base, over)))
    try:
        yield found
    finally:
        hook.remove()
    if not found:
        found.update(clean_gradients(base, over))


@torch.no_grad()
def mix(base: Optimizer, share: float, clean: dict[Tensor, Tensor]) -> None:
    """Make the gradients λ·g + (1 − λ)·clean; a missing one counts as 0, and the clean ones are used up."""
    for group in base.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.mul_(share)
            if p in clean:
                rest = clean[p].mul_(1 - share)
                p.grad = rest if p.grad is None else p.grad.add_(rest)
