"""From what was measured of one model to its records."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from samson._times import level_text
from samson.evaluation import Budget, Evaluation, Noise, Sensitivity, Setting, make_subject
from samson.experiments._chips import Kind
from samson.experiments._requests import Request
from samson.records import (
    BudgetRecord,
    ChipKind,
    EvaluationRecord,
    LayerRecord,
    Measured,
    SensitivityRecord,
    Subject,
    SuggestionRecord,
)


def subject_of(request: Request, model: nn.Module, setting: Setting, found: Evaluation | Sensitivity) -> Subject:
    """What was measured, on what, and how: the same for every command.

    Args:
        request: What the user asked for.
        model: The model.
        setting: How its trials were run.
        found: What came out.
    """
    return make_subject(
        found,
        model,
        setting,
        name=request.model,
        data=request.data_name,
        weights=None if request.weights is None else str(request.weights),
        norms_on=request.norms_on,
    )


def measured(kind: ChipKind, found: Evaluation) -> Measured:
    """The record of one evaluation."""
    return Measured(kind, found.trials, found.interval, found.worst)


def evaluation_record(
    subject: Subject, clean: float, found: list[tuple[ChipKind, Evaluation]], precision: float | None
) -> EvaluationRecord:
    """The record of a model on several kinds of chips."""
    return EvaluationRecord(subject, clean, tuple(measured(*pair) for pair in found), precision)


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
        rows=tuple(LayerRecord(r.name, r.layer.weights, r.alone, r.others, r.drop, r.gain) for r in found.rows),
        suggestion=None
        if s is None
        else SuggestionRecord(s.max_drop, s.digital, s.share, s.chosen.drop, s.confirmed, len(s.attempts)),
    )
