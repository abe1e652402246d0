"""The parts of a problem, tried together before any training: network, data, task, methods and chips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from samson._errors import SetupError, reason, require
from samson.evaluation import ExampleMetric, Noise, NotFiniteError, clean_value
from samson.experiments._chips import Chips
from samson.experiments._networks import make_network
from samson.experiments._plan import PlannedProblem
from samson.experiments._tasks import in_float32, make_task
from samson.experiments.data import Splits
from samson.noise import ChipModel, deploy, on_chip


def try_together(problem: PlannedProblem, splits: Splits, families: Sequence[Chips]) -> None:
    """Put two examples through the network, and make every optimizer, as a training would."""
    record = problem.record
    model = make_network(record.network, splits.shape, splits.outputs, seed=0)
    inputs, targets = _two(splits)
    ours = record.trainer == "samson"
    lazy = any(map(is_lazy, model.state_dict(keep_vars=True).values()))
    mend = "Take layers that are not lazy, or put an example through it before it is returned."
    require(not (ours and lazy), "`network`", "of layers that know their sizes", record.network, mend)
    outputs, task = None, make_task(record.task)
    try:
        with torch.no_grad():
            outputs = model.eval()(inputs)
            if ours:
                loss = task.loss(in_float32(outputs), targets, problem.recipe.label_smoothing)
            else:
                loss = task.loss(outputs, targets)
    except Exception as error:  # whatever a network, or a task of one's own, may raise
        if outputs is not None and ":" in record.task:
            raise SetupError(
                f"the loss of the task {record.task!r} with the network {record.network!r} raised {reason(error)}\n"
                "Mend it, or the outputs."
            ) from error
        tokens = " Whole numbers are tokens: give measurements as floats." if inputs.dtype == torch.int64 else ""
        raise SetupError(
            f"`network` {record.network!r} cannot be trained on {record.data!r}, whose examples are of shape "
            f"{splits.shape}: {reason(error)}\n"
            f"Take a network, or a task, for such data.{tokens}"
        ) from error
    shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
    mend = "Return its mean, as a tensor."
    require(not ours or shape == (), f"the loss of the task {record.task!r}", "a tensor of shape ()", shape, mend)
    _try_metric(problem, model, inputs, outputs, targets)
    try:
        on_chip(model, problem.select)
    except ValueError as error:
        raise SetupError(f"`select` with the network {record.network!r}: {error}") from error
    _try_methods(problem, model, inputs)
    for family in families:
        for kind in family.kinds:
            try:
                with torch.no_grad(), deploy(model, _bounded(kind.noise), select=problem.select).at(kind.time_s):
                    model(inputs)
            except Exception as error:  # whatever a noise of one's own may raise
                raise SetupError(
                    f"chips: {kind.label} cannot carry the network {record.network!r}: {reason(error)}\n"
                    "Take other chips, or other times."
                ) from error


def _try_metric(problem: PlannedProblem, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor) -> None:
    """Look for what would fail after the training; two equal examples need not have a value for a data set."""
    record, metric = problem.record, problem.metric
    try:
        if isinstance(metric, ExampleMetric):
            clean_value(model, (inputs, targets), metric)
        elif isinstance(outputs, Tensor):  # of a dictionary, a metric may take the logits
            metric.fresh(inputs.device).update(in_float32(outputs), targets)
    except NotFiniteError:  # a training may mend it
        pass
    except Exception as error:  # whatever a metric of one's own may raise
        raise SetupError(
            f"`metric` {metric.name!r} of the task {record.task!r} cannot judge the network {record.network!r}: "
            f"{reason(error)}\nMend it, or the outputs."
        ) from error


def _try_methods(problem: PlannedProblem, model: nn.Module, inputs: Tensor) -> None:
    record = problem.record
    for method in problem.methods:
        if method.distils:
            suits = record.trainer == "samson" and record.task in ("classification", "language")
            mend = "Leave it out, or write a trainer of your own that distils."
            require(
                suits, "`methods`", "without distillation but for classes, in our own training loop", method.name, mend
            )
        for choice in method.grid():
            try:
                built = method.with_settings(choice).build(model, data=[(inputs,)])
                if built.through is not None:
                    built.through.remove()
            except SetupError:
                raise
            except Exception as error:  # whatever a method of one's own may raise
                raise SetupError(
                    f"`methods` {method.name} with the network {record.network!r} raised {reason(error)}\n"
                    "Mend it, or its settings."
                ) from error


def _bounded(noise: Noise) -> Noise:
    """The chip with any bound of its ADCs where theirs is yet to be calibrated."""
    if not isinstance(noise, ChipModel) or noise.periphery is None or not noise.periphery.lacks_bounds:
        return noise
    around = dataclasses.replace(noise.periphery, adc_bound=1.0)
    return dataclasses.replace(noise, periphery=around)


def _two(splits: Splits) -> tuple[Tensor, Tensor]:
    """A training example, twice: a network may want more than one."""
    (inputs, targets) = next(splits.batches(1, seed=0, epoch=0, device="cpu", augment=(), workers=0))
    return torch.cat([inputs, inputs]), torch.cat([targets, targets])
