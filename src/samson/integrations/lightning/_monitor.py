"""A callback that writes what the perturbations were to Lightning's log."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from samson.integrations._ascent import ascent_values
from samson.integrations.lightning._passes import RepeatedPasses
from samson.integrations.lightning._settings import SettingsCheck, sharp_optimizers


class AscentMonitor(SettingsCheck):
    """Log the last perturbation: its gradient norm and ‖ε‖, the loss before and after it, and the skipped ones.

    The values stay on the device; Lightning reads them where it logs, each `log_every_n_steps` steps. ‖ε‖ is there
    if the optimizer was made with `measure=True`. On a step that does not climb they are those of the one before.

    Args:
        prefix: Stands before the names `gradient_norm`, `epsilon_norm`, `clean_loss`, `perturbed_loss` and `skipped`.

    Raises:
        ValueError: When the fit starts, if no optimizer climbs, or as for `SharpnessAwareModule`.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[AscentMonitor()], logger=False, enable_progress_bar=False, accelerator="cpu")
    """

    def __init__(self, prefix: str = "ascent/") -> None:
        self.prefix = prefix

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there is something to monitor, and the trainer's settings."""
        if len(sharp_optimizers(trainer)) != 1:
            raise ValueError(
                f"AscentMonitor needs one sharpness-aware optimizer, got {len(sharp_optimizers(trainer))}. Return "
                "SharpnessAware(base, rule) from `configure_optimizers`, or leave the callback out."
            )
        super().on_fit_start(trainer, pl_module)
        if pl_module.automatic_optimization and not isinstance(pl_module, RepeatedPasses):
            rank_zero_warn(
                f"what `training_step` of {type(pl_module).__name__} logs will mix the clean and the perturbed pass. "
                "Train `class Sharp(samson.integrations.lightning.SharpnessAwareModule, YourModule)` instead."
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Hand the values to the log."""
        (optimizer,) = sharp_optimizers(trainer)
        for name, value in ascent_values(optimizer).items():
            pl_module.log(self.prefix + name, value.float(), on_step=True, on_epoch=False)
