"""From what was measured of one model to its records."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from torch import nn

from samson._times import level_text
from samson.evaluation import Budget, Evaluation, Noise, ScoreTable, Sensitivity, Serial, Setting, device_of
from samson.experiments._chips import Kind
from samson.experiments._environment import environment
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
    select, covered = setting.get("select"), found.coverage
    examples = found.examples.examples if isinstance(found.examples, ScoreTable) else found.examples
    return Subject(
        model=request.model,
        weights=None if request.weights is None else str(request.weights),
        data=request.data_name,
        examples=examples,
        metric=found.metric.name,
        higher_is_better=found.metric.higher_is_better,
        is_fraction=found.metric.bounds == (0, 1),
        about=found.about if isinstance(found, Evaluation) else "test_set",
        confidence=found.confidence,
        chip_seed=setting.get("seed", 0),
        select=tuple(select) if isinstance(select, (list, tuple)) else (),
        read_block=setting.get("read_block"),
        norms_on=request.norms_on,
        batch_size=found.layout.batch_size,
        channels_last=found.layout.channels_last,
        autocast=setting.get("autocast"),
        executor=(setting.get("executor") or Serial()).name,
        environment=environment(device_of(model).type),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        coverage=None if covered is None else covered.share,
        multiply_adds=None if covered is None else covered.multiply_adds,
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
