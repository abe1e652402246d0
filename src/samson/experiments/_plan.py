"""A comparison that was checked and is ready to be run: its problems, its chips, and the whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samson.experiments._chips import Chips
from samson.experiments._method import Method
from samson.experiments._recipes import Recipe
from samson.records import Configuration, Planned, Problem, Search


@dataclass(frozen=True)
class PlannedProblem:
    """A problem, with the methods that are compared on it, and its number of test examples."""

    record: Problem
    recipe: Recipe
    methods: tuple[Method, ...]
    examples: int

    @property
    def select(self) -> tuple[str, ...] | None:
        """Which layers lie on the chips, as chips take it."""
        return self.record.select or None


@dataclass(frozen=True)
class Plan:
    """A comparison, ready to be run.

    Args:
        problems: Data sets with their networks and methods.
        families: Families of chips on which every network is put.
        trials: Chips of each kind.
        examples: Test examples that are put on the chips, drawn once for all; None takes all.
        seeds: Training seeds.
        chip_seed: Seed of the set of chips.
        device: Where networks are trained and put on chips, such as "cuda".
        data_root: Where files of data are looked for.
        search: How settings are chosen; None takes them as they are.
        command: The command that runs it again.
    """

    problems: tuple[PlannedProblem, ...]
    families: tuple[Chips, ...]
    trials: int = 20
    examples: int | None = None
    seeds: int = 3
    chip_seed: int = 0
    device: str = "cpu"
    data_root: Path = Path("data")
    search: Search | None = None
    command: str = ""

    def record(self) -> Configuration:
        """The plan as records hold it."""
        return Configuration(
            problems=tuple(
                Planned(
                    problem.record,
                    {method.name: method.record() for method in problem.methods},
                    {method.name: method.candidates_record() for method in problem.methods if method.candidates},
                )
                for problem in self.problems
            ),
            families=tuple(family.record() for family in self.families),
            trials=self.trials,
            examples=self.examples,
            seeds=self.seeds,
            chip_seed=self.chip_seed,
            device=self.device,
            search=self.search,
            command=self.command,
        )
