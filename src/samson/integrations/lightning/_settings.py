"""Settings of a Lightning trainer under which a sharpness-aware step would silently be another one."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.core.optimizer import LightningOptimizer

from samson.optim import Lookbehind, SharpnessAware

Sharp = SharpnessAware | Lookbehind


def sharp_optimizers(trainer: Trainer) -> list[Sharp]:
    """The trainer's optimizers that climb."""
    return [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, Sharp)]


def unwrapped(optimizer: Any) -> Any:
    """The optimizer that a LightningOptimizer holds; any other as it is."""
    return optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer


def starts_clean(optimizer: Any) -> bool:
    """Whether the first pass of the step at hand is at the clean weights."""
    inner = unwrapped(optimizer)
    return not isinstance(inner, SharpnessAware) or inner.needs_first_pass or not inner.climbs


def only_climbs(optimizer: Any) -> bool:
    """Whether the first gradient of the step at hand gives the direction of an ascent and nothing else."""
    inner = unwrapped(optimizer)
    if isinstance(inner, SharpnessAware):
        return inner.climbs and inner.needs_first_pass and inner.modes.mix == 1
    return isinstance(inner, Lookbehind)


def refuse_scaler(trainer: Trainer) -> None:
    """Refuse a gradient scaler, with which Lightning never hands the closure to the optimizer.

    Raises:
        ValueError: If an optimizer climbs and the precision is 16-mixed, or has a scaler otherwise.
    """
    if sharp_optimizers(trainer) and getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError(
            f"`precision` must not be {trainer.precision!r} with a sharpness-aware optimizer: Lightning then runs the "
            "closure once and steps without it, so nothing is perturbed. Use `Trainer(precision='bf16-mixed')`."
        )


def refuse_accumulation(trainer: Trainer) -> None:
    """Refuse accumulated batches, of which Lightning's second pass would repeat the last one only.

    Raises:
        ValueError: If an optimizer climbs and batches are accumulated, now or by a callback's schedule.
    """
    factors = [trainer.accumulate_grad_batches]
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, GradientAccumulationScheduler):
            factors += callback.scheduling.values()
    if sharp_optimizers(trainer) and max(factors) > 1:
        raise ValueError(
            f"`accumulate_grad_batches` must be 1 with a sharpness-aware optimizer, got {max(factors)}: a second pass "
            "would repeat the last batch only. Leave it at 1 and accumulate by our manual optimisation: `class "
            f"Manual(samson.integrations.lightning.ManualAscent, YourModule): accumulate = {max(factors)}`."
        )


class SettingsCheck(Callback):
    """Refuses, when the fit starts, settings that cannot work in automatic optimisation; switches the base's modes.

    A base with modes (schedule-free) is in evaluation mode for validation, at the end of an epoch, when checkpoints are
    saved, and at the end of the fit.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check precision and accumulation."""
        if pl_module.automatic_optimization:
            refuse_scaler(trainer)
            refuse_accumulation(trainer)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Put bases that have modes in training mode."""
        for optimizer in sharp_optimizers(trainer):
            optimizer.train()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put bases that have modes in evaluation mode."""
        for optimizer in sharp_optimizers(trainer):
            optimizer.eval()

    on_train_epoch_end = on_train_end = on_validation_start
