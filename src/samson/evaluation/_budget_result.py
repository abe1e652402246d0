"""The result of a noise budget: up to which level it holds, and where the limit is crossed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from samson._shown import Shown, number_form
from samson._times import age_text, level_text
from samson.evaluation._metric import Metric
from samson.evaluation._result import Evaluation
from samson.noise import RATES, RatesByVoltage, voltage_at
from samson.records import BudgetRecord, Interval, Measured, Subject, replace_file, write_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Criterion = Literal["mean", "yield"]


@dataclass(frozen=True, eq=False, repr=False)
class Budget(Shown):
    """How much noise a network stands.

    Args:
        holds_up_to: The largest level of the grid such that it and all below keep the criterion, with confidence;
            None if not even the lowest does.
        interval: Estimate of the level at which the criterion is just kept, with its interval; an end or the
            estimate is 0 where it lies below `low`, and infinity where it lies above `high`.
        low: The lowest level asked about.
        high: The highest level asked about.
        clean: The value without noise, on the same examples.
        evaluations: What was measured, by level, in ascending order.
        max_drop: The drop that is allowed.
        relative: Whether the drop is a fraction of the value without noise.
        criterion: "mean" limits the mean drop over chips, "yield" the share of chips that are worse by more.
        min_yield: For "yield": the share of chips that must keep to `max_drop`.
        confidence: Of limit and interval.
        unit: What a level is: "level", "bit error rate" or "s".
        metric: What was measured.
        family: The family of chips, in words.
        rates_by_voltage: For bit errors: the memory's rates by voltage, as those errors have them.
        subject: What was measured, on what, and how; None if unknown.
    """

    holds_up_to: float | None
    interval: Interval
    low: float
    high: float
    clean: float
    evaluations: dict[float, Evaluation]
    max_drop: float
    relative: bool
    criterion: Criterion
    min_yield: float
    confidence: float
    unit: str
    metric: Metric
    family: str
    rates_by_voltage: RatesByVoltage = RATES
    subject: Subject | None = None

    @property
    def at_least(self) -> bool:
        """Whether even the highest level holds, so that the budget is at least that."""
        return self.holds_up_to == self.high

    @property
    def voltage(self) -> float | None:
        """For bit errors: the lowest V/V_min that holds, as a fraction from 0 to 1; None if there is none."""
        if self.unit != "bit error rate" or not self.holds_up_to:
            return None
        rate = min(self.holds_up_to, 0.5)  # more than half of the bits are never wrong
        return min(1.0, voltage_at(rate, self.rates_by_voltage))

    @property
    def energy_saved(self) -> float | None:
        """For bit errors: the fraction of the energy of an access saved at `voltage`, about 1 − (V/V_min)²."""
        return None if self.voltage is None else 1 - self.voltage**2

    def record(self) -> BudgetRecord:
        """Every trial, and what follows from them.

        Raises:
            ValueError: If it is unknown what was measured.
        """
        if self.subject is None:
            raise ValueError("`record` must be asked of what `noise_budget` gives, but this result was made by hand.")
        measured = []
        for level, found in self.evaluations.items():
            assert found.kind is not None
            kind = replace(found.kind, label=level_text(level, self.unit), level=level)
            measured.append(Measured(kind, found.trials, found.interval, found.worst))
        ends = (self.interval.mean, self.interval.low, self.interval.high)
        return BudgetRecord(
            subject=self.subject,
            family=self.family,
            unit=self.unit,
            low=self.low,
            high=self.high,
            max_drop=self.max_drop,
            relative=self.relative,
            criterion=self.criterion,
            min_yield=self.min_yield,
            clean=self.clean,
            measured=tuple(measured),
            holds_up_to=self.holds_up_to,
            crossing=tuple(end if math.isfinite(end) else None for end in ends),
            voltage=self.voltage,
            energy_saved=self.energy_saved,
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a level, for example for `pandas.DataFrame` (see that of the record)."""
        return self.record().table()

    def plot(self) -> Figure:
        """Every chip and the means by level, and up to where the limit holds, as a figure of plotly.

        Raises:
            ImportError: If plotly, of the extra `cli`, is missing.
        """
        from samson.report import budget_figure, figure_of

        return figure_of(budget_figure(self.record()))

    def save(self, path: Path | str) -> None:
        """Write the record as JSON, which `samson.records.read_json(path, BudgetRecord)` reads."""
        write_json(Path(path), self.record())

    def page(self, path: Path | str) -> None:
        """Write a page with table and plot in one HTML file, which opens offline."""
        from samson.report import budget_page

        replace_file(Path(path), budget_page(self.record()).encode())

    def __str__(self) -> str:
        drop = f"{self.max_drop:g}{' of the value' if self.relative else ''}"
        what = (
            f"chips are worse by at most {drop} in the mean"
            if self.criterion == "mean"
            else f"at least {100 * self.min_yield:g}% of the chips are worse by at most {drop}"
        )
        if self.holds_up_to is None:
            held = f"none: at {self._named(self.low)} it is not sure that {what}"
        else:
            held = f"{'at least ' * self.at_least}{self._named(self.holds_up_to)}: up to there {what}"
        one = next(iter(self.evaluations.values()))
        chips, covered = len(one.trials), "" if one.coverage is None else f"\nOn the chip: {one.coverage}"
        ends = [self._end(value) for value in (self.interval.mean, self.interval.low, self.interval.high)]
        i = f"{ends[0]} [{ends[1]}, {ends[2]}]"
        saved = "" if self.voltage is None else f"; V/V_min {self.voltage:.3f}, energy −{self.energy_saved:.0%}"
        what = f"{self.metric.name} under {self.family}, {self.clean:{number_form(self.clean)}} without noise"
        return f"{what}\n{held} ({100 * self.confidence:g}%, {chips} chips); estimate {i}{saved}{covered}"

    def _named(self, level: float) -> str:
        return age_text(level) if self.unit == "s" else f"{self.unit} {level:g}"

    def _end(self, level: float) -> str:
        low, high = (level_text(end, self.unit) for end in (self.low, self.high))
        return f"< {low}" if level == 0 else f"> {high}" if math.isinf(level) else level_text(level, self.unit)
