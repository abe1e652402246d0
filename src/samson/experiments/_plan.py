"""A comparison that was checked and is ready to be run: its problems, its chips, the whole, and its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from samson.evaluation import DataSetMetric, ExampleMetric, as_metric
from samson.experiments._chips import Chips
from samson.experiments._method import Method
from samson.experiments._place import Place
from samson.experiments._recipes import Recipe
from samson.experiments._tasks import make_task
from samson.records import Configuration, Planned, Problem, Search, run_name

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on; may raise to stop it."""


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

    @property
    def metric(self) -> ExampleMetric | DataSetMetric:
        """By what its networks are judged."""
        return as_metric(make_task(self.record.task).metric)


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

    def examples_of(self, problem: PlannedProblem) -> int:
        """How many test examples of a problem are put on the chips."""
        return min(self.examples or problem.examples, problem.examples)

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


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Args:
        plan: The comparison; says which chips, and where it is computed.
        problem: What is trained on.
        method: One of the problem's methods, with its settings as they are used.
        seed: Seed of initial weights, order of examples, augmentation and injected noise.
    """

    plan: Plan
    problem: PlannedProblem
    method: Method
    seed: int

    @property
    def place(self) -> Place:
        """Where the run is computed."""
        return Place(torch.device(self.plan.device))

    @property
    def name(self) -> str:
        """What the run is called: the problem, the method and the seed."""
        return run_name(self.problem.record.name, self.method.name, self.seed)


def jobs_of(plan: Plan) -> list[Job]:
    """Every run of a plan: all methods of a problem with one seed come before the next seed."""
    return [
        Job(plan, problem, method, seed)
        for seed in range(plan.seeds)
        for problem in plan.problems
        for method in problem.methods
    ]
