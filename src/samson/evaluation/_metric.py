"""What a metric is: a value of each example, or one of the data set as a whole."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn


class NotFiniteError(ValueError):
    """A metric has no finite value, as where a chip's outputs overflow."""


@dataclass(frozen=True)
class ExampleMetric:
    """A metric that is the mean of one value for each example.

    Args:
        name: Its name.
        score: Gives one value for each example, of shape (batch,), from the model's output and the targets.
        higher_is_better: Its direction, which yield, worst chip, budget and limits follow.
        bounds: The smallest and largest possible value, both finite; None if there is no such.

    Raises:
        ValueError: If `bounds` are not two finite numbers in ascending order.

    Example:
        >>> absolute = ExampleMetric("mae", lambda y, t: (y - t).abs().flatten(1).mean(1), higher_is_better=False)
    """

    name: str
    score: Callable[[Any, Any], Tensor]
    higher_is_better: bool
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.bounds)
        if not callable(self.score):
            raise TypeError(f"`score` must be a function of output and targets, got {self.score!r}.")


class Accumulator(Protocol):
    """What a data-set metric is computed with; metrics of torchmetrics are such."""

    def reset(self) -> None:
        """Forget everything."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Take in one batch."""

    def compute(self) -> Any:
        """The value for all batches, a number or a tensor with one element."""


@dataclass(frozen=True)
class DataSetMetric:
    """A metric that exists only for the data set as a whole: IoU, F1, perplexity.

    It has no population interval: there is no value for an example.

    Args:
        name: Its name.
        accumulator: Computes it; a copy is used, and moved to the model's device if it has a `to`.
        higher_is_better: Its direction.
        bounds: The smallest and largest possible value, both finite; None if there is no such.

    Raises:
        ValueError: If `bounds` are not two finite numbers in ascending order.
    """

    name: str
    accumulator: Accumulator
    higher_is_better: bool
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.bounds)
        if isinstance(self.accumulator, type) or not accumulates(self.accumulator):
            raise TypeError(f"`accumulator` must have reset, update and compute, got {self.accumulator!r:.80}.")

    def fresh(self, device: torch.device) -> Accumulator:
        """An accumulator of its own, empty, on a device, which merges nothing with those of other processes."""
        accumulator: Any = copy.deepcopy(self.accumulator)
        if hasattr(accumulator, "to"):
            accumulator = accumulator.to(device)
        accumulator.reset()
        parts: Any = accumulator.modules() if isinstance(accumulator, nn.Module) else ()
        for part in parts:
            if hasattr(part, "distributed_available_fn"):  # of torchmetrics; other processes run other chips
                part.distributed_available_fn = _alone
        return cast("Accumulator", accumulator)


def _alone() -> bool:
    return False


def _check_bounds(bounds: tuple[float, float] | None) -> None:
    if bounds is not None and (len(bounds) != 2 or not -math.inf < bounds[0] < bounds[1] < math.inf):
        raise ValueError(
            f"`bounds` must be two finite numbers in ascending order, got {bounds!r}. Leave them out for a metric that "
            "has no smallest or no largest value."
        )


def accumulates(value: object) -> bool:
    """Whether a value has all that an accumulator has."""
    return all(hasattr(value, part) for part in ("reset", "update", "compute"))


Metric = ExampleMetric | DataSetMetric


def require_reachable(parameter: str, value: float, metric: Metric) -> None:
    """Refuse a value above all that a metric has, as one meant in percent, and NaN."""
    high = math.inf if metric.bounds is None else metric.bounds[1]
    if not value <= high:
        meant = metric.bounds == (0, 1) and 2 <= value <= 100
        percent = f" A share of {value:g} % is {value / 100:g}." if meant else ""
        raise ValueError(f"{parameter} must be at most {high:g}, as {metric.name} is, got {value!r}.{percent}")


def require_possible(max_drop: float, metric: Metric, *, relative: bool = False) -> None:
    """Refuse a drop that is allowed whatever happens, as one meant in points."""
    low, high = metric.bounds or (-math.inf, math.inf)
    if relative:
        if metric.higher_is_better and low >= 0 and max_drop >= 1:
            raise ValueError(
                f"`max_drop` must be a fraction below 1 of the value without noise, got {max_drop!r}: {metric.name!r} "
                "falls to 0 at most."
            )
        return
    if max_drop >= high - low:
        raise ValueError(
            f"`max_drop` must be below {high - low:g}, since {metric.name!r} lies between {low:g} and {high:g}, got "
            f"{max_drop!r}. It is in the metric's unit: a point of accuracy is 0.01."
        )
