"""What measurements of time share: both clocks, steps in turn, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

Times = NDArray[np.float64]
"""Seconds of the processor, and elapsed."""

Step = Callable[[], Any]


def now() -> Times:
    """Both clocks, once a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return np.array([time.process_time(), time.perf_counter()])


def in_order(model: nn.Module, order: torch.memory_format) -> nn.Module:
    """The model in a memory format."""
    return model.to(memory_format=order)  # type: ignore[call-overload]  # not in the stub


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor) -> Step:
    """A training step on one mini-batch, by a closure."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), targets)
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)  # type: ignore[arg-type]  # in the stub a float


def in_turn(steps: Mapping[str, Step], rounds: int, uncounted: int) -> dict[str, list[float]]:
    """Elapsed seconds of each step in each round, after some rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(uncounted + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: of[uncounted:] for name, of in seconds.items()}


def quartiles(values: ArrayLike, digits: int = 3) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [round(float(q), digits) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75))]


def ratio(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Of the ratio within rounds: the median, then the lower and the upper quartile."""
    low, middle, high = quartiles(np.divide(one, other))
    return [middle, low, high]
