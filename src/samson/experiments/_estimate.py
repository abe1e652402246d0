"""How long a comparison would take, from a few timed steps."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import fmean

import torch

from samson.evaluation import clean_value
from samson.experiments._loop import Loop
from samson.experiments._method import Method
from samson.experiments._networks import make_network
from samson.experiments._place import Place, one_thread
from samson.experiments._plan import Plan, PlannedProblem
from samson.experiments._trained import planned_run
from samson.experiments._training import DivergedError
from samson.experiments.data import Pair, Splits, load_data_set

TIMED = 3
"""Steps that are timed, after a first one, which counts only if it is alone."""
EXAMPLES = 256
"""Test examples that are timed."""


@dataclass(frozen=True)
class Estimate:
    """What one run would take, in seconds on one processor.

    Args:
        problem: What is trained on.
        method: The method.
        training: Seconds of its training; None for a trainer of one's own, which cannot be timed in part.
        chips: Seconds on all chips.
    """

    problem: str
    method: str
    training: float | None
    chips: float


def estimate(plan: Plan) -> list[Estimate]:
    """Time a few steps of each method on each problem, and a few test examples."""
    found = []
    kinds = sum(len(family.kinds) for family in plan.families)
    with one_thread(), torch.random.fork_rng(devices=[]):
        for problem in plan.problems:
            splits = load_data_set(problem.record.data, plan.data_root)
            size, device = plan.examples_of(problem), torch.device(plan.device)
            chips = _pass_s(problem, splits, device, size) * (1 + kinds * plan.trials)
            for method in problem.methods:
                parts = [method.with_settings(method.grid()[0]), *([method.plain()] if method.distils else [])]
                own = problem.record.trainer != "samson"
                training = None if own else sum(_training_s(problem, splits, part, plan.device) for part in parts)
                found.append(Estimate(problem.record.name, method.name, training, chips))
    return found


def _training_s(problem: PlannedProblem, splits: Splits, method: Method, device: str) -> float:
    run = planned_run(problem, method, 0, splits, place=Place(torch.device(device)))
    loop = Loop(run)
    times = [time.monotonic()]
    for batch in islice(loop.batches(), 1 + TIMED):
        with suppress(DivergedError):  # a step takes its time all the same
            loop.advance(*batch)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        times.append(time.monotonic())
    took = [after - before for before, after in pairwise(times)]
    return loop.total * fmean(took[1:] or took)


def _pass_s(problem: PlannedProblem, splits: Splits, device: torch.device, size: int) -> float:
    """Seconds of one pass over so many examples of the test split."""
    model = make_network(problem.record.network, splits.shape, splits.outputs, 0).to(device)
    found = splits.examples("test", EXAMPLES)
    some: Pair = (found[0][:EXAMPLES], found[1][:EXAMPLES]) if isinstance(found, tuple) else next(iter(found))
    clean_value(model, some, problem.metric)
    started = time.monotonic()
    clean_value(model, some, problem.metric)
    return (time.monotonic() - started) * size / len(some[1])
