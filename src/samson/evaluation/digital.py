"""Which layers to keep digital so that noise on the others costs little: chosen on some chips, confirmed on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from samson.evaluation.layers import Layer, PartTask
from samson.evaluation.ranking import Sensitivity, as_estimate, drop_interval
from samson.evaluation.scoring import Scores, value_of
from samson.evaluation.statistics import Interval
from samson.evaluation.task import Task
from samson.evaluation.trials import Progress
from samson.records import SuggestionRecord


@dataclass(frozen=True)
class Attempt:
    """A set of layers that was measured with the others on chips.

    Args:
        digital: The layers that were digital, in the order in which they were added.
        drop: By how much the metric was worse than without noise, on the chips that choose.
    """

    digital: tuple[Layer, ...]
    drop: Interval

    @property
    def weights(self) -> int:
        """Number of weights that were digital."""
        return sum(layer.weights for layer in self.digital)


@dataclass(frozen=True)
class Suggestion:
    """Layers to keep digital, for a drop that is allowed.

    Args:
        chosen: The set that was chosen.
        confirmed: Its drop on as many other chips, with interval.
        max_drop: The drop that is allowed.
        share: Share of the weights that are then digital, of those that were on the chip.
        attempts: All sets that were measured on the chips that choose.
        trials: Number of chips that chose, and of others that confirmed.
        confidence: Of each interval.
    """

    chosen: Attempt
    confirmed: Interval
    max_drop: float
    share: float
    attempts: tuple[Attempt, ...]
    trials: int
    confidence: float

    @property
    def digital(self) -> tuple[str, ...]:
        """Names of the layers to keep digital, in the order in which they were added."""
        return tuple(layer.name for layer in self.chosen.digital)

    @property
    def holds(self) -> bool:
        """Whether the upper end of the drop's interval is within the limit on the other chips too."""
        return self.confirmed.high <= self.max_drop

    def record(self) -> SuggestionRecord:
        """The suggestion as a record."""
        return SuggestionRecord(
            self.max_drop,
            self.digital,
            self.share,
            as_estimate(self.chosen.drop),
            as_estimate(self.confirmed),
            len(self.attempts),
            self.confidence,
        )

    def __str__(self) -> str:
        names = ", ".join(self.digital) or "none"
        c = self.confirmed
        return (
            f"keep digital: {names} ({self.share:.1%} of the weights on the chip)\n"
            f"drop {c.mean:.4f} [{c.low:.4f}, {c.high:.4f}] ({self.confidence:.0%}) on {self.trials} chips that did "
            f"not choose, {'within' if self.holds else 'NOT shown to be within'} the {self.max_drop:g} allowed\n"
            f"chosen among {len(self.attempts)} sets on {self.trials} other chips, where its drop was "
            f"{self.chosen.drop.mean:.4f}; all on the same examples: confirm it on others"
        )


def suggest(found: Sensitivity, max_drop: float, progress: Callable[[Progress], None] | None = None) -> Suggestion:
    """Choose a set by measuring, and measure it again (see `Sensitivity.keep_digital`)."""
    if not 0 < max_drop < math.inf:
        raise ValueError(
            f"`max_drop` must be > 0 and finite, in the metric's unit (accuracies are fractions), got {max_drop!r}."
        )
    trials, everything = len(found.noisy), found.task.layers
    clean = found.task.clean()
    orders = [
        [row.layer for row in sorted(found.rows, key=lambda row: -row.drop.mean)],
        [row.layer for row in sorted(found.rows, key=lambda row: -row.gain.mean)],
    ]

    def drop(digital: Sequence[Layer], numbers: range) -> Interval:
        noisy = tuple(layer for layer in everything if layer not in digital)
        if not noisy:
            return Interval(0.0, 0.0, 0.0)
        task = PartTask(**{name: vars(found.task)[name] for name in Task.__dataclass_fields__}, noisy=noisy)
        values = _values(found.executor.run(task, numbers), len(numbers), progress)
        return drop_interval(values, clean, task.metric, found.confidence)

    attempts = [Attempt((), drop_interval(found.noisy, clean, found.metric, found.confidence))]
    reached = [attempt for attempt in attempts if attempt.drop.high <= max_drop]
    for size in range(1, len(everything) + 1):
        if reached:
            break
        sets = {frozenset(order[:size]): tuple(order[:size]) for order in orders}
        latest = [Attempt(digital, drop(digital, range(trials))) for digital in sets.values()]
        attempts += latest
        reached = [attempt for attempt in latest if attempt.drop.high <= max_drop]
    chosen = min(reached, key=lambda attempt: attempt.weights)
    return Suggestion(
        chosen,
        drop(chosen.digital, range(trials, 2 * trials)),
        float(max_drop),
        chosen.weights / sum(layer.weights for layer in everything),
        tuple(attempts),
        trials,
        found.confidence,
    )


def _values(rows: Iterable[Scores], planned: int, progress: Callable[[Progress], None] | None) -> list[float]:
    values: list[float] = []
    for row in rows:
        values.append(value_of(row))
        if progress is not None:
            progress(Progress(len(values), planned, planned, None))
    return values
