"""Gradient scaling (`torch.amp.GradScaler`): the first pass must not be unscaled, or the second never would be."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import torch


class ScalerWatch:
    """Knows whether a GradScaler has unscaled an optimizer's gradients in this step.

    The scaler keeps that to itself, but reads the optimizer's `param_groups` when it unscales: that is where this
    learns which scaler is at work, to ask it later.
    """

    def __init__(self) -> None:
        self._scaler: weakref.ref[Any] | None = None
        self._known_as = 0

    def groups_are_read(self) -> None:
        """To be called by a getter of `param_groups`: notes the scaler if it is one that reads."""
        if torch.compiler.is_compiling():
            return
        frame = sys._getframe(2)
        for _ in range(3):  # wrappers of the optimizer pass the reading on
            if frame.f_code.co_name == "_unscale_grads_":
                self._scaler = weakref.ref(frame.f_locals["self"])
                self._known_as = id(frame.f_locals["optimizer"])
                return
            if frame.f_back is None:
                return
            frame = frame.f_back

    def has_unscaled(self) -> bool:
        """Whether gradients are unscaled now, since the scaler's last `update`."""
        scaler = None if self._scaler is None else self._scaler()
        if scaler is None:
            return False
        stage = scaler._per_optimizer_states[self._known_as]["stage"]
        return bool(stage == torch.amp.grad_scaler.OptState.UNSCALED)

    def require_scaled(self) -> None:
        """Refuse to perturb where the scaler would leave the second gradient scaled.

        Raises:
            RuntimeError: If gradients are unscaled now.
        """
        if self.has_unscaled():
            raise RuntimeError(
                "The gradients of the first pass are unscaled already, so the scaler would step with scaled ones of "
                "the second. Call `scaler.unscale_(optimizer)` only after the `with optimizer.perturbed(model)` "
                "block, and give no closure to `scaler.step`."
            )
