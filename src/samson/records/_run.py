"""Records of runs: how a network was trained, and all that was measured on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from samson._checks import require, require_whole
from samson._factories import is_plain
from samson._shown import Shown, number_form
from samson.records._chips import ChipFamily, ChipKind
from samson.records._plan import VERSION, Problem, Settings

LARGEST = 1e150
"""The largest number that may be measured: sums of squares stay finite. Beyond it a metric is as good as infinite."""


@dataclass(frozen=True)
class Perturbation:
    """What the perturbation of the last epoch's last step did.

    Args:
        clean_loss: The loss at the weights; None in a mode that does not look there, or if it was no finite number.
        perturbed_loss: The loss at the perturbed weights; None likewise.
        epsilon_norm: ‖ε‖₂; None if it was not measured, or no finite number.
    """

    clean_loss: float | None
    perturbed_loss: float | None
    epsilon_norm: float | None


@dataclass(frozen=True)
class Training:
    """How the training went.

    Args:
        loss: Each whole epoch's mean training loss.
        validation: The metric on the validation split without noise; None if the training diverged.
        parameters: Number of parameters.
        seconds: How long it took, up to an interruption and from there on.
        gradients: Gradients of a mini-batch that were computed; None if a trainer of one's own does not say.
        diverged_at: The step, from 1, at which the loss was no finite number, so that training stopped, or the last one
            if a weight was none after it; None if none.
        perturbation: What the perturbation did at the end; None if there was none.
        input_ranges: The ranges of inputs that were learned along, by layer; empty if there were no converters, or the
            training diverged.
        precision: In which the network ran, "float32" or "bfloat16"; None in an older record, and by a trainer of one's
            own.
    """

    loss: tuple[float, ...]
    validation: float | None
    parameters: int
    seconds: float
    gradients: int | None = None
    diverged_at: int | None = None
    perturbation: Perturbation | None = None
    input_ranges: Mapping[str, float] = field(default_factory=dict)
    precision: str | None = None


@dataclass(frozen=True)
class Environment:
    """What the run ran on: versions, the commit of the source if it is a checkout, the kind of device."""

    samson: str
    git: str | None
    python: str
    torch: str
    numpy: str
    machine: str
    device: str
    threads: int


@dataclass(frozen=True, repr=False)
class RunRecord(Shown):
    """One trained network and all that was measured on it.

    Args:
        problem: What it was trained on.
        method: By which method: letters, digits and any of -_.+, since it names files.
        settings: The method's hyper-parameters.
        seed: Training seed.
        families: The families of chips on which it was put; their names differ.
        trials: Chips of each kind, at least one.
        chip_seed: Seed of the set of chips.
        training: How the training went.
        split: The split that was evaluated.
        examples: Number of its examples, at least one.
        clean: The metric without noise; None if the training diverged.
        measured: The metric by family, kind and chip; none if the training diverged.
        environment: What the network was trained on, and then put on chips.
        finished: When, in UTC, ISO 8601.
        coverage: The share of the network's weights that lie on the chips; None if unknown.
        multiply_adds: The share of its products that are with these weights; None if unknown.
        calibrated: The input ranges, by layer, that chips with converters were given from training data; empty where
            they were learned (see `Training`), or no chip needs any.
        chips_added_on: What chips were measured on that were asked for later, where that is not `environment`.
        version: Version of this layout.
    """

    problem: Problem
    method: str
    settings: Settings
    seed: int
    families: tuple[ChipFamily, ...]
    trials: int
    chip_seed: int
    training: Training
    split: str
    examples: int
    clean: float | None
    measured: tuple[tuple[tuple[float, ...], ...], ...]
    environment: Environment
    finished: str
    coverage: float | None = None
    multiply_adds: float | None = None
    calibrated: Mapping[str, float] = field(default_factory=dict)
    chips_added_on: tuple[Environment, ...] = ()
    version: int = VERSION

    def __post_init__(self) -> None:
        require(is_plain(self.method), "method", "be letters, digits and any of -_.+", self.method)
        require(self.seed >= 0, "seed", "be ≥ 0", self.seed)
        require_whole(1, trials=self.trials, examples=self.examples)
        names = [family.name for family in self.families]
        require(len(set(names)) == len(names), "families", "have names that differ", names)
        diverged = self.training.diverged_at is not None
        planned = [[self.trials] * len(family.kinds) for family in self.families]
        found = [[len(chips) for chips in family] for family in self.measured]
        require(found == ([] if diverged else planned), "measured", f"be of {planned} chips by family and kind", found)
        require((self.clean is None) == diverged, "clean", "be there unless the training diverged", self.clean)
        values = [value for family in self.measured for chips in family for value in chips]
        values += [] if self.clean is None else [self.clean]
        low, high = (0, 1) if self.problem.is_fraction else (-LARGEST, LARGEST)
        outside = [value for value in values if not low <= value <= high]
        require(not outside, "measured", f"be between {low:g} and {high:g}", outside[:1])
        beyond = [value for value in (*self.training.loss, self.training.seconds) if abs(value) > LARGEST]
        require(not beyond, "training", f"have numbers of at most {LARGEST:g}", beyond[:1])

    @property
    def values(self) -> dict[tuple[str, ChipKind], tuple[float, ...]]:
        """The metric on each chip, by the family's name and the kind; none if the training diverged."""
        return {
            (family.name, kind): chips
            for family, of_family in zip(self.families, self.measured, strict=self.clean is not None)
            for kind, chips in zip(family.kinds, of_family, strict=True)
        }

    def __str__(self) -> str:
        start = f"{self.problem.name}, {self.method}, seed {self.seed}: "
        if self.clean is None:
            return f"{start}the training diverged at step {self.training.diverged_at}"
        form = number_form(self.clean)
        lines = [
            f"{start}{self.problem.metric} {self.clean:{form}} without noise, on {self.trials} chips of each kind:"
        ]
        for family, measured in zip(self.families, self.measured, strict=True):
            means = [f"{kind.label} {fmean(of):{form}}" for kind, of in zip(family.kinds, measured, strict=True)]
            lines.append(f"{family.name}: {', '.join(means)}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class TrainingRecord(Shown):
    """How a network was made that `samson train` saved.

    Args:
        problem: What it was trained on.
        method: By which method.
        settings: The method's hyper-parameters.
        seed: Training seed.
        training: How the training went.
        environment: What it ran on.
        finished: When, in UTC, ISO 8601.
        version: Version of this layout.
    """

    problem: Problem
    method: str
    settings: Settings
    seed: int
    training: Training
    environment: Environment
    finished: str
    version: int = VERSION

    def __str__(self) -> str:
        start, training = f"{self.problem.name}, {self.method}, seed {self.seed}: ", self.training
        if training.diverged_at is not None:
            return f"{start}the training diverged at step {training.diverged_at}"
        value, metric = training.validation, self.problem.metric
        shown = "" if value is None else f"{metric} {value:{number_form(value)}} on the validation split, "
        return f"{start}{shown}trained in {training.seconds:.1f} s"
