"""Where the ascent direction comes from when no pass is spent on it: the last gradient, or the base's momentum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from samson.optim._climber import Direction, gradient

PREVIOUS = "previous_gradient"
"""Key in a parameter's optimizer state."""


def require_momentum(base: Optimizer) -> None:
    """Refuse a base optimizer without momentum.

    Raises:
        ValueError: If a group has neither a momentum above 0 nor `betas`.
    """
    if not all(group.get("momentum") or group.get("betas") for group in base.param_groups):
        raise ValueError(
            f"`ascent='momentum'` needs a base optimizer with momentum, got {type(base).__name__} without. Give it "
            "`momentum=0.9`, or take ascent='previous'."
        )


@torch.no_grad()
def remember_gradients(base: Optimizer) -> None:
    """Put each parameter's gradient in the state that the base has made for it, for the next step."""
    for group in base.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                base.state[p][PREVIOUS] = p.grad.clone()


def _from_state(base: Optimizer, names: tuple[str, ...]) -> Direction:
    def copy(p: Tensor) -> Tensor | None:
        found = base.state.get(p, {})
        return next((found[name].clone() for name in names if found.get(name) is not None), None)

    return copy


DIRECTIONS: dict[str, Callable[[Optimizer], Direction]] = {
    "gradient": lambda base: gradient,
    "previous": lambda base: _from_state(base, (PREVIOUS,)),
    "momentum": lambda base: _from_state(base, ("momentum_buffer", "exp_avg")),
}
"""Directions by the name of `ascent`. The base's state is copied, and is not there yet in the first step."""
