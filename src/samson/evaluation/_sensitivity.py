"""Which layers lose the accuracy: noise on one layer at a time, and on all but one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
from torch import nn

from samson._batches import Examples
from samson._checks import is_number, require_between, require_whole
from samson._select import DEFAULT, entries
from samson.evaluation._layers import Layer, PartsTask, layers_on_chip
from samson.evaluation._metric import require_possible
from samson.evaluation._question import TRIALS
from samson.evaluation._result import rounding
from samson.evaluation._scoring import Scores, value_of
from samson.evaluation._sensitivity_result import Attempt, Sensitivity, Suggestion
from samson.evaluation._setting import Noise, Prepared, Setting, prepare, takes_setting
from samson.evaluation._subject import kind_of, subject_of
from samson.evaluation._trials import Progress
from samson.records import Interval, LayerRecord
from samson.statistics import CONFIDENCE, mean_interval


@takes_setting
def sensitivity(
    model: nn.Module,
    data: Examples,
    noise: Noise,
    *,
    trials: int = TRIALS,
    max_drop: float | None = None,
    confidence: float = CONFIDENCE,
    progress: Callable[[Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Sensitivity:
    """Rank the layers of a model by what noise on them costs, and suggest which to keep digital.

    On every chip the model is run with noise on all layers, on each one alone and on all but each one. A layer has the
    same errors in each of these, so differences are paired. Values are those of `evaluate` with `select` naming the
    layers, bit for bit.

    With `max_drop`, layers are then added to the digital ones, by their drop and by their gain, and each set is
    measured on the chips of the ranking until the upper end of its drop's interval is at most `max_drop`. The first set
    to reach it, with the fewest weights if both orders do, is then measured on as many other chips, which chose
    nothing. All of it is on these examples: confirm it on others.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        noise: As for `evaluate`.
        trials: Number of chips, at least 2.
        max_drop: How much worse than without noise the metric may be, > 0; accuracies are fractions. None suggests
            nothing.
        confidence: That all intervals of the ranking hold together, between 0 and 1; of each interval of a suggestion.
        progress: Called after each chip. With L layers a chip of the ranking takes 2L + 1 passes over the data, and one
            of a set a single pass; the count goes on from set to set, to at most 2L times `trials` chips.
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
    require_whole(2, trials=trials)
    require_between(0, 1, confidence=confidence)
    if max_drop is not None and not (is_number(max_drop) and 0 < max_drop < math.inf):
        raise ValueError(
            f"`max_drop` must be > 0 and finite, in the metric's unit (accuracies are fractions), got {max_drop!r}."
        )
    prepared = prepare(model, data, noise, **setting)
    if max_drop is not None:
        require_possible(max_drop, prepared.task.metric)
    layers = tuple(layers_on_chip(model, prepared.task.select))
    if len(layers) < 2:
        raise ValueError(
            f"`select` must leave at least 2 layers on the chip to rank, got only `{layers[0].name}`: with that one "
            "digital there is no noise. Its drop is what `evaluate` measures."
        )
    clean, covered = prepared.clean()
    largest = trials if max_drop is None else 2 * len(layers) * trials
    analysis = _Analysis(prepared, layers, clean, trials, progress, largest, itertools.count(1))
    each = tuple((layer,) for layer in layers)
    others_of = tuple(tuple(other for other in layers if other != layer) for layer in layers)
    noisy, *parts = analysis.values((layers, *each, *others_of), "layers", range(trials))
    level = 1 - (1 - confidence) / (2 * len(layers) + 1)
    rows = [
        LayerRecord(
            layer.name,
            layer.weights,
            alone,
            others,
            drop=analysis.drop(alone, level),
            gain=analysis.gain(others, noisy, level),
        )
        for layer, alone, others in zip(layers, parts[: len(layers)], parts[len(layers) :], strict=True)
    ]
    ranked = tuple(sorted(rows, key=lambda row: -row.drop.mean))
    found = Sensitivity(
        ranked,
        value_of(clean),
        noisy,
        analysis.drop(noisy, level),
        None if isinstance(clean, float) else len(clean),
        confidence,
        prepared.task.metric,
        prepared.task.layout,
        covered,
        kind_of(prepared.task),
        None if max_drop is None else _suggest(analysis, ranked, noisy, max_drop, confidence),
    )
    return replace(found, subject=subject_of(found, model, data, setting))


@dataclass(frozen=True, eq=False)
class _Analysis:
    """What is measured, and how its values become drops and gains: positive where worse, or better, than without."""

    prepared: Prepared
    layers: tuple[Layer, ...]
    clean: Scores
    trials: int
    progress: Callable[[Progress], None] | None
    largest: int
    chips: Iterator[int]

    def values(self, parts: tuple[tuple[Layer, ...], ...], name: str, numbers: range) -> list[tuple[float, ...]]:
        """The metric on the chips of these numbers, with noise on each part."""
        task, found = PartsTask(**vars(self.prepared.task), parts=parts), []
        for rows in self.prepared.executor.named(name).run(task, numbers):
            found.append(np.asarray(rows).tolist())
            if self.progress is not None:
                done = next(self.chips)
                self.progress(Progress(done, done + len(numbers) - len(found), self.largest, None))
        return list(zip(*found, strict=True))

    def drop(self, values: Sequence[float], confidence: float) -> Interval:
        """By how much the metric is worse on chips than without noise, cut off where the metric is bounded."""
        clean = value_of(self.clean)
        drops = [self._sign * (clean - value) for value in values]
        least, most = sorted(self._sign * (clean - bound) for bound in self._bounds)
        return mean_interval(drops, confidence, resolution=self._step(values)).within(least, most)

    def gain(self, values: Sequence[float], noisy: Sequence[float], confidence: float) -> Interval:
        """By how much the metric is better than with noise on all, chip by chip."""
        gains = [self._sign * (value - other) for value, other in zip(values, noisy, strict=True)]
        low, high = self._bounds
        return mean_interval(gains, confidence, resolution=self._step(values)).within(low - high, high - low)

    @property
    def _bounds(self) -> tuple[float, float]:
        return self.prepared.task.metric.bounds or (-math.inf, math.inf)

    @property
    def _sign(self) -> int:
        return 1 if self.prepared.task.metric.higher_is_better else -1

    def _step(self, values: Sequence[float]) -> float:
        """The step between possible values (see `Evaluation.resolution`)."""
        if isinstance(self.clean, np.ndarray) and self.clean.dtype == np.bool_:
            return 1 / len(self.clean)
        return rounding([*values, value_of(self.clean)])


def _suggest(
    analysis: _Analysis, rows: Sequence[LayerRecord], noisy: Sequence[float], max_drop: float, confidence: float
) -> Suggestion:
    """Choose a set of layers by measuring, and measure it again on other chips."""
    everything, trials = analysis.layers, analysis.trials
    named = {layer.name: layer for layer in everything}
    by_gain = sorted(rows, key=lambda row: -row.gain.mean)
    orders = [[named[row.name] for row in order] for order in (rows, by_gain)]

    def drop(digital: Sequence[Layer], numbers: range) -> Interval:
        rest = tuple(layer for layer in everything if layer not in digital)
        if not rest:
            return Interval(0.0, 0.0, 0.0)
        name = "digital-" + "-".join(str(everything.index(layer)) for layer in digital)
        [values] = analysis.values((rest,), name, numbers)
        return analysis.drop(values, confidence)

    attempts = [Attempt((), analysis.drop(noisy, confidence))]
    reached = [attempt for attempt in attempts if attempt.drop.high <= max_drop]
    for size in range(1, len(everything) + 1):
        if reached:
            break
        sets = {frozenset(order[:size]): tuple(order[:size]) for order in orders}
        latest = [Attempt(digital, drop(digital, range(trials))) for digital in sets.values()]
        attempts += latest
        reached = [attempt for attempt in latest if attempt.drop.high <= max_drop]
    chosen = min(reached, key=lambda attempt: attempt.weights)
    select = analysis.prepared.task.select
    whole = [DEFAULT] if select is None else entries(select)
    return Suggestion(
        chosen,
        drop(chosen.digital, range(trials, 2 * trials)),
        float(max_drop),
        chosen.weights / sum(layer.weights for layer in everything),
        tuple(attempts),
        trials,
        confidence,
        [*whole, *(f"!{name or layer.tensors[0]}" for layer in chosen.digital for name in layer.users)],
    )
