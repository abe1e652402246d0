"""Records of models on chips: an evaluation, a budget, and several models side by side. Every trial is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samson._shown import Shown, number_form
from samson._times import level_text
from samson.records._chips import ChipKind
from samson.records._interval import Interval
from samson.records._run import Environment


@dataclass(frozen=True)
class Subject:
    """What was measured, on what, and how: enough to measure it again.

    Args:
        model: As it was asked for: a file, `MODULE:FUNCTION`, `timm/NAME` or `torchvision/NAME`; the class of a model
            that was given in Python.
        weights: The file of its weights, if it had one of its own.
        data: As it was asked for; its type if it was given in Python.
        examples: Number of examples, if the metric has a value for each.
        metric: Name of the metric.
        higher_is_better: Its direction.
        is_fraction: Whether it lies between 0 and 1, and is shown in percent.
        about: What intervals speak of: "test_set" or "population".
        confidence: Of intervals.
        chip_seed: Seed of the set of chips.
        select: Patterns of layers on the chip; empty for all that are by default.
        read_block: Examples of one reading; None is one reading for all.
        norms_on: Data from which batch-norm statistics were estimated anew on each chip; None kept the model's own.
        batch_size: Examples in a batch; None where the data came in batches.
        channels_last: Whether inputs were put in channels-last order.
        autocast: The lower precision in which the model ran, "bfloat16" or "float16", if it did.
        executor: Where trials ran: "serial", "torchrun" or "ray".
        environment: What it ran on.
        finished: When, in UTC, ISO 8601.
        coverage: The share of the model's weights that lie on the chip, embeddings aside; None if unknown.
        multiply_adds: The share of its products that are with these weights; None if unknown.
        weights_hash: A hash over the bits of its parameters and buffers, with their names; None of several models, of
            one that is sharded over processes, or if unknown.
    """

    model: str
    weights: str | None
    data: str
    examples: int | None
    metric: str
    higher_is_better: bool
    is_fraction: bool
    about: str
    confidence: float
    chip_seed: int
    select: tuple[str, ...]
    read_block: int | None
    norms_on: str | None
    batch_size: int | None
    channels_last: bool
    autocast: str | None
    executor: str
    environment: Environment
    finished: str
    coverage: float | None = None
    multiply_adds: float | None = None
    weights_hash: str | None = None


@dataclass(frozen=True)
class Measured:
    """One kind of chip: every trial and what it says.

    Args:
        kind: The kind of chip.
        trials: One value a chip.
        interval: The mean with its interval.
        worst: The value on the worst chip.
    """

    kind: ChipKind
    trials: tuple[float, ...]
    interval: Interval
    worst: float


@dataclass(frozen=True, repr=False)
class EvaluationRecord(Shown):
    """One model on several kinds of chips.

    Args:
        subject: What was measured.
        clean: The value without noise.
        measured: What it is on each kind of chip.
        precision: The half-width that was asked for, if one was; an interval that is wider was not reached.
        version: Version of this layout.
    """

    subject: Subject
    clean: float
    measured: tuple[Measured, ...]
    precision: float | None = None
    version: int = 2

    def __str__(self) -> str:
        return "\n".join([without_noise(self.subject, self.clean), *map(_line, self.measured)])

    def table(self) -> list[dict[str, Any]]:
        """One row a kind of chip, for example for `pandas.DataFrame`; `trials` is the number of chips."""
        return _rows(self.subject, self.clean, self.measured)


@dataclass(frozen=True, repr=False)
class BudgetRecord(Shown):
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
        crossing: The level at which the limit is just kept, with its interval; None is above `high`, 0 below `low`.
        voltage: For bit errors: V/V_min at `holds_up_to`.
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
    crossing: tuple[float | None, ...]
    voltage: float | None
    energy_saved: float | None
    version: int = 2

    def __str__(self) -> str:
        none = self.holds_up_to is None
        held = "none holds" if none else f"holds up to {level_text(self.holds_up_to or 0.0, self.unit)}"
        what = f"{without_noise(self.subject, self.clean)}; worse by at most {self.max_drop:g}"
        return "\n".join([f"{what} under {self.family}: {held}", *map(_line, self.measured)])

    def table(self) -> list[dict[str, Any]]:
        """One row a level, for example for `pandas.DataFrame`; `trials` is the number of chips."""
        return _rows(self.subject, self.clean, self.measured)


@dataclass(frozen=True)
class PairedMethod:
    """One method on the chips.

    Args:
        name: The method.
        trials: One value a chip, for each of its networks.
        clean: The value without noise, of each network.
        mean: Over networks and chips, with its interval.
        gain: How much larger that is than the baseline's, with an interval that holds together with those of the other
            methods (Bonferroni); None for the baseline.
        p_value: Of no difference, adjusted by Holm; None for the baseline.
        unit: What the gain's interval speaks of (see `samson.statistics.Difference`).
        common_chips: Whether the chips are those of the baseline.
        coverage: The share of its weights that lie on the chip; None if unknown.
        multiply_adds: The share of its products that are with these weights; None if unknown.
    """

    name: str
    trials: tuple[tuple[float, ...], ...]
    clean: tuple[float | None, ...]
    mean: Interval
    gain: Interval | None
    p_value: float | None
    unit: str
    common_chips: bool
    coverage: float | None = None
    multiply_adds: float | None = None


@dataclass(frozen=True, repr=False)
class PairedRecord(Shown):
    """Several methods on chips of one kind.

    Args:
        subject: What was measured; how much of each network lies on the chip is with its method.
        kind: The kind of chip.
        baseline: The method to which the others are compared.
        methods: What was measured of each.
        version: Version of this layout.
    """

    subject: Subject
    kind: ChipKind
    baseline: str
    methods: tuple[PairedMethod, ...]
    version: int = 2

    def __str__(self) -> str:
        lines = [f"{method.name}: {method.mean}, {len(method.trials[0])} chips" for method in self.methods]
        what = f"{self.subject.metric} of {len(self.methods)} methods on {self.subject.data}, chips {self.kind}"
        return "\n".join([what, *lines])


def table_row(subject: Subject, kind: ChipKind, clean: float, **own: Any) -> dict[str, Any]:
    """A row of a record's table: what is its own, after the kind of chip and before what all rows have."""
    about = {"clean": clean, "metric": subject.metric, "higher_is_better": subject.higher_is_better}
    return {"kind": kind.label, "level": kind.level, "time_s": kind.time_s} | own | about


def _rows(subject: Subject, clean: float, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    return [
        table_row(subject, of.kind, clean, **vars(of.interval), worst=of.worst, trials=len(of.trials))
        for of in measured
    ]


def without_noise(subject: Subject, clean: float) -> str:
    """What was measured, and its value without noise."""
    return f"{subject.model} on {subject.data}: {subject.metric} {clean:{number_form(clean)}} without noise"


def _line(of: Measured) -> str:
    form = number_form(of.interval.low, of.interval.high, of.worst)
    return f"{of.kind.label}: {of.interval}, worst {of.worst:{form}}, {len(of.trials)} chips"
