"""Tasks: the loss that a network is trained with, and the metric by which it is judged."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional

from samson.evaluation import DataSetMetric, MeanThen, bits, token_losses


class Task(Protocol):
    """What is asked of a network; a task of one's own is one class with these.

    Args:
        metric: Name of a metric of `samson.evaluation`, or such a metric itself.
    """

    metric: Any

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss of a batch, a tensor without axes."""


class Classification:
    """One class an example: cross-entropy, judged by accuracy."""

    metric = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (batch, classes) and class numbers (batch,)."""
        return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def _losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return token_losses({"logits": outputs}, targets)  # in which classes are last


class LanguageModelling:
    """The next token at each place: cross-entropy, judged by bits per token (of characters: bits per character).

    The vocabulary lies along the last axis, also where a text is as long as it is large.
    """

    metric = DataSetMetric("bits-per-token", MeanThen(_losses, bits), higher_is_better=False)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (batch, length, vocabulary) and tokens (batch, length); −100 does not count."""
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing)


class Regression:
    """Numbers: squared error, judged by its mean."""

    metric = "mse"

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean squared error of outputs and targets, both (batch,) or (batch, numbers)."""
        return functional.mse_loss(outputs.reshape(targets.shape), targets.to(outputs.dtype))


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "language": LanguageModelling,
    "regression": Regression,
}
"""Tasks by name."""
