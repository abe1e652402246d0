"""Schedules for the radius ρ over a training, beside the learning rate's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from samson._checks import require, require_number
from samson._names import counted

RAMP = "rho_ramp"
"""Key in a parameter group under which stand its full radius and the ρ that a schedule set last."""

DRAWN = "drawn"
"""The ramp that is a draw, uniform between 0 and 1, for each step."""

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: t,
    "quadratic": lambda t: t * t,
}
"""Ramps by name: the share of the full radius, from the share of the training that is done."""


class RhoSchedule:
    """Set each parameter group's `rho` to its full value times a ramp over the training.

    Works for every rule and for `NoiseInjection`, whose `rho` is the share of the noise. With "drawn" the strength is
    drawn anew for each step, from (seed, step), so that training sees every size up to the full one. Call `step()`
    once after each optimizer step, as with torch's schedulers. A `rho` that is a tensor is filled in place. The full
    value is kept in the group, so a second schedule starts from it, unless `rho` was set by hand since.

    Args:
        optimizer: A `SharpnessAware` or `Lookbehind` optimizer (or its base).
        shape: "constant", "linear", "quadratic", "drawn", or any function from the share of the training that is
            done (0 to 1) to the share of the full radius.
        steps: Number of optimizer steps of the training, ≥ 1; afterwards a ramp keeps its last value.
        seed: Seed of the draws.

    Raises:
        ValueError: If a setting is out of its range, or a group has no `rho`.

    Example:
        >>> import torch
        >>> from samson import SAM, SharpnessAware, param_groups
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=0.4))
        >>> schedule = RhoSchedule(optimizer, "quadratic", steps=10)
        >>> for _ in range(5):
        ...     schedule.step()
        >>> optimizer.param_groups[0]["rho"]
        0.1

    Reference: Incorruptible Neural Networks, arXiv 2602.07320: a perturbation that is ramped up over the training
    beats a constant one; the quadratic form σ_max·(t/T)² is inferred from its figures, not seen in its text.
    "drawn": variance-aware training, arXiv 2503.16183, where a strength that varies beats a fixed one.
    """

    def __init__(
        self, optimizer: Optimizer, shape: str | Callable[[float], float], steps: int, *, seed: int = 0
    ) -> None:
        if isinstance(shape, str) and shape not in (*SHAPES, DRAWN):
            raise ValueError(f"`shape` must be one of {', '.join((*SHAPES, DRAWN))} or a function, got {shape!r}.")
        require_number("steps", steps)
        require(steps >= 1, "steps", "be ≥ 1", steps)
        if not all("rho" in group for group in optimizer.param_groups):
            raise ValueError("`optimizer` must have a `rho` in each group: make SharpnessAware first.")
        self.optimizer, self.steps, self._seed = optimizer, steps, seed
        self._ramp = SHAPES.get(shape) if isinstance(shape, str) else shape
        self._done = 0
        self._full: list[float | None] = [_full_radius(group) for group in optimizer.param_groups]
        if not any(self._full):
            warnings.warn("RhoSchedule: the full `rho` of every group is 0, so nothing is perturbed.", stacklevel=2)
        self._set()

    def __repr__(self) -> str:
        rho = ", ".join(dict.fromkeys(f"{float(group['rho']):g}" for group in self.optimizer.param_groups[:8]))
        return f"RhoSchedule: {self._done} of {counted(self.steps, 'step')} done, rho {rho}"

    def step(self) -> None:
        """One more optimizer step is done."""
        self._done += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        return {"done": self._done, "full": list(self._full), "seed": self._seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._done, self._full = state_dict["done"], list(state_dict["full"])
        self._seed = state_dict.get("seed", self._seed)
        self._set()

    def _drawn(self) -> float:
        digest = blake2b(f"{self._seed}/{self._done}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def _set(self) -> None:
        share = self._drawn() if self._ramp is None else float(self._ramp(min(self._done / self.steps, 1.0)))
        if not share >= 0:
            raise ValueError(f"`shape` must give values ≥ 0, got {share!r} after {self._done} of {self.steps} steps.")
        groups = self.optimizer.param_groups
        self._full += [None] * (len(groups) - len(self._full))
        for place, group in enumerate(groups):
            if "rho" not in group:
                continue  # one that came by the base has none before its step
            full = self._full[place]
            if full is None:
                full = self._full[place] = _full_radius(group)
            if isinstance(group["rho"], Tensor):
                group["rho"].fill_(full * share)
            else:
                group["rho"] = full * share
            group[RAMP] = full, full * share


def _full_radius(group: dict[str, Any]) -> float:
    """A group's ρ, or the full one where a schedule before made it what it is."""
    rho = float(group["rho"])
    full, ramped = group.get(RAMP, (rho, rho))
    return float(full) if math.isclose(rho, ramped, rel_tol=1e-6) else rho  # a tensor rounds
