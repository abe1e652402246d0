"""Where the ascent direction comes from when no pass is spent on it: the last gradient, or the base's momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samson.optim.climber import gradients

PREVIOUS = "previous_gradient"
"""Key in a parameter's optimizer state."""

_MOMENTA = ("momentum_buffer", "exp_avg")

Direction = Callable[[Optimizer, Iterable[dict[str, Any]]], dict[Tensor, Tensor]]


def previous(base: Optimizer, groups: Iterable[dict[str, Any]]) -> dict[Tensor, Tensor]:
    """A copy of each parameter's gradient of the last step; nothing before the first."""
    return _from_state(base, groups, (PREVIOUS,))


def momentum(base: Optimizer, groups: Iterable[dict[str, Any]]) -> dict[Tensor, Tensor]:
    """A copy of each parameter's momentum in the base optimizer (SGD's or Adam's); nothing before the first step."""
    return _from_state(base, groups, _MOMENTA)


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
    """Keep each parameter's gradient in the state that the base has made for it, for the next step."""
    for group in base.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                kept = base.state[p].get(PREVIOUS)
                if kept is None:
                    base.state[p][PREVIOUS] = p.grad.clone()
                else:
                    kept.copy_(p.grad)


def _from_state(base: Optimizer, groups: Iterable[dict[str, Any]], names: tuple[str, ...]) -> dict[Tensor, Tensor]:
    found = {}
    for group in groups:
        for p in group["params"]:
            for name in names:
                if (value := base.state.get(p, {}).get(name)) is not None:
                    found[p] = value.clone()
                    break
    return found


DIRECTIONS: dict[str, Direction] = {
    "gradient": lambda base, groups: gradients(groups),
    "previous": previous,
    "momentum": momentum,
}
"""Directions by the name of `ascent`."""
