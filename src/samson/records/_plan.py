"""What a comparison is: its problems, methods, chips and seeds, and how settings are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samson._names import counted
from samson._shown import Shown
from samson.records._chips import ChipFamily

VERSION = 2
Settings = dict[str, float | str]
"""Hyper-parameters by name; infinity is written "inf", since JSON has no such number."""

Candidates = dict[str, tuple[float | str, ...]]
"""Values among which a search chooses, by the name of the setting."""


@dataclass(frozen=True)
class Problem:
    """A data set, a network, and how it is trained: what methods are compared on.

    Args:
        name: What it is called, once in a comparison.
        data: The data set, as it was asked for.
        network: The network, as it was asked for.
        task: The kind of question, such as "classification"; it brings the loss.
        metric: Name of the metric.
        higher_is_better: Its direction.
        is_fraction: Whether it lies between 0 and 1, and is shown in percent.
        base: The base optimizer of every method, such as "SGD".
        trainer: "samson" for the loop of this package, or `MODULE:FUNCTION`.
        recipe: How the network is trained, by the names of the recipe's settings.
        select: Patterns of the layers that lie on the chips; empty for those that do by default.
    """

    name: str
    data: str
    network: str
    task: str
    metric: str
    higher_is_better: bool
    is_fraction: bool
    base: str
    trainer: str
    recipe: Settings
    select: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """How settings are chosen before the runs; the test split plays no part.

    Args:
        trials: Settings that are tried for each method.
        sampler: "grid", "random" or "tpe".
        chosen_by: "blind" for the validation split without noise, or the name of a family of chips, on whose chips the
            validation split is measured ("informed").
        seeds: Training seeds for each of the settings; none of them is a seed of the runs.
    """

    trials: int
    sampler: str = "grid"
    chosen_by: str = "blind"
    seeds: int = 1


@dataclass(frozen=True)
class Planned:
    """A problem with its methods.

    Args:
        problem: The problem.
        methods: Each method's settings, in the order asked for.
        candidates: The settings that a search chooses, by method.
    """

    problem: Problem
    methods: dict[str, Settings]
    candidates: dict[str, Candidates]


@dataclass(frozen=True, repr=False)
class Configuration(Shown):
    """What a comparison runs: problems x methods x seeds, and every network on every family of chips.

    Args:
        problems: The problems with their methods.
        families: The families of chips.
        trials: Chips per network and kind.
        seeds: Number of training seeds, 0 to seeds − 1.
        chip_seed: Seed of the set of chips.
        examples: Test examples that are put on the chips; None takes all.
        device: Where networks are trained and put on chips.
        search: How settings are chosen; None takes them as they are.
        command: The command that runs it again.
        version: Version of this layout.
    """

    problems: tuple[Planned, ...]
    families: tuple[ChipFamily, ...]
    trials: int
    seeds: int
    chip_seed: int = 0
    examples: int | None = None
    device: str = "cpu"
    search: Search | None = None
    command: str = ""
    version: int = VERSION

    @property
    def runs(self) -> int:
        """The number of runs."""
        return self.seeds * sum(len(planned.methods) for planned in self.problems)

    def __str__(self) -> str:
        lines = [f"{planned.problem.name}: {', '.join(planned.methods)}" for planned in self.problems]
        families = ", ".join(family.name for family in self.families)
        what = f"{counted(self.runs, 'run')}, each on {self.trials} chips of every kind: {families}"
        return "\n".join([what, *lines])


def finite(value: float | str) -> float | str:
    """A setting as a record holds it: infinity becomes "inf"."""
    return value if isinstance(value, str) or math.isfinite(value) else str(value)
