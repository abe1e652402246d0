"""A range test for ρ: one short training in which ρ rises exponentially."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch

from samson._environment import environment
from samson._errors import require
from samson.experiments._loop import Loop, last_perturbation
from samson.experiments._parts import DISTIL, MODES
from samson.experiments._place import Place
from samson.experiments._plan import OnProgress, Plan
from samson.experiments._trained import planned_run
from samson.experiments._training import DivergedError, Run
from samson.experiments.data import load_data_set
from samson.optim import RhoSchedule
from samson.records import RhoPoint, RhoRecord

LOWEST, HIGHEST = 0.01, 100.0
"""The ρ of the first and of the last step."""

POINTS = 16
"""Into which the steps are gathered."""

SHARE = 0.2
"""Of the way from the best perturbed loss back to the loss of the first step: where ρ is large enough."""


def find_rho(plan: Plan, seed: int, place: Place, progress: OnProgress) -> RhoRecord:
    """Train by a plan's first method while ρ rises from step to step, and look at the losses; the network is dropped.

    It ends early where a loss is no finite number.

    Args:
        plan: A plan with one problem and method, which perturbs at each step along its gradient.
        seed: Training seed.
        place: Device and processes.
        progress: Called as work goes on, with the stage "rho".

    Raises:
        SetupError: If the method has no ρ, or it is a ρ that changes, or losses that are not those of each step; with a
            teacher, or a trainer of one's own.
    """
    [problem], [method] = plan.problems, plan.problems[0].methods
    trainer = problem.record.trainer
    require(trainer == "samson", "`train`", "left out with `find_rho`", trainer, "Leave `train` out.")
    known = "rho" in method.settings and ":" not in method.made_of
    mend = "Take for example samson; for a method of your own see docs/choosing-rho.md."
    require(known, "`find_rho`", "for a method of this library with ρ", method.name, mend)
    mend = f"Take {'+'.join(part for part in method.made_of.split('+') if part != DISTIL)}."
    require(not method.distils, "`find_rho`", "for a method without distillation", method.name, mend)
    for name in ("ramp", "every", "ascent", "mix", "budget"):
        value = method.settings[name]
        require(value == MODES[name], f"`set` {name}", f"{MODES[name]} with `find_rho`", value, "Leave it out.")
    splits = load_data_set(problem.record.data, plan.data_root)
    highest = method.with_settings({"rho": HIGHEST})
    run = planned_run(problem, highest, seed, splits, place=place, progress=partial(progress, "rho"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found, total = _losses(run)
    size = math.ceil(total / POINTS)
    points = tuple(_point(found[start : start + size]) for start in range(0, len(found), size))
    mend = "Scale the data, or take a smaller lr."
    require(bool(found), "`find_rho`", "for a training whose first loss is finite", problem.record.name, mend)
    start, about = found[0].clean_loss, environment(place.device.type)
    suggested = suggest_rho(points, start)
    return RhoRecord(problem.record, method.name, method.record(), seed, start, points, suggested, about)


def diverged(record: RhoRecord) -> bool:
    """Whether a range test came to no ρ since its training diverged: it ended early, or no loss was below the first."""
    early = record.points[-1].rho < HIGHEST / 2  # the last point is a mean over steps up to the highest
    return early or all(point.clean_loss >= record.start_loss for point in record.points)


def _losses(run: Run) -> tuple[list[RhoPoint], int]:
    """A point for each step, up to the first loss that is no finite number; and the number of steps in all."""
    loop = Loop(run)
    schedule = RhoSchedule(loop.optimizer, lambda t: (LOWEST / HIGHEST) ** (1 - t), max(loop.total - 1, 1))
    found: list[RhoPoint] = []
    for batch in loop.batches():
        rho = float(loop.optimizer.param_groups[0]["rho"])
        try:
            loop.advance(*batch)
        except DivergedError:
            break
        moved = last_perturbation(loop.optimizer, run.place)
        clean, perturbed = (None, None) if moved is None else (moved.clean_loss, moved.perturbed_loss)
        if clean is None or perturbed is None:
            break
        found.append(RhoPoint(rho, clean, perturbed))
        schedule.step()
    return found, loop.total


def _point(some: Sequence[RhoPoint]) -> RhoPoint:
    count = len(some)
    return RhoPoint(
        math.exp(sum(math.log(point.rho) for point in some) / count),
        sum(point.clean_loss for point in some) / count,
        sum(point.perturbed_loss for point in some) / count,
    )


def suggest_rho(points: Sequence[RhoPoint], start_loss: float) -> float | None:
    """The ρ at which the perturbed loss has lost a fifth of what training gained, to two digits.

    Args:
        points: Losses against ρ, which rises.
        start_loss: The loss before training.

    Returns:
        The first ρ after the lowest perturbed loss where it is lowest + 0.2 · (start − lowest), between points by the
        logarithm; None if training gained nothing, or the perturbed loss does not rise so far.

    Example:
        >>> points = [RhoPoint(0.1, 0.5, 1.0), RhoPoint(1.0, 0.5, 1.0), RhoPoint(10.0, 0.5, 5.0)]
        >>> suggest_rho(points, start_loss=11.0)
        3.2
    """
    lowest = min(points, key=lambda point: point.perturbed_loss, default=None)
    if lowest is None or not lowest.perturbed_loss < start_loss:
        return None
    limit = lowest.perturbed_loss + SHARE * (start_loss - lowest.perturbed_loss)
    for before, after in pairwise(points[points.index(lowest) :]):
        if after.perturbed_loss >= limit:
            way = (limit - before.perturbed_loss) / (after.perturbed_loss - before.perturbed_loss)
            return float(f"{before.rho * (after.rho / before.rho) ** way:.2g}")
    return None
