"""The training loop: one for all methods, since each is an optimizer that steps with a closure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from samson.experiments._data import Pair

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on; may raise to stop it."""


@dataclass(frozen=True)
class Plan:
    """How long and in what portions to train.

    Args:
        epochs: Passes over the training split, ≥ 1.
        batch_size: Examples in a mini-batch, ≥ 1; a smaller last one is left out.
        seed: Seed of the order of the examples.
    """

    epochs: int
    batch_size: int
    seed: int


def train(
    model: nn.Module, optimizer: Optimizer, data: Pair, plan: Plan, progress: OnProgress
) -> tuple[list[float], int | None]:
    """Train a classifier with cross-entropy and a cosine learning-rate schedule down to zero.

    Args:
        model: Changed in place; left in evaluation mode.
        optimizer: Any whose `step` takes a closure.
        data: Inputs and class numbers.
        plan: Length, mini-batch and order.
        progress: Called after each epoch.

    Returns:
        Each whole epoch's mean training loss, as the steps saw it: the clean one, or under noise injection the noisy
        one; and the step, from 1, at which it was no finite number, where training stopped.
    """
    inputs, targets = data
    order = torch.Generator().manual_seed(plan.seed)
    steps = len(inputs) // plan.batch_size
    scheduler = CosineAnnealingLR(optimizer, T_max=plan.epochs * steps)
    losses: list[float] = []
    model.train()
    for epoch in range(plan.epochs):
        total = torch.zeros(())
        batches = torch.randperm(len(inputs), generator=order)[: steps * plan.batch_size].view(steps, -1)
        for number, batch in enumerate(batches, start=1):
            loss = _step(model, optimizer, inputs[batch], targets[batch])
            if not loss.isfinite():
                model.eval()
                return losses, epoch * steps + number
            total += loss
            scheduler.step()
        losses.append(float(total) / steps)
        progress("training", epoch + 1, plan.epochs)
    model.eval()
    return losses, None


def _step(model: nn.Module, optimizer: Optimizer, inputs: Tensor, targets: Tensor) -> Tensor:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    loss: Tensor = optimizer.step(closure)  # type: ignore[arg-type, assignment]
    return loss.detach()
