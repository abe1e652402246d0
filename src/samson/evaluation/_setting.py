"""How trials are run: what every question about a model on chips has in common, checked before compute starts."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypedDict, TypeVar

import torch
from torch import nn

from samson._batches import Examples, batches_of, is_cast, replacing, require_module
from samson._checks import is_number, require, require_whole
from samson._names import suggestion
from samson.evaluation._layout import Layout
from samson.evaluation._metric import Metric
from samson.evaluation._metrics import as_metric
from samson.evaluation._scoring import Scores, device_of
from samson.evaluation._task import Task
from samson.evaluation.executors import Executor, Serial
from samson.noise import ChipModel, Coverage, Periphery, Select, WeightNoise, coverage

Noise = WeightNoise | ChipModel
"""What a model can be put on: noise of its weights, or a whole chip."""
PRECISIONS = ("bfloat16", "float16")
"""Lower precisions in which a model can be run."""

_FLOATS = torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.complex128

P = ParamSpec("P")
T = TypeVar("T")


class Setting(TypedDict, total=False):
    """How trials are run: what `evaluate`, `compare`, `noise_budget` and `sensitivity` have in common.

    Attributes:
        metric: A name (see `METRICS`), an `ExampleMetric`, a `DataSetMetric`, or a metric of torchmetrics; "accuracy".
            It sees outputs and targets, alone or in tuples, lists and dicts, in at least float32.
        seed: Seed of the set of chips, ≥ 0; chip 7 of seed 0 is the same whatever the number of trials.
        select: Which layers lie on the chip (see `samson.noise.on_chip`).
        read_block: Examples that are computed with one reading of the chip, ≥ 1, counted from the start of the data
            whatever the batches; None reads once for all.
        time_s: Seconds since the reference read at which the chips are read; None is the noise's own time.
        periphery: What surrounds the weights (see `samson.noise.deploy`).
        norm_data: Training or validation data from which batch-norm statistics are estimated anew on each chip at its
            time (see `samson.noise.reestimated_norms`); None keeps the model's own.
        autocast: "bfloat16" or "float16" runs the model under `torch.autocast`, the pass without noise too. None leaves
            the model as it is.
        layout: How examples are put through the model; None is the model's default (see `Layout.of`).
        executor: Where trials run; None is this process. `Kept(folder)` goes on after an interruption.
    """

    metric: str | Metric | Any
    seed: int
    select: Select
    read_block: int | None
    time_s: float | None
    periphery: Periphery | None
    norm_data: Examples | None
    autocast: str | None
    layout: Layout | None
    executor: Executor | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A task that has been checked, with where it runs and how much of the model lies on the chip."""

    task: Task
    executor: Executor
    coverage: Coverage

    def clean(self) -> WithoutNoise:
        """What a pass without noise says, computed once for all processes."""
        scores, multiply_adds = self.executor.broadcast(self.task.clean)
        return WithoutNoise(scores, replace(self.coverage, multiply_adds=multiply_adds))


class WithoutNoise(NamedTuple):
    """What a pass without noise says: its scores, and how much of the model lies on the chip."""

    scores: Scores
    coverage: Coverage


def prepare(
    model: nn.Module,
    data: Examples,
    noise: Noise,
    *,
    metric: str | Metric | Any = "accuracy",
    seed: int = 0,
    select: Select = None,
    read_block: int | None = None,
    time_s: float | None = None,
    periphery: Periphery | None = None,
    norm_data: Examples | None = None,
    autocast: str | None = None,
    layout: Layout | None = None,
    executor: Executor | None = None,
) -> Prepared:
    """Check everything that can be checked before compute starts (see `Setting`)."""
    require_module(model)
    require_whole(0, seed=seed)
    if read_block is not None:
        require_whole(1, read_block=read_block)
    require(
        time_s is None or (is_number(time_s) and 0 <= time_s < math.inf),
        "time_s",
        "be ≥ 0 and finite, or None for the noise's own time",
        time_s,
    )
    for name, value, kinds, example in (
        ("noise", noise, WeightNoise | ChipModel, "a noise or a kind of chip, such as Gaussian(0.1) or preset('pcm')"),
        ("periphery", periphery, Periphery | None, "a Periphery"),
        ("layout", layout, Layout | None, "a Layout"),
        ("executor", executor, Executor | None, "an executor, such as Kept(folder)"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"`{name}` must be {example}, got {value!r:.80}.")
    if autocast is not None and autocast not in PRECISIONS:
        hint = suggestion(str(autocast), PRECISIONS)
        raise ValueError(f"`autocast` must be a lower precision, or None, got {autocast!r}. {hint}")
    known = as_metric(metric)
    _require_weights(model)
    covered = coverage(model, select)
    if select is None and covered.share < 0.5:
        warnings.warn(
            f"Only {covered.share:.0%} of the model's weights lie on the chip: the result says little about a chip "
            "that holds them all. `describe(model)` lists them; `select` puts others on it, or says that these are "
            "meant.",
            stacklevel=4,
        )
    if autocast is None and is_cast(model):
        warnings.warn(
            "`model` computes in Accelerate's mixed precision on chips too, and the record does not say so. After "
            "training take `samson.integrations.accelerate.unwrapped(model)`.",
            stacklevel=4,
        )
    if autocast is None and torch.is_autocast_enabled(device_of(model).type):
        warnings.warn(
            "`model` computes in the lower precision of a block of `torch.autocast` on chips too, and the record does "
            "not say so. Leave that block, and give it as `autocast`.",
            stacklevel=4,
        )
    sampler = replacing(data)
    if sampler is not None:
        warnings.warn(
            f"`data` draws examples with replacement, by a {sampler}: values are of what it draws, and not of the data "
            "set. Give a loader without a sampler.",
            stacklevel=4,
        )
    layout = layout or Layout.of(model, data)
    of_weights, around = parts_of(noise, periphery)
    task = Task(
        model,
        layout.batches(data),
        of_weights,
        known,
        seed,
        layout,
        select,
        read_block,
        time_s,
        around,
        None if norm_data is None else batches_of(norm_data, name="norm_data"),
        autocast,
    )
    return Prepared(task, executor or Serial(), covered)


def parts_of(noise: Noise, periphery: Periphery | None = None) -> tuple[WeightNoise, Periphery | None]:
    """What the hardware does to a weight, and what surrounds it: what was asked for, else that of the whole chip."""
    if isinstance(noise, ChipModel):
        return noise.noise, periphery or noise.periphery
    return noise, periphery


def _require_weights(model: nn.Module) -> None:
    """Refuse weights that are not here, or are no numbers."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            continue  # what lies on the chip is said to need a shape
        if parameter.is_meta:
            raise ValueError(
                f"`model` must hold its weights, but `{name}` is on the meta device: it was never loaded, or is "
                "offloaded. Load the weights onto one device first."
            )
        local = getattr(parameter, "_local_tensor", parameter)  # of a sharded one
        if type(local.data) is not torch.Tensor:
            continue  # a quantised one may know no such question; on the chip it is refused
        if local.dtype in _FLOATS and not local.detach().isfinite().all():
            raise ValueError(
                f"`model` must have finite weights, got NaN or infinity in `{name}`. Load a checkpoint of before its "
                "training diverged."
            )


def takes_setting(function: Callable[P, T]) -> Callable[P, T]:
    """Show the keywords of `Setting` in the signature of a function that hands them on, with their defaults.

    A misspelt keyword is a TypeError that names the nearest one.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    shared = [p for p in inspect.signature(prepare).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = [p.name for p in (*own, *shared)]

    @wraps(function)
    def checked(*args: P.args, **keywords: P.kwargs) -> T:
        for name in keywords:
            if name not in known:
                raise TypeError(f"`{function.__name__}` has no argument {name!r}. {suggestion(name, known)}")
        return function(*args, **keywords)

    checked.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return checked
