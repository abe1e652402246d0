"""Manual optimisation for Lightning: sharpness-aware steps over accumulated batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from samson.integrations.lightning._passes import NoLossError, RepeatedPasses
from samson.integrations.lightning._settings import only_climbs, refuse_scaler, starts_clean, unwrapped


class ManualAscent(RepeatedPasses):
    """Turns a LightningModule into one that accumulates batches before it climbs, and repeats them all perturbed.

    Put it before the module whose `training_step(batch, batch_idx)` returns the loss, and leave the Trainer's own
    accumulation and clipping alone:

        class Manual(ManualAscent, YourModule):
            accumulate = 3
            clip_norm = 1.0

    Each batch runs once as it comes; that pass is logged. The last one of a step, or of an epoch, makes the step. The
    loss is divided by `accumulate`, as Lightning does. In a mode with one pass the batches wait for the last one and
    then run perturbed. A batch for which `training_step` returns None adds nothing, and a step without any other is
    skipped. Learning rate schedulers are stepped as in automatic optimisation, but ReduceLROnPlateau is left to you.

    Raises:
        TypeError: If `training_step` is defined in the same class or a later one.
        ValueError: When the fit starts, if `accumulate` is not ≥ 1, there is more than one optimizer, or the
            precision is 16-mixed.
    """

    accumulate: int = 1
    """Number of batches in a step, ≥ 1."""

    clip_norm: float | None = None
    """The largest norm of a gradient that the step uses; None does not clip."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        self._held: list[tuple[Any, int]] = []
        self._losses: list[Tensor] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.training_step is not ManualAscent.training_step:
            raise TypeError(
                f"`training_step` of {cls.__name__} hides that of ManualAscent. Define it in a LightningModule of its "
                "own: `class Manual(ManualAscent, YourModule)`."
            )

    def on_fit_start(self) -> None:
        """Check the settings."""
        if self.accumulate < 1:
            raise ValueError(f"`accumulate` must be ≥ 1, got {self.accumulate}.")
        if len(self.trainer.optimizers) != 1:
            raise ValueError(f"ManualAscent needs one optimizer, got {len(self.trainer.optimizers)}.")
        refuse_scaler(self.trainer)
        super().on_fit_start()

    def on_train_epoch_start(self) -> None:
        """Begin without held batches."""
        self._held, self._losses = [], []
        super().on_train_epoch_start()

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Run one batch, and make the step if it is the last one of a step or of the epoch.

        Returns:
            What the module's own `training_step` returned; None while batches wait in a mode with one pass.
        """
        if self.trainer.fit_loop._skip_backward:  # StochasticWeightAveraging's last epoch, for norm statistics alone
            return super().training_step(batch, batch_idx)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        output: STEP_OUTPUT = None
        self._held.append((batch, batch_idx))
        if clean := starts_clean(optimizer):
            if len(self._held) == 1:
                optimizer.zero_grad()
            output = self._backward(batch, batch_idx)
        if len(self._held) < self.accumulate and not self.trainer.is_last_batch:
            return output

        def run() -> Tensor:
            nonlocal output
            optimizer.zero_grad()
            self._losses = []
            for held in self._held:
                last = self._backward(*held)
            if not self.repeats:
                output = last
            self._clip(optimizer)
            return self._loss()

        def ran() -> Tensor:
            if not only_climbs(optimizer):
                self._clip(optimizer)
            return self._loss()

        with self._passes(ran if clean else run, run) as closure:
            try:
                optimizer.step(closure)
            except NoLossError:
                optimizer._on_after_step()  # Lightning counts it, as in automatic optimisation
        self._held, self._losses = [], []
        self._step_schedulers("step", batch_idx + 1)
        if self.trainer.is_last_batch:
            self._step_schedulers("epoch", self.trainer.current_epoch + 1)
        return output

    def _backward(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        output = super().training_step(batch, batch_idx)
        if output is None and self.trainer.world_size == 1:
            Closure.warning_cache.warn("`training_step` returned `None`. If this was on purpose, ignore this warning.")
            return None
        loss = output["loss"] if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            raise TypeError(f"`training_step` must return a loss, or a dict with `loss`, got {type(loss).__name__}.")
        self.manual_backward(loss / self.accumulate)
        self._losses.append(loss.detach() / self.accumulate)
        return output

    def _loss(self) -> Tensor:
        """That of the step's batches."""
        if not self._losses:
            raise NoLossError
        return torch.stack(self._losses).sum()

    def _clip(self, optimizer: LightningOptimizer) -> None:
        if self.clip_norm is not None:
            self.clip_gradients(unwrapped(optimizer), self.clip_norm, "norm")

    def _step_schedulers(self, interval: str, number: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            due = config.interval == interval and number % config.frequency == 0
            if due and not isinstance(config.scheduler, ReduceLROnPlateau):
                self.lr_scheduler_step(config.scheduler, None)
