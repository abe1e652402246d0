"""Lightning's automatic optimisation: its closure, run as often as the optimizer asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lightning.pytorch.loops.optimization.automatic import Closure
from torch.optim import Optimizer

from samson.integrations.lightning._passes import NoLossError, RepeatedPasses
from samson.integrations.lightning._settings import Sharp, only_climbs, unwrapped


class SharpnessAwareModule(RepeatedPasses):
    """A LightningModule whose logged metrics come from the clean pass, though each step has two.

    Return a `SharpnessAware` or `Lookbehind` optimizer from `configure_optimizers`; all else stays as it is. Without
    this class the step is right too, but what `training_step` logs would be the perturbed value, or the mean of both.
    For a module that is already written: `class Sharp(SharpnessAwareModule, YourModule)`.

    `gradient_clip_val` clips the gradients that the step uses, not one that only gives the direction of the ascent;
    with `mix` < 1 each gradient is clipped before they are mixed. Hooks around `backward` and the step run once a pass.
    A `training_step` that returns None, in either pass, skips the step.

    Raises:
        ValueError: When the fit starts, if the precision is 16-mixed or batches are accumulated.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from samson import SAMSON, SharpnessAware, param_groups
        >>> class Net(SharpnessAwareModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = nn.Linear(4, 2)
        ...     def training_step(self, batch, batch_idx):
        ...         loss = self.layer(batch).square().mean()
        ...         self.log("loss", loss)
        ...         return loss
        ...     def configure_optimizers(self):
        ...         return SharpnessAware(torch.optim.SGD(param_groups(self), lr=0.1), SAMSON(rho=0.5))
    """

    _clips = True

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Let the optimizer run the closure; every run after the first leaves no trace in logs and outputs."""
        if not isinstance(optimizer_closure, Closure):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        if self.trainer.fit_loop._skip_backward:  # StochasticWeightAveraging's last epoch, for norm statistics alone
            optimizer_closure()
            return

        def first() -> Any:
            self._clips = not only_climbs(optimizer)
            return checked(optimizer_closure())

        def again() -> Any:
            self._clips = True
            return checked(optimizer_closure.closure().loss)  # a call would replace the result that gives the outputs

        def checked(loss: Any) -> Any:
            if loss is None and isinstance(unwrapped(optimizer), Sharp):
                raise NoLossError
            return loss

        with self._passes(first, again) as closure, suppress(NoLossError):
            super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, except a gradient that only gives the direction of the ascent."""
        if self._clips:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
