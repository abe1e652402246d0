"""Transformers: a `Trainer` whose optimizer may be sharpness-aware."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson._layers import is_input_range
from samson.integrations import missing
from samson.optim import Rule, SharpnessAware

try:
    from transformers import Trainer

    from samson.integrations._ascent import ascent_values
    from samson.integrations.accelerate import sharpness_aware
except ImportError as error:
    raise missing("transformers") from error


__all__ = ["SharpnessAwareTrainer"]


class SharpnessAwareTrainer(Trainer):
    """A `Trainer` that climbs on a step's accumulated gradient and repeats the step's micro-batches perturbed.

    The Trainer's own clipping, mixed precision and scheduler then act on the second gradient; the logged loss is the
    clean one. Also a mixin for other trainers: `class Mine(SharpnessAwareTrainer, Seq2SeqTrainer)`. A mode with one
    pass runs the micro-batches once, perturbed, at the last of them, and logs that loss. With each loss the last
    perturbation is logged: `ascent/gradient_norm`, `ascent/clean_loss`, `ascent/perturbed_loss`, `ascent/skipped`, and
    `ascent/epsilon_norm` if the optimizer was made with `measure=True`.

    Args:
        *args: As for the Trainer.
        rule: Makes the Trainer's own optimizer sharpness-aware (`TrainingArguments(optim=...)`, with its weight decay
            groups). For other settings pass `optimizers=(SharpnessAware(...), None)` instead.
        **kwargs: As for the Trainer.

    Raises:
        ValueError: If both a rule and an optimizer are passed.
        TypeError: When training starts, if the optimizer is no `SharpnessAware` and no rule was given.

    Example:
        trainer = SharpnessAwareTrainer(model, args, train_dataset=data, rule=SAMSON(rho=0.2))
        trainer.train()
    """

    def __init__(self, *args: Any, rule: Rule | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if rule is not None and self.optimizer is not None:
            raise ValueError(
                f"`rule` is for the Trainer's own optimizer, but `optimizers` brings {type(self.optimizer).__name__}. "
                "Pass one of them."
            )
        self._rule = rule
        self._micro_batches: list[Any] = []
        self._clean: list[Tensor] = []

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Make the optimizer, if none was passed, and make it sharpness-aware by the rule, if one was given."""
        own = self.optimizer is None
        made: Optimizer = super().create_optimizer(model)
        if own and self._rule is not None:
            made = self.optimizer = SharpnessAware(made, self._rule, model=self.model if model is None else model)
        sharpness_aware(made)
        return made

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The names of what weight decay is for: not of input ranges that are learned."""
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if not is_input_range(name)]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and leave the weights that a base with modes (schedule-free) has for evaluation."""
        output = super().train(*args, **kwargs)
        if not self.args.load_best_model_at_end:  # those were saved after an evaluation
            sharpness_aware(self.optimizer).eval()
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor | int | None]:
        """Fetch the micro-batches of one optimizer step, and keep them for the second pass."""
        self._clean = []
        self._micro_batches, items = super().get_batch_samples(*args, **kwargs)
        return self._micro_batches, items

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch; the last one of a step also repeats them all at the perturbed weights.

        Returns:
            The clean loss. In a mode with one pass the sum over the step's micro-batches at the last of them, and 0
            at the others.
        """
        optimizer = sharpness_aware(self.optimizer)
        optimizer.train()  # not first inside the block, where it would move perturbed weights
        loss = torch.zeros((), device=self.args.device)
        two_passes = optimizer.needs_first_pass
        if two_passes or not optimizer.climbs:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self._clean.append(loss)
        if self.accelerator.sync_gradients and optimizer.climbs:
            with optimizer.perturbed(model):
                repeated = [
                    super(SharpnessAwareTrainer, self).training_step(model, again, num_items_in_batch)
                    for again in self._micro_batches
                ]
            perturbed = torch.stack(repeated).sum()
            ascent = optimizer.last_ascent
            assert ascent is not None
            ascent.clean_loss = torch.stack(self._clean).sum() if two_passes else None
            ascent.perturbed_loss = perturbed
            loss = loss if two_passes else perturbed
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the Trainer does, with the last perturbation beside each training loss."""
        if "loss" in logs:
            values = ascent_values(sharpness_aware(self.optimizer))
            logs = {**logs, **{f"ascent/{name}": float(value) for name, value in values.items()}}
        super().log(logs, *args, **kwargs)
