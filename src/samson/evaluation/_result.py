"""The result of an evaluation: every trial, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samson._checks import is_number, require, require_number
from samson._shown import Shown, number_form
from samson.evaluation._layout import Layout
from samson.evaluation._metric import Metric, require_reachable
from samson.evaluation._metrics import METRICS
from samson.noise import Coverage
from samson.records import ChipKind, EvaluationRecord, Interval, Measured, Subject, replace_file, write_json
from samson.statistics import (
    CONFIDENCE,
    About,
    Stopping,
    betting_interval,
    share_interval,
    table_interval,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def rounding(values: Iterable[float]) -> float:
    """A rounding error of float32, in which most metrics compute, at the largest of these values."""
    return float(np.finfo(np.float32).eps) * max(map(abs, values))


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Shown):
    """What a metric is on simulated chips.

    Args:
        trials: One value a chip, in the order of the chips; accuracies are fractions.
        metric: What was measured; yield, worst chip and limits follow its direction.
        about: What the interval speaks of: other chips on these examples ("test_set"), or other chips on other
            examples of the same kind ("population").
        scores: Every example's score on every chip, booleans or float64 of shape (chips, examples), if the metric has
            one for each.
        confidence: Of the interval, over all looks at it.
        look_confidence: Of the interval as it was taken at the last look; larger than `confidence` after several.
        stopping: "betting" takes the interval that holds for any distribution.
        precision: The half-width that was asked for, if one was.
        layout: How the examples were put through the model.
        coverage: How much of the model lies on the chip; None if unknown.
        clean: The value without noise, in the same layout and precision; None if unknown.
        clean_scores: Every example's score without noise, if the metric has one for each.
        kind: The kind of chip; None if unknown.
        subject: What was measured, on what, and how; None in a part of another result, which has it.
    """

    trials: tuple[float, ...]
    metric: Metric = METRICS["accuracy"]
    about: About = "test_set"
    scores: NDArray[Any] | None = None
    confidence: float = CONFIDENCE
    look_confidence: float = CONFIDENCE
    stopping: Stopping = "looks"
    precision: float | None = None
    layout: Layout = field(default_factory=Layout)
    coverage: Coverage | None = None
    clean: float | None = None
    clean_scores: NDArray[Any] | None = None
    kind: ChipKind | None = None
    subject: Subject | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The smallest and largest possible value, if there are such."""
        return self.metric.bounds

    @property
    def examples(self) -> int | None:
        """Number of examples, if the metric has a value for each."""
        return None if self.scores is None else self.scores.shape[1]

    @property
    def mean(self) -> float:
        """The mean over chips."""
        return float(np.mean(self.trials))

    @cached_property
    def interval(self) -> Interval:
        """The mean with its interval, which has a width of 0 only where every value is 0.

        "test_set": `mean_interval` over chips. "population": over chips and examples, `crossed_share_interval` for
        right and wrong answers, else `crossed_interval`. It is cut off where the metric is bounded.
        """
        bounds, scores = self.metric.bounds, self.scores if self.about == "population" else None
        if scores is None and self.stopping == "betting" and bounds is not None:
            return betting_interval(self.trials, self.confidence, bounds).within(*bounds)
        table = np.array(self.trials) if scores is None else scores
        found = table_interval(table, self.look_confidence, resolution=self.resolution)
        return found.within(*(bounds or (-np.inf, np.inf)))

    @property
    def drop(self) -> Interval | None:
        """By how much chips are worse than without noise, in the mean, with its interval; None without `clean`.

        "test_set": that of `interval`, since the value without noise is a number. "population": `crossed_interval` of
        each example's difference, so that what it is without noise counts too; it is cut off at the largest difference
        that the metric's bounds allow.
        """
        if self.clean is None:
            return None
        sign = 1 if self.metric.higher_is_better else -1
        if self.about == "population" and self.scores is not None and self.clean_scores is not None:
            drops = sign * (self.clean_scores.astype(np.float64) - self.scores)
            low, high = self.metric.bounds or (-np.inf, np.inf)
            found = table_interval(drops, self.look_confidence, resolution=self.resolution)
            return found.within(low - high, high - low)
        ends = [sign * (self.clean - end) for end in (self.interval.mean, self.interval.low, self.interval.high)]
        return Interval(ends[0], *sorted(ends[1:]))

    @property
    def resolution(self) -> float:
        """The step between possible values of a trial: one answer, or a rounding error of float32."""
        if self.scores is not None and self.scores.dtype == np.bool_:
            return 1 / int(self.scores.shape[1])
        return rounding(self.metric.bounds or self.trials)

    @property
    def reached(self) -> bool:
        """Whether the interval is as narrow as asked for."""
        return self.precision is None or self.interval.half_width <= self.precision

    @property
    def std(self) -> float:
        """The standard deviation between chips, with n − 1."""
        return float(np.std(self.trials, ddof=1))

    @property
    def worst(self) -> float:
        """The value on the worst chip."""
        return min(self.trials) if self.metric.higher_is_better else max(self.trials)

    def quantile(self, probability: float | Sequence[float]) -> float | list[float]:
        """Quantiles over chips, by linear interpolation between them.

        Raises:
            ValueError: If a probability is not from 0 to 1.
        """
        inside = all(is_number(p) and 0 <= p <= 1 for p in np.ravel(probability))
        require(inside, "probability", "be from 0 to 1", probability)
        found: float | list[float] = np.quantile(self.trials, probability).tolist()
        return found

    def yield_at(self, value: float, confidence: float = CONFIDENCE) -> Interval:
        """The share of chips that are at least as good as a value, with its exact binomial interval.

        It is exact to a width of 0 where all chips are the same, as with `Quantize`.

        Raises:
            ValueError: If the value is larger than the metric can be, such as an accuracy of 95, or no number.

        Example:
            >>> Evaluation((0.9, 0.8, 0.95, 0.97)).yield_at(0.85).mean
            0.75
        """
        require_number("value", value)
        require_reachable("`value`", value, self.metric)
        slack = rounding([value])
        better = sum(t >= value - slack if self.metric.higher_is_better else t <= value + slack for t in self.trials)
        if self.kind is not None and self.kind.alike:
            return Interval(*[better / len(self.trials)] * 3)
        return share_interval(better, len(self.trials), confidence)

    def record(self) -> EvaluationRecord:
        """Every trial, and what follows from them.

        Raises:
            ValueError: If this is a part of another result.
        """
        if self.subject is None or self.kind is None or self.clean is None:
            raise ValueError(
                "`record` must be asked of what `evaluate` gives, but this evaluation is a part of another result, or "
                "made by hand. Ask that result."
            )
        measured = Measured(self.kind, self.trials, self.interval, self.worst)
        return EvaluationRecord(self.subject, self.clean, (measured,), self.precision)

    def table(self) -> list[dict[str, Any]]:
        """One row, for example for `pandas.DataFrame` (see that of the record)."""
        return self.record().table()

    def plot(self) -> Figure:
        """Every chip and the mean with its interval, as a figure of plotly.

        Raises:
            ImportError: If plotly, of the extra `cli`, is missing.
        """
        from samson.report import figure_of, level_figure

        return figure_of(level_figure(self.record()))

    def save(self, path: Path | str) -> None:
        """Write the record as JSON, which `samson.records.read_json(path, EvaluationRecord)` reads."""
        write_json(Path(path), self.record())

    def page(self, path: Path | str) -> None:
        """Write a page with table and plots in one HTML file, which opens offline."""
        from samson.report import evaluation_page

        replace_file(Path(path), evaluation_page(self.record()).encode())

    def __str__(self) -> str:
        i, drop = self.interval, self.drop
        form = number_form(i.low, i.high, self.worst, self.clean or 0.0)
        return (
            f"{self.metric.name} {i:{form}} ({100 * self.confidence:g}%, {len(self.trials)} chips, about the "
            f"{self.about.replace('_', ' ')}), worst {self.worst:{form}}"
            + ("" if drop is None else f"\n{self.clean:{form}} without noise; chips are worse by {drop:z{form}}")
            + ("" if self.kind is None else f"\nChips: {self.kind}")
            + ("" if self.coverage is None else f"\nOn the chip: {self.coverage}")
        )
