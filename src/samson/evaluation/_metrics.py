"""The metrics that come along, by name, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samson._names import suggestion
from samson.evaluation._metric import DataSetMetric, ExampleMetric, Metric, NotFiniteError, accumulates

IGNORED = -100
"""Targets that do not count, by torch's and Transformers' convention."""
OTHERS = (
    " `metric`, 'accuracy' by default, takes classes: for targets that are numbers it is 'mse' (`--metric mse`), for "
    "several labels an example torchmetrics' MultilabelF1Score."
)
"""What an error adds where targets seem to be no classes."""


class MeanThen:
    """Accumulates a mean of many terms, and gives a function of it: perplexity is `MeanThen(token_losses, torch.exp)`.

    Args:
        terms: Gives the terms of a batch, in any shape, from output and targets.
        function: Of the mean of all terms, a float64 tensor.
    """

    def __init__(self, terms: Callable[[Any, Any], Tensor], function: Callable[[Tensor], Tensor]) -> None:
        self.terms, self.function = terms, function
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sum, self._count = torch.zeros((), dtype=torch.float64), 0

    def update(self, outputs: Any, targets: Any) -> None:
        """Add the terms of a batch."""
        terms = self.terms(outputs, targets)
        self._sum = self._sum.to(terms.device) + terms.double().sum()
        self._count += terms.numel()

    def compute(self) -> Tensor:
        """The function of the mean."""
        return self.function(self._sum / self._count)


def prediction(output: Any) -> Tensor:
    """The tensor that a metric looks at: the output itself, or its `logits` (Transformers)."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"The model must give a tensor or an output with `logits`, got {type(output).__name__}. "
            "Use a metric of your own that reads it."
        )
    return found


def top1(output: Any, targets: Tensor) -> Tensor:
    """Whether each example's largest logit is the target's; for many targets an example, the share that is right.

    Args:
        output: Logits of shape (batch, classes, …), as torch's losses want them, or (batch, …, classes).
        targets: Class numbers of shape (batch, …); with many an example, −100 does not count.
    """
    logits, targets = _classes_second(output, targets)
    _require_answers(logits, targets)
    return _share_right(logits.argmax(1) == targets, targets)


def top5(output: Any, targets: Tensor) -> Tensor:
    """Whether each example's target is among the five largest logits, of more than five; else as `top1`."""
    logits, targets = _classes_second(output, targets)
    _require_answers(logits, targets)
    if logits.shape[1] <= 5:
        raise ValueError(
            f"`metric` 'top5' must have more than 5 classes, got {logits.shape[1]}: every answer would be right. Use "
            "'accuracy'."
        )
    return _share_right((logits.topk(5, dim=1).indices == targets.unsqueeze(1)).any(1), targets)


def _share_right(right: Tensor, targets: Tensor) -> Tensor:
    if targets.ndim == 1:
        return right
    counted = (targets != IGNORED).flatten(1)
    return (right.flatten(1) & counted).sum(1).double() / counted.sum(1)


def cross_entropy(output: Any, targets: Tensor) -> Tensor:
    """Each example's cross entropy, in nats; the mean over what counts, if an example has many targets."""
    logits, targets = _classes_second(output, targets)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    if targets.ndim == 1:
        return losses
    return losses.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1)


def squared_error(output: Any, targets: Tensor) -> Tensor:
    """Each example's mean squared error; one output an example may have an axis of its own."""
    found = prediction(output)
    _require_tensor(targets)
    if found.shape == (*targets.shape, 1):
        found = found.squeeze(-1)
    if found.shape != targets.shape:
        raise ValueError(
            f"Outputs must have the shape of the targets, got {tuple(found.shape)} for {tuple(targets.shape)}."
        )
    return (found - targets).abs().square().reshape(len(targets), -1).mean(1)


def token_losses(output: Any, targets: Tensor) -> Tensor:
    """The cross entropy of every token that counts, in nats; targets stand at the place that predicts them."""
    logits, targets = _classes_second(output, targets)
    return functional.cross_entropy(logits, targets, reduction="none")[targets != IGNORED]


def bits(nats: Tensor) -> Tensor:
    """Nats in bits."""
    return nats / math.log(2)


def next_token_losses(output: Any, targets: Tensor) -> Tensor:
    """As `token_losses`, where each place predicts the next one's target: causal language models of Transformers."""
    _require_tensor(targets)
    logits = prediction(output)[:, :-1].movedim(-1, 1)
    following = _class_numbers(logits, targets[:, 1:])
    return functional.cross_entropy(logits, following, reduction="none")[following != IGNORED]


METRICS: dict[str, Metric] = {
    "accuracy": ExampleMetric("accuracy", top1, higher_is_better=True, bounds=(0.0, 1.0)),
    "top5": ExampleMetric("top5", top5, higher_is_better=True, bounds=(0.0, 1.0)),
    "cross-entropy": ExampleMetric("cross-entropy", cross_entropy, higher_is_better=False),
    "mse": ExampleMetric("mse", squared_error, higher_is_better=False),
    "bits-per-token": DataSetMetric("bits-per-token", MeanThen(token_losses, bits), higher_is_better=False),
    "perplexity": DataSetMetric("perplexity", MeanThen(token_losses, torch.exp), higher_is_better=False),
    "perplexity-causal": DataSetMetric(
        "perplexity-causal", MeanThen(next_token_losses, torch.exp), higher_is_better=False
    ),
}
"""Metrics by name."""


def as_metric(metric: Any) -> Metric:
    """A metric from its name, from itself, or from a metric of torchmetrics that knows its direction.

    One of torchmetrics has no bounds: those of its plots are none, since Cohen's kappa goes below the lower one. Where
    they matter, as for `stopping="betting"`, it is `DataSetMetric(name, metric, higher_is_better=…, bounds=…)`.

    Raises:
        ValueError: If the name is unknown, or a metric of torchmetrics does not know its direction.
        TypeError: If it is none of these: a bare function states neither its direction nor what it is a value of.
    """
    if isinstance(metric, (ExampleMetric, DataSetMetric)):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"`metric` must be a known one, got {metric!r}. {suggestion(metric, METRICS)}")
        return METRICS[metric]
    if isinstance(metric, type):
        raise TypeError(f"`metric` must be an instance, got the class. Write {metric.__name__}(...).")
    name = type(metric).__name__
    if isinstance(metric, (list, tuple, Mapping, nn.ModuleDict)):  # torchmetrics' MetricCollection is the last
        raise TypeError(
            f"`metric` must be one metric, got a {name} of {len(metric)}. Evaluate once for each: the same seed gives "
            "the same chips."
        )
    if accumulates(metric):
        higher = getattr(metric, "higher_is_better", None)
        if higher is None:
            raise ValueError(
                f"`metric` must state its direction, but {name} has no `higher_is_better`. "
                "Use DataSetMetric(name, metric, higher_is_better=…)."
            )
        return DataSetMetric(name, metric, bool(higher))
    raise TypeError(
        f"`metric` must be a name, an ExampleMetric, a DataSetMetric or a metric of torchmetrics, got {name}. "
        "A function becomes one by ExampleMetric(name, function, higher_is_better=…)."
    )


def _classes_second(output: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as (batch, classes, …), whichever way they came, and targets in int64.

    Where both ways would do, Transformers' have classes last.

    Raises:
        ValueError: If shapes do not fit, or would do both ways for a plain tensor; if there is one class, or a target
            is no class.
        TypeError: If targets are no tensor.
    """
    logits = prediction(output)
    _require_tensor(targets)
    second = logits.ndim > 1 and logits.shape[:1] + logits.shape[2:] == targets.shape
    last = logits.ndim > 1 and logits.shape[:-1] == targets.shape
    if not (second or last):
        raise ValueError(
            f"Logits must be of shape (batch, classes, …) for targets of shape (batch, …), got {tuple(logits.shape)} "
            f"for {tuple(targets.shape)}.{OTHERS if logits.shape == targets.shape else ''}"
        )
    if second and last and logits is output and logits.ndim > 2:
        raise ValueError(
            f"Logits must say which axis their classes lie along, got {tuple(logits.shape)} for targets of shape "
            f"{tuple(targets.shape)}, which may be the second or the last. Return {{'logits': …}} with classes last, "
            "or use a metric of your own."
        )
    logits = logits if second and not last else logits.movedim(-1, 1)
    return logits, _class_numbers(logits, targets)


def _require_tensor(targets: Any) -> None:
    if not isinstance(targets, Tensor):
        raise TypeError(
            f"Targets must be a tensor for this metric, got {type(targets).__name__}. Use torch.as_tensor, or, for "
            "several targets, a metric of your own."
        )


def _class_numbers(logits: Tensor, targets: Tensor) -> Tensor:
    """The targets in int64, where no comparison wraps: in uint8, class 156 would equal −100.

    Raises:
        ValueError: If a target is no class, or there is one class, the largest of which says nothing.
    """
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError(
            f"Logits must be of at least 2 classes, got {tuple(logits.shape)}: the largest of one says nothing. "
            "For one logit use torch.cat([-y, y], 1) / 2 as output, or an ExampleMetric of your own."
            + (OTHERS if targets.is_floating_point() else "")
        )
    numbers = targets.long()
    known = (numbers >= 0) & (numbers < classes)
    if targets.ndim > 1:
        known |= numbers == IGNORED
    if targets.is_floating_point():
        known &= numbers == targets
    if not known.all():
        wrong = sorted(set(targets[~known].tolist()))[:3]
        ignored = " Leave examples without a class out of the data." if IGNORED in wrong else ""
        if targets.ndim > 1:
            ignored = f" Write {IGNORED} for targets that do not count."
        raise ValueError(
            f"Targets must be whole class numbers from 0 to {classes - 1} for logits of shape {tuple(logits.shape)}, "
            f"got {', '.join(map(str, wrong))}.{ignored}"
        )
    return numbers


def _require_answers(logits: Tensor, targets: Tensor) -> None:
    """Refuse outputs of which none is the largest: NaN would count as class 0, or as wrong."""
    answers = logits.amax(1).isfinite()
    if targets.ndim > 1:
        answers |= targets == IGNORED
    if not answers.all():
        raise NotFiniteError(
            f"Outputs must be finite, got NaN or infinity for {int((~answers).sum())} of {answers.numel()} answers: "
            "the network overflows on this chip, or its inputs are not finite. A metric of your own can bound them."
        )
