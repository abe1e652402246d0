"""What an ascent goes along: the gradient of a first pass, the last step's gradient, or the base's momentum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

Direction = Callable[[Tensor], Tensor | None]
"""Gives what a parameter climbs along, to be used up; None leaves it where it is."""

PREVIOUS = "previous_gradient"
"""Key in a parameter's optimizer state."""

BUFFERS = ("momentum_buffer", "exp_avg")
"""Names under which optimizers keep their momentum."""


def gradient(p: Tensor) -> Tensor | None:
    """A parameter's gradient, if it has one.

    Raises:
        RuntimeError: If it is sparse.
    """
    return _not_sparse(p.grad)


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


def require_state(base: Optimizer) -> None:
    """Refuse, after a step, a base optimizer that has kept nothing: its momentum is elsewhere.

    Raises:
        RuntimeError: If it has no state of any parameter.
    """
    if not base.state:
        raise RuntimeError(
            "`ascent='momentum'` needs a base optimizer that keeps its state itself, got one that has none after a "
            f"step: {type(base).__name__}. Take ascent='gradient'."
        )


def remember(base: Optimizer, gradients: dict[Tensor, Tensor]) -> None:
    """Put the gradients of a step in the state that the base has made for their parameters, for the next one."""
    for p, gradient in gradients.items():
        base.state[p][PREVIOUS] = gradient


def prepare(base: Optimizer, key: str) -> None:
    """Zeros where the base has its state from the start (Adagrad): no step comes before a checkpoint is loaded."""
    for group in base.param_groups:
        for p in group["params"]:
            if p.requires_grad and base.state.get(p):
                base.state[p].setdefault(key, torch.zeros_like(p))


def _not_sparse(grad: Tensor | None) -> Tensor | None:
    if grad is not None and grad.layout != torch.strided:
        raise RuntimeError(
            "A sparse gradient cannot be perturbed. Use `sparse=False`, or put the embedding in a parameter group with "
            "`perturb=False`."
        )
    return grad


def _previous(base: Optimizer) -> Direction:
    def copy(p: Tensor) -> Tensor | None:
        found = _not_sparse(base.state.get(p, {}).get(PREVIOUS)) if p.requires_grad else None
        return None if found is None else found.clone()

    return copy


def _momentum(base: Optimizer) -> Direction:
    def copy(p: Tensor) -> Tensor | None:
        state = base.state.get(p)
        if not state or not p.requires_grad:  # before the first step, or frozen
            return None
        kept = (state.get(name) for name in BUFFERS)
        found = next((one for one in kept if isinstance(one, Tensor) and one.shape == p.shape), None)
        if found is None:
            raise RuntimeError(
                f"`ascent='momentum'` needs a base optimizer that keeps {' or '.join(f'`{name}`' for name in BUFFERS)} "
                f"of the shape of each parameter, got {type(base).__name__}, which keeps {', '.join(map(str, state))}. "
                "Take ascent='previous'."
            )
        return found.clone()

    return copy


DIRECTIONS: dict[str, Callable[[Optimizer], Direction]] = {
    "gradient": lambda base: gradient,
    "previous": _previous,
    "momentum": _momentum,
}
"""Directions by the name of `ascent`. The base's state is copied, and is not there yet in the first step."""
