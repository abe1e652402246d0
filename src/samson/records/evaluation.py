"""Records of one model on chips: evaluations at several levels, and budgets. Every trial is kept."""

from __future__ import annotations

from dataclasses import dataclass

from samson.records.run import Environment
from samson.records.summary import Estimate


@dataclass(frozen=True)
class Subject:
    """What was measured, on what, and how: enough to measure it again.

    Args:
        model: As it was asked for: a file, `MODULE:FUNCTION`, `timm/NAME` or `torchvision/NAME`.
        weights: The file of its weights, if it had one of its own.
        data: As it was asked for.
        examples: Number of examples, if it is known.
        metric: Name of the metric.
        higher_is_better: Its direction.
        about: What intervals speak of: "test_set" or "population".
        confidence: Of intervals.
        chip_seed: Seed of the set of chips.
        select: Patterns of layers on the chip; empty for all that are by default.
        read_block: Examples of one reading; None is one reading for all.
        norms_on: Data from which batch-norm statistics were estimated anew on each chip; None kept the model's own.
        batch_size: Examples in a batch; None where the data came in batches.
        channels_last: Whether inputs were put in channels-last order.
        autocast: The lower precision in which the model ran, "bfloat16" or "float16", if it did.
        compiled: Whether it ran compiled.
        executor: Where trials ran: "serial", "torchrun", "ray" or "batched", which rounds in its own way.
    """

    model: str
    weights: str | None
    data: str
    examples: int | None
    metric: str
    higher_is_better: bool
    about: str
    confidence: float
    chip_seed: int
    select: tuple[str, ...]
    read_block: int | None
    norms_on: str | None
    batch_size: int | None
    channels_last: bool
    autocast: str | None = None
    compiled: bool = False
    executor: str = "serial"


@dataclass(frozen=True)
class CheckRecord:
    """What a lower precision or compiling changed, on the first chips.

    Args:
        differences: The value by the faster forward minus the plain one, one a chip.
        change: Their mean with its interval.
        half_width: Of the interval of the answer, which the change was compared with.
        passed: Whether the answer was shown to be the plain one's within its interval.
    """

    differences: tuple[float, ...]
    change: Estimate
    half_width: float
    passed: bool


@dataclass(frozen=True)
class Measured:
    """One kind of chip: every trial and what it says.

    Args:
        label: What is shown for it: the level, the time, or the chip's name.
        noise: The noise with its constants.
        level: The noise's level or the time in seconds, if there is one.
        trials: One value a chip; a single one without noise.
        estimate: The mean with its interval; without noise, the value itself.
        worst: The value on the worst chip.
        check: What a lower precision or compiling changed, where one was used.
    """

    label: str
    noise: str
    level: float | None
    trials: tuple[float, ...]
    estimate: Estimate
    worst: float
    check: CheckRecord | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """One model on several kinds of chips.

    Args:
        subject: What was measured.
        clean: The value without noise.
        measured: What it is on each kind of chip.
        environment: What it ran on.
        finished: When, in UTC, ISO 8601.
        precision: The half-width that was asked for, if one was; an interval that is wider was not reached.
        version: Version of this layout.
    """

    subject: Subject
    clean: float
    measured: tuple[Measured, ...]
    environment: Environment
    finished: str
    precision: float | None = None
    version: int = 1


@dataclass(frozen=True)
class BudgetRecord:
    """How much noise a model stands.

    Args:
        subject: What was measured.
        family: Name of the noise family.
        unit: What a level is.
        low: The lowest level asked about.
        high: The highest.
        max_drop: The drop that is allowed.
        relative: Whether that is a fraction of the value without noise.
        criterion: "mean" or "yield".
        min_yield: For "yield": the share of chips that must keep to it.
        clean: The value without noise.
        measured: What was measured, level by level, in ascending order.
        holds_up_to: The largest level that holds with confidence; None if none does.
        estimate: The level at which the limit is just kept, with its interval; None is above `high`, 0 below `low`.
        voltage: For bit errors: V/V_min at `holds_up_to`.
        environment: What it ran on.
        finished: When, in UTC, ISO 8601.
        energy_saved: For bit errors: the fraction of the energy of an access saved at `voltage`.
        version: Version of this layout.
    """

    subject: Subject
    family: str
    unit: str
    low: float
    high: float
    max_drop: float
    relative: bool
    criterion: str
    min_yield: float
    clean: float
    measured: tuple[Measured, ...]
    holds_up_to: float | None
    estimate: tuple[float | None, ...]
    voltage: float | None
    environment: Environment
    finished: str
    energy_saved: float | None = None
    version: int = 1
