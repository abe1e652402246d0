"""Whether a faster forward gives the same answer: the first chips are run plainly too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from samson.evaluation.executors import Executor
from samson.evaluation.scoring import value_of
from samson.evaluation.statistics import CONFIDENCE, Interval, mean_interval
from samson.evaluation.task import Task
from samson.records import CheckRecord, Estimate

CHECKED = 5
"""Chips that are run twice, at least; of more than 25, the square root of their number."""


@dataclass(frozen=True)
class Check:
    """By how much a lower precision or compiling changed an answer, measured on the same chips and examples.

    It passes where |change| is at most the half-width of the answer's interval, with confidence: the larger end of the
    change's own interval is compared. So what is left of the change, which nobody knows better, is no more than the
    answer leaves open anyway; the answer's interval, made wider by `limit` at both ends, allows for it. Where all
    chips have the very same value it passes, however narrow the interval. A check can fail because a few chips leave
    too much open: it has shown no change then, but could not rule one out either. And it can miss a change that befalls
    few chips: none of 5 is among the one in ten that overflow in .59 of all cases, none of 20 in .12.

    Args:
        differences: The value by the faster forward minus the plain one, one a chip.
        half_width: Of the interval of the answer.
        resolution: The step between possible values of a chip (see `Evaluation.resolution`).
        confidence: Of the change's interval, between 0 and 1.

    Example:
        >>> Check((0.0, 0.001, -0.001), half_width=0.01).passed, Check((0.02, 0.021, 0.022), half_width=0.01).passed
        (True, False)
    """

    differences: tuple[float, ...]
    half_width: float
    resolution: float = 0.0
    confidence: float = CONFIDENCE

    @property
    def change(self) -> Interval:
        """The mean change, for other chips and these examples (see `mean_interval`)."""
        return mean_interval(self.differences, self.confidence, resolution=self.resolution)

    @property
    def limit(self) -> float:
        """The largest |change| within its interval."""
        return max(abs(self.change.low), abs(self.change.high))

    @property
    def passed(self) -> bool:
        """Whether the answer is the plain one's within its interval."""
        return not any(self.differences) or self.limit <= self.half_width

    def record(self) -> CheckRecord:
        """The check as a record."""
        return CheckRecord(self.differences, Estimate(**vars(self.change)), self.half_width, self.passed)

    def __str__(self) -> str:
        i = self.change
        return (
            f"faster forward: change {i.mean:+z.2g} [{i.low:+z.2g}, {i.high:+z.2g}] on {len(self.differences)} chips, "
            f"{'within' if self.passed else 'NOT shown to be within'} ±{self.half_width:.2g}"
        )


def checked(
    task: Task,
    executor: Executor,
    values: Sequence[float],
    interval: Interval,
    *,
    resolution: float,
    confidence: float,
) -> Check | None:
    """Run the first chips plainly and compare; None where all have been run so. Warns if the check is not passed.

    Args:
        task: What was run.
        executor: Where.
        values: What it gave, one a chip.
        interval: The answer from them.
        resolution: As for `Check`.
        confidence: As for `Check`.
    """
    if task.layout.is_plain:
        return None
    first = values[: max(CHECKED, math.isqrt(len(values)))]
    plain = executor.run(replace(task, layout=task.layout.plain), range(len(first)))
    differences = tuple(value - value_of(row) for value, row in zip(first, plain, strict=True))
    found = Check(differences, interval.half_width, resolution, confidence)
    if not found.passed:
        mode = [f"autocast={task.layout.autocast!r}"] * (task.layout.autocast is not None)
        mode += ["compiled=True"] * task.layout.compiled
        warnings.warn(
            f"The {task.metric.name} by {' and '.join(mode)} is not shown to be that of the plain model: it changes by "
            f"{found.change.mean:+.3g}, with confidence by up to {found.limit:.3g}, and the half-width of its interval "
            f"is {found.half_width:.3g}. All values are kept; for values to rely on, use layout.plain.",
            RuntimeWarning,
            stacklevel=3,
        )
    return found
