"""Which layers lose the accuracy: noise on one layer at a time, and on all but one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
from torch import nn

from samson.evaluation.checking import checked
from samson.evaluation.data import Data
from samson.evaluation.layers import LayersTask, layers_on_chip
from samson.evaluation.ranking import LayerRow, Sensitivity, drop_interval, gain_interval, resolution_of
from samson.evaluation.replay import hindrance
from samson.evaluation.scoring import value_of
from samson.evaluation.setting import Noise, Setting, prepare
from samson.evaluation.statistics import CONFIDENCE
from samson.evaluation.task import Task
from samson.evaluation.trials import TRIALS, Progress


def sensitivity(
    model: nn.Module,
    data: Data,
    noise: Noise,
    *,
    trials: int = TRIALS,
    confidence: float = CONFIDENCE,
    reuse: bool = True,
    progress: Callable[[Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Sensitivity:
    """Rank the layers of a model by what noise on them costs.

    On every chip the model is run with noise on all layers, on each one alone and on all but each one. A layer has the
    same errors in each of these, so differences are paired. Values are those of `evaluate` with `select` naming the
    layers, bit for bit.

    With a layout in lower precision or compiled, `check` of the result compares noise on all layers with the plain
    model (see `Check`); values for one layer are not checked by themselves.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        noise: As for `evaluate`.
        trials: Number of chips, at least 2.
        confidence: That all intervals hold together, between 0 and 1.
        reuse: Whether what a pass has in common with the one without noise, or with noise on all, is computed once.
            That needs the memory of one batch's activations, and a model in which modules have no other influence on
            each other than tensors. It is not done for models with hooks, compiled or wrapped ones, computed weights,
            a compiled layout, or a periphery; `not_reused` of the result says so.
        progress: Called after each chip.
        setting: As for `evaluate` (see `Setting`).

    Raises:
        ValueError: If an argument is out of range, or there are fewer than two layers on the chip; or as for
            `evaluate`.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> found = sensitivity(model, data, Gaussian(0.1), trials=5)
        >>> sorted(row.name for row in found.rows)
        ['0', '2']
    """
    if trials < 2:
        raise ValueError(f"`trials` must be at least 2 for an interval, got {trials}.")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence!r}.")
    prepared = prepare(model, data, noise, **setting)
    layers = layers_on_chip(model, prepared.task.select)
    if len(layers) < 2:
        raise ValueError(
            f"`select` must leave at least 2 layers on the chip to rank, got only `{layers[0].name}`: with that one "
            "digital there is no noise. Its drop is what `evaluate` measures."
        )
    not_reused = _why_not(prepared.task, reuse)
    task = LayersTask(**vars(prepared.task), layers=tuple(layers), reuse=not_reused is None)
    clean = task.clean()
    values: list[list[float]] = []
    for rows in prepared.executor.run(task, range(trials)):
        assert isinstance(rows, np.ndarray)
        values.append([float(value_of(row)) for row in rows])
        if progress is not None:
            progress(Progress(len(values), trials, trials, None))
    noisy, *parts = (tuple(column) for column in zip(*values, strict=True))
    level = 1 - (1 - confidence) / (2 * len(layers) + 1)
    found = [
        LayerRow(
            layer,
            alone,
            others,
            drop_interval(alone, clean, task.metric, level),
            gain_interval(others, noisy, clean, task.metric, level),
        )
        for layer, alone, others in zip(layers, parts[: len(layers)], parts[len(layers) :], strict=True)
    ]
    drop = drop_interval(noisy, clean, task.metric, level)
    check = checked(
        prepared.task,
        prepared.executor,
        noisy,
        drop,
        resolution=resolution_of(noisy, clean),
        confidence=confidence,
    )
    ranked = tuple(sorted(found, key=lambda row: -row.drop.mean))
    return Sensitivity(
        ranked,
        value_of(clean),
        noisy,
        drop,
        None if isinstance(clean, float) else len(clean),
        confidence,
        not_reused,
        task,
        prepared.executor,
        check,
    )


def _why_not(task: Task, reuse: bool) -> str | None:
    if not reuse:
        return "it was not asked for"
    if task.norm_batches is not None:
        return "batch norm is estimated anew for each set of layers"
    if task.layout.compiled:
        return "the layout is compiled"
    return "a periphery draws for each product" if task.periphery is not None else hindrance(task.model)
