"""How many chips are drawn, and what their interval speaks of; checked before compute starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

from samson._checks import is_number, require, require_between, require_one_of, require_whole
from samson.evaluation._metric import DataSetMetric
from samson.evaluation._metrics import as_metric
from samson.evaluation._setting import Setting
from samson.statistics import CONFIDENCE, About, Look, Stopping, first_look

TRIALS = 20
"""Chips, where none are asked for."""
MAX_TRIALS = 1280
"""Chips at which a wanted precision is given up, where no other limit is asked for."""


@dataclass(frozen=True)
class Question:
    """What `evaluate` is asked, with its defaults and the meaning of its arguments.

    Raises:
        ValueError: If one is out of range.
    """

    trials: int | None = None
    precision: float | None = None
    max_trials: int = MAX_TRIALS
    stopping: Stopping = "looks"
    about: About = "test_set"
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.trials is not None:
            require_whole(2, trials=self.trials)
        if self.trials is not None and self.precision is not None:
            raise ValueError(
                f"`trials` and `precision` exclude each other, got {self.trials} and {self.precision}. "
                "Use `max_trials` for a bound."
            )
        half = self.precision is None or (is_number(self.precision) and 0 < self.precision < math.inf)
        require(half, "precision", "be a half-width > 0", self.precision)
        require_whole(2, max_trials=self.max_trials)
        require_between(0, 1, confidence=self.confidence)
        for name, kinds in (("stopping", Stopping), ("about", About)):
            require_one_of(get_args(kinds), **{name: getattr(self, name)})

    @property
    def largest(self) -> int:
        """Chips at most."""
        return self.trials or TRIALS if self.precision is None else self.max_trials

    def first_look(self) -> Look:
        """When the interval is looked at first, and at which confidence."""
        if self.precision is None:
            return Look(1, self.largest, self.confidence)
        look = first_look(self.largest, self.confidence)
        return replace(look, confidence=self.confidence) if self.stopping == "betting" else look

    def check(self, setting: Setting) -> None:
        """Refuse a metric that the question cannot be asked of.

        Raises:
            ValueError: If they do not go together.
        """
        metric = as_metric(setting.get("metric", "accuracy"))
        if self.about == "population" and isinstance(metric, DataSetMetric):
            raise ValueError(
                f"`about` must be 'test_set' for {metric.name!r}, which has no value for each example. "
                "A population interval needs an ExampleMetric."
            )
        if self.stopping == "betting" and (metric.bounds is None or self.about == "population"):
            raise ValueError(
                "`stopping` must be 'looks' for a metric without bounds or a population: betting needs values between "
                f"two known numbers, one a chip, got {metric.name!r} about the {self.about.replace('_', ' ')}."
            )
