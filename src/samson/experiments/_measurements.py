"""From what was measured of one model to its records."""

from __future__ import annotations

import math
from collections.abc import Callable

from samson._times import level_text
from samson.evaluation import Budget, Evaluation, Noise, Sensitivity
from samson.experiments._chips import Kind
from samson.records import (
    BudgetRecord,
    ChipKind,
    Measured,
    SensitivityRecord,
    Subject,
    SuggestionRecord,
)


def measured(kind: ChipKind, found: Evaluation) -> Measured:
    """The record of one evaluation."""
    return Measured(kind, found.trials, found.interval, found.worst)


def budget_record(subject: Subject, family: str, make: Callable[[float], Noise], found: Budget) -> BudgetRecord:
    """The record of a budget for a family of noises, made from levels."""
    ends = (found.interval.mean, found.interval.low, found.interval.high)
    return BudgetRecord(
        subject=subject,
        family=family,
        unit=found.unit,
        low=found.low,
        high=found.high,
        max_drop=found.max_drop,
        relative=found.relative,
        criterion=found.criterion,
        min_yield=found.min_yield,
        clean=found.clean,
        measured=tuple(
            measured(Kind(level_text(level, found.unit), make(level), level).record(), result)
            for level, result in found.evaluations.items()
        ),
        holds_up_to=found.holds_up_to,
        crossing=tuple(end if math.isfinite(end) else None for end in ends),
        voltage=found.voltage,
        energy_saved=found.energy_saved,
    )


def sensitivity_record(subject: Subject, kind: ChipKind, found: Sensitivity) -> SensitivityRecord:
    """The record of a sensitivity analysis."""
    s = found.suggestion
    return SensitivityRecord(
        subject=subject,
        kind=kind,
        clean=found.clean,
        noisy=found.noisy,
        drop=found.drop,
        rows=found.rows,
        suggestion=None
        if s is None
        else SuggestionRecord(s.max_drop, s.digital, s.share, s.chosen.drop, s.confirmed, len(s.attempts)),
    )
