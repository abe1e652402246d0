"""Is the cosine a good schedule for plain training, or is the baseline of the evidence badly trained?

    python -m benchmarks.schedules TASK      # killed, it goes on

Trains the base optimizer alone with every schedule of the learning rate and as many epochs as the confirmation has, on
small tasks with half and twice the learning rate too, and measures it on the validation split. Writes a line for each
training to `benchmarks/results/schedules.jsonl`; `docs/evidence.md` shows the best learning rate of each schedule.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.evidence import FIRST_SEED, RESULTS, TASKS, Lines, add, base_of, lines, tried

FILE = RESULTS / "schedules.jsonl"
SCHEDULES = ("cosine", "one-cycle", "multi-step", "constant")
FACTORS = (1.0, 0.5, 2.0)
"""Learning rates over the one that was chosen with the cosine; a large task has the first."""
SEEDS = 5
"""Of small tasks; large ones have one."""
EXAMPLES = {"digits": 360, "japanese-vowels": 54}
"""Of the validation splits of small tasks, whose step no interval is narrower than."""


def wanted(task: str) -> list[tuple[str, float, int]]:
    """The trainings of a task: schedule, factor and seed."""
    large = TASKS[task].large
    seeds = range(FIRST_SEED, FIRST_SEED + (1 if large else SEEDS))
    return [(one, factor, seed) for seed in seeds for one in SCHEDULES for factor in FACTORS[: 1 if large else None]]


def complete(task: str) -> bool:
    """Whether every training of a task is there."""
    return {*wanted(task)} <= trained(task)


def trained(task: str) -> set[tuple[str, float, int]]:
    """The trainings that are there."""
    return {(line["schedule"], line["factor"], line["seed"]) for line in of(task)}


def of(task: str) -> Lines:
    """The lines of a task."""
    return [line for line in lines(FILE) if line["task"] == task]


def best(task: str) -> dict[str, tuple[float, list[float]]]:
    """By schedule: the factor with the best mean, and its values without noise, by seed."""
    sign, found = TASKS[task].sign, dict[str, tuple[float, list[float]]]()
    for schedule in SCHEDULES:
        values: dict[float, list[float]] = {factor: [] for factor in FACTORS}
        for line in of(task):
            if line["schedule"] == schedule:
                values[line["factor"]].append(line.get("clean", -sign * np.inf))
        means = {factor: sign * float(np.mean(of_factor)) for factor, of_factor in values.items() if of_factor}
        factor = max(means, key=lambda factor: means[factor])
        found[schedule] = factor, values[factor]
    return found


def search(task: str) -> None:
    """Train what has no line yet."""
    base = base_of(task)
    known = trained(task)
    left = [one for one in wanted(task) if one not in known]
    for number, (schedule, factor, seed) in enumerate(left, start=1):
        settings = {**base, "lr": factor * base["lr"]}
        rises = {"warmup": 0.0} if schedule == "one-cycle" else {}  # which rises itself
        found = tried(task, "plain", settings, TASKS[task].epochs, seed, schedule=schedule, **rises)
        line = {"task": task, "schedule": schedule, "factor": factor, "seed": seed, **found}
        add(FILE, line, f"{number}/{len(left)}")


if __name__ == "__main__":
    search(sys.argv[1])
