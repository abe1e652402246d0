"""The record of one run: one method, one seed, trained and put on chips; every trial is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samson._checks import require

Settings = dict[str, float | str]
"""Hyper-parameters by name; infinity is written "inf", since JSON has no such number."""


@dataclass(frozen=True)
class Configuration:
    """What a comparison runs. Two folders with equal configurations hold the same experiment.

    Args:
        data: Name of the data set.
        network: Name of the network.
        methods: Each method's settings, in the order asked for.
        overrides: Those settings that differ from the defaults, as `METHOD.PARAM=VALUE`.
        noise: Name of the noise family.
        levels: Noise levels, 0 (the noise-free network) among them.
        trials: Chips per network and level.
        seeds: Number of training seeds, 0 to seeds − 1.
        epochs: Passes over the training split.
        batch_size: Examples in a mini-batch.
        chip_seed: Seed of the set of chips.
        version: Version of this layout.
    """

    data: str
    network: str
    methods: dict[str, Settings]
    overrides: tuple[str, ...]
    noise: str
    levels: tuple[float, ...]
    trials: int
    seeds: int
    epochs: int
    batch_size: int
    chip_seed: int
    version: int = 1

    def __post_init__(self) -> None:
        require(self.version == 1, "version", "be 1, the only one that this release reads", self.version)


@dataclass(frozen=True)
class Training:
    """How the training went.

    Args:
        loss: Each whole epoch's mean training loss.
        validation_accuracy: A fraction; None if the training diverged.
        parameters: Number of parameters.
        seconds: How long it took.
        diverged_at: The step, from 1, at which the loss was no finite number, so that training stopped; None if none.
    """

    loss: tuple[float, ...]
    validation_accuracy: float | None
    parameters: int
    seconds: float
    diverged_at: int | None = None


@dataclass(frozen=True)
class Level:
    """The accuracy of each trial at one noise level: one a chip, or a single one without noise."""

    level: float
    accuracies: tuple[float, ...]

    def __post_init__(self) -> None:
        require(all(0 <= a <= 1 for a in self.accuracies), "accuracies", "be between 0 and 1", self.accuracies)


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


@dataclass(frozen=True)
class RunRecord:
    """One trained network and all that was measured on it.

    Args:
        configuration: The comparison that the run belongs to.
        method: One of its methods.
        seed: Training seed.
        training: How the training went.
        split: The split that was evaluated.
        examples: Number of its examples.
        levels: The trials, level by level, as configured; none if the training diverged.
        environment: What the run ran on.
        finished: When, in UTC, ISO 8601.
        version: Version of this layout.
    """

    configuration: Configuration
    method: str
    seed: int
    training: Training
    split: str
    examples: int
    levels: tuple[Level, ...]
    environment: Environment
    finished: str
    version: int = 1

    def __post_init__(self) -> None:
        plan = self.configuration
        require(self.version == 1, "version", "be 1, the only one that this release reads", self.version)
        require(self.method in plan.methods, "method", f"be one of {', '.join(plan.methods)}", self.method)
        require(0 <= self.seed < plan.seeds, "seed", f"be from 0 to {plan.seeds - 1}", self.seed)
        found = [(level.level, len(level.accuracies)) for level in self.levels]
        planned = [(level, plan.trials if level else 1) for level in plan.levels]
        planned = planned if self.training.diverged_at is None else []
        require(found == planned, "levels", f"be {planned} as (level, number of trials)", found)

    @property
    def settings(self) -> Settings:
        """The hyper-parameters of this run's method."""
        return self.configuration.methods[self.method]


def finite(value: float) -> float | str:
    """A number as a record holds it: infinity becomes "inf"."""
    return value if math.isfinite(value) else str(value)
