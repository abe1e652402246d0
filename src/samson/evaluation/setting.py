"""How trials are run: what every question about a model on chips has in common, checked before compute starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import nn

from samson.evaluation.data import Data, as_batches, check_pair
from samson.evaluation.executors import Executor, Serial
from samson.evaluation.layout import Layout
from samson.evaluation.metrics import Metric, as_metric
from samson.evaluation.scoring import device_of
from samson.evaluation.task import Task
from samson.noise import ChipModel, WeightNoise, on_chip
from samson.noise.periphery import Periphery
from samson.noise.selection import Select

Noise = WeightNoise | ChipModel


class Setting(TypedDict, total=False):
    """How trials are run: what `evaluate`, `compare`, `noise_budget` and `sensitivity` have in common.

    Attributes:
        metric: A name (see `METRICS`), an `ExampleMetric`, a `DataSetMetric`, or a metric of torchmetrics; "accuracy".
        seed: Seed of the set of chips, ≥ 0; chip 7 of seed 0 is the same whatever the number of trials.
        select: Which layers lie on the chip (see `samson.noise.on_chip`).
        read_block: Examples that are computed with one reading of the chip, ≥ 1, counted from the start of the data
            whatever the batches; None reads once for all.
        time_s: Seconds since the reference read at which the chips are read; None is the noise's own time.
        periphery: What surrounds the weights (see `samson.noise.deploy`).
        norm_data: Training or validation data from which batch-norm statistics are estimated anew on each chip at its
            time (see `samson.noise.reestimated_norms`); None keeps the model's own.
        layout: How examples are put through the model; None finds the fastest plain one, once (see `find_layout`).
        executor: Where trials run; None is this process. `Kept(folder)` goes on after an interruption.
    """

    metric: str | Metric | Any
    seed: int
    select: Select
    read_block: int | None
    time_s: float | None
    periphery: Periphery | None
    norm_data: Data | None
    layout: Layout | None
    executor: Executor | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A task that has been checked, with where it runs."""

    task: Task
    executor: Executor


def prepare(
    model: nn.Module,
    data: Data,
    noise: Noise,
    *,
    metric: str | Metric | Any = "accuracy",
    seed: int = 0,
    select: Select = None,
    read_block: int | None = None,
    time_s: float | None = None,
    periphery: Periphery | None = None,
    norm_data: Data | None = None,
    layout: Layout | None = None,
    executor: Executor | None = None,
) -> Prepared:
    """Check everything that can be checked before compute starts (see `Setting`)."""
    if read_block is not None and read_block < 1:
        raise ValueError(f"`read_block` must be ≥ 1, or None for one reading, got {read_block!r}.")
    if time_s is not None and not 0 <= time_s < math.inf:
        raise ValueError(f"`time_s` must be ≥ 0 and finite, or None for the noise's own time, got {time_s!r}.")
    if seed < 0:
        raise ValueError(f"`seed` must be ≥ 0, got {seed}.")
    if isinstance(noise, ChipModel):
        periphery, noise = periphery or noise.periphery, noise.noise
    known = as_metric(metric)
    check_pair(data)
    on_chip(model, select)
    executor = executor or Serial()
    if layout is not None and layout.autocast is not None and torch.is_autocast_enabled(device_of(model).type):
        raise ValueError(
            f"`layout` must not ask for {layout.autocast} inside a block of torch.autocast, where what that changes "
            "cannot be measured. Leave the block, or use layout.plain."
        )
    if layout is not None and layout.compiled and periphery is not None:
        raise ValueError(
            "`layout` must not be compiled with a periphery, which computes by hooks of its own on each chip. "
            "Use layout.plain, or `autocast` alone."
        )
    layout = layout or executor.layout(model, data)
    task = Task(
        model,
        layout.batches(data),
        noise,
        known,
        seed,
        layout,
        select,
        read_block,
        time_s,
        periphery,
        None if norm_data is None else as_batches(norm_data),
    )
    return Prepared(task, executor)
