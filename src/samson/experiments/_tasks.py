"""Tasks: the loss that a network is trained with, and the metric by which it is judged."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

from samson._errors import SetupError, choose, require
from samson._factories import find_factory, guarded
from samson.evaluation import DataSetMetric, MeanThen, as_metric, bits, token_losses


class Task(Protocol):
    """What is asked of a network; a task of one's own is one class with these, and decides what targets are.

    Args:
        metric: Name of a metric of `samson.evaluation`, or such a metric itself.
    """

    metric: Any

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss of a batch, a tensor without axes.

        Args:
            outputs: The network's, in float32; also a dictionary, or several in a tuple.
            targets: Of the batch, as the data have them.
            label_smoothing: Of the recipe.
        """


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
        """Mean squared error of outputs and targets of one shape; one output an example may have an axis of its own.

        Raises:
            ValueError: If the shapes differ.
        """
        found = outputs.squeeze(-1) if outputs.shape == (*targets.shape, 1) else outputs
        if found.shape != targets.shape:
            raise ValueError(
                f"Outputs must have the shape of the targets, got {tuple(outputs.shape)} for {tuple(targets.shape)}."
            )
        return functional.mse_loss(found, targets.to(found.dtype))


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "language": LanguageModelling,
    "regression": Regression,
}
"""Tasks by name."""


def in_float32(outputs: Any) -> Any:
    """What a network gives, a tensor or several in a dictionary or a tuple, in the precision of a loss."""
    return tree_map(
        lambda leaf: leaf.float() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, outputs
    )


def make_task(name: str) -> Task:
    """A task by name, or a class of one's own.

    Raises:
        SetupError: If there is none.
    """
    if ":" not in name:
        return TASKS[choose("task", name, (*TASKS, "MODULE:CLASS"))]()
    made = find_factory(name, "task")
    task = guarded(made, name, "task")
    there = all(hasattr(task, part) for part in ("metric", "loss"))
    require(there, "task", "a class with a metric and a loss", name, "See samson.experiments.Task.")
    try:
        as_metric(task.metric)
    except (ValueError, TypeError) as error:
        raise SetupError(f"task {name!r}: {error}") from error
    return task  # type: ignore[no-any-return]
