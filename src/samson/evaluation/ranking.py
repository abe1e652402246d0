"""The result of a sensitivity analysis: layers by what noise on them costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samson.evaluation.checking import Check
from samson.evaluation.executors import Executor
from samson.evaluation.layers import Layer, LayersTask
from samson.evaluation.metrics import Metric
from samson.evaluation.scoring import Scores, value_of
from samson.evaluation.statistics import Interval, mean_interval
from samson.evaluation.trials import Progress
from samson.records import Environment, Estimate, LayerRecord, SensitivityRecord

if TYPE_CHECKING:
    from samson.evaluation.digital import Suggestion


@dataclass(frozen=True)
class LayerRow:
    """What noise on one layer costs, and what keeping it digital brings back.

    Args:
        layer: The layer.
        alone: The metric with noise on this layer alone, one value a chip.
        others: The metric with noise on all layers but this one, on the same chips.
        drop: By how much noise on this layer alone makes the metric worse than without noise.
        gain: By how much the metric is better with this layer digital than with noise on all, chip by chip.
    """

    layer: Layer
    alone: tuple[float, ...]
    others: tuple[float, ...]
    drop: Interval
    gain: Interval

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What noise on each layer costs, for other chips and these examples.

    Args:
        rows: The layers, the largest drop first.
        clean: The metric without noise.
        noisy: The metric with noise on all layers, one value a chip.
        drop: By how much noise on all layers makes the metric worse.
        examples: Number of examples, if the metric has a value for each.
        confidence: That all intervals hold together, between 0 and 1.
        not_reused: Why every pass was computed in full, if so.
        task: What was run.
        executor: Where.
        check: What a lower precision or compiling changed, with noise on all layers; None where neither was used.
    """

    rows: tuple[LayerRow, ...]
    clean: float
    noisy: tuple[float, ...]
    drop: Interval
    examples: int | None
    confidence: float
    not_reused: str | None
    task: LayersTask = field(repr=False)
    executor: Executor = field(repr=False)
    check: Check | None = None

    @property
    def metric(self) -> Metric:
        """What was measured."""
        return self.task.metric

    @property
    def intervals(self) -> int:
        """How many intervals are shown together: two a layer, and that of noise on all."""
        return 2 * len(self.rows) + 1

    def keep_digital(self, max_drop: float, *, progress: Callable[[Progress], None] | None = None) -> Suggestion:
        """Suggest which layers to keep digital so that the rest of the noise costs little.

        Layers are added one after the other, by their drop and by their gain, and each set is measured on the chips of
        this ranking until the upper end of its drop's interval is at most `max_drop`. The first set to reach it, with
        the fewest weights if both orders do, is then measured on as many other chips, which chose nothing. All of it
        is on these examples: confirm it on others.

        Args:
            max_drop: How much worse than without noise the metric may be, > 0; accuracies are fractions.
            progress: Called after each chip.

        Raises:
            ValueError: If `max_drop` is not above 0.
        """
        from samson.evaluation.digital import suggest

        return suggest(self, max_drop, progress)

    def record(
        self,
        *,
        network: str,
        data: str,
        environment: Environment,
        finished: str,
        suggestion: Suggestion | None = None,
    ) -> SensitivityRecord:
        """All of it as a record, for files and reports (see `SensitivityRecord` for the arguments)."""
        return SensitivityRecord(
            network=network,
            data=data,
            examples=self.examples,
            noise=repr(self.task.noise),
            metric=self.metric.name,
            higher_is_better=self.metric.higher_is_better,
            is_fraction=self.metric.bounds == (0, 1),
            seed=self.task.seed,
            confidence=self.confidence,
            clean=self.clean,
            noisy=self.noisy,
            drop=as_estimate(self.drop),
            rows=tuple(
                LayerRecord(r.name, r.layer.weights, r.alone, r.others, as_estimate(r.drop), as_estimate(r.gain))
                for r in self.rows
            ),
            suggestion=None if suggestion is None else suggestion.record(),
            environment=environment,
            finished=finished,
            autocast=self.task.layout.autocast,
            batch_size=self.task.layout.batch_size,
            channels_last=self.task.layout.channels_last,
            compiled=self.task.layout.compiled,
            check=None if self.check is None else self.check.record(),
        )

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        alone, digital = "drop with noise on it alone", "gain if it alone is digital"
        lines = [
            f"{self.metric.name}: {self.clean:.4f} without noise, {np.mean(self.noisy):.4f} with noise on all "
            f"{len(self.rows)} layers, a drop of {_shown(self.drop)}",
            f"{'layer':{width}}  {'weights':>9}  {alone:27}  {digital:27}",
            *(
                f"{row.name:{width}}  {row.layer.weights:9,}  {_shown(row.drop):27}  {_shown(row.gain):27}"
                for row in self.rows
            ),
            f"{len(self.noisy)} chips, the same for every row; the {self.intervals} intervals hold together with "
            f"{self.confidence:.0%} (Bonferroni), for other chips and these examples",
            *([] if self.check is None else [str(self.check)]),
        ]
        return "\n".join(line.rstrip() for line in lines)


def drop_interval(values: Sequence[float], clean: Scores, metric: Metric, confidence: float) -> Interval:
    """By how much a metric is worse on chips than without noise, positive where it is worse.

    Args:
        values: One a chip.
        clean: The scores without noise, on the same examples.
        metric: What was measured.
        confidence: Of the interval, between 0 and 1.
    """
    sign = 1 if metric.higher_is_better else -1
    reference = value_of(clean)
    drops = [sign * (reference - value) for value in values]
    return mean_interval(drops, confidence, resolution=resolution_of(values, clean))


def gain_interval(
    values: Sequence[float], noisy: Sequence[float], clean: Scores, metric: Metric, confidence: float
) -> Interval:
    """By how much a metric is better than with noise on all, chip by chip."""
    sign = 1 if metric.higher_is_better else -1
    gains = [sign * (value - other) for value, other in zip(values, noisy, strict=True)]
    return mean_interval(gains, confidence, resolution=resolution_of(values, clean))


def resolution_of(values: Sequence[float], clean: Scores) -> float:
    """The step between possible values (see `Evaluation.resolution`)."""
    if isinstance(clean, np.ndarray) and clean.dtype == np.bool_:
        return 1 / len(clean)
    return float(np.finfo(np.float32).eps) * max(map(abs, [*values, value_of(clean)]))


def _shown(interval: Interval) -> str:
    return f"{interval.mean:+z.4f} [{interval.low:+z.4f}, {interval.high:+z.4f}]"


def as_estimate(interval: Interval) -> Estimate:
    """An interval as records hold it."""
    return Estimate(interval.mean, interval.low, interval.high)
