"""Runs of a comparison before they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from samson.experiments._method import Method
from samson.experiments._place import Place
from samson.experiments._plan import Plan, PlannedProblem
from samson.records import run_name

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on; may raise to stop it."""


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread inside the block, so that numbers do not depend on how many runs go side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
