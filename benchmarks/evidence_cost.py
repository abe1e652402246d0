"""What a training step of each method takes over a plain one, on the network and the data of each task.

    python -m benchmarks.evidence_cost           # about five minutes on one core that does nothing else

All methods of a task, with their informed settings, step in turn on one mini-batch, round after round, in one process
with one thread; a step is one of the training loop itself. A ratio is the median over rounds of a method's step to the
plain one of the same round, with the quartiles. Reading and augmenting the data is left out: it is the same for all.

Writes `benchmarks/records/evidence-costs.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.evidence import METHODS, TASKS, confirming, data_root, label_of, winners
from benchmarks.timing import Step, in_turn, ratio
from benchmarks.writing import write
from samson.experiments import Job, Loop, Splits, jobs_of, load_data_set, one_thread, plan_suite, planned_run

RECORD = Path(__file__).parent / "records" / "evidence-costs.json"
ROUNDS, UNCOUNTED, SEED = {False: 100, True: 11}, 2, 0
"""Rounds of a small task, and of a large one, whose steps take so long that few are enough."""


def step(job: Job, splits: Splits) -> Step:
    """A step of a job's training, again and again on its first mini-batch."""
    loop = Loop(planned_run(job.problem, job.method, SEED, splits))
    batch = next(loop.batches())
    return lambda: loop.advance(*batch)


def costs(name: str) -> dict[str, list[float]]:
    """Of each method of a task: the median of its step over the plain one, then the lower and the upper quartile."""
    own = winners(name)
    chosen = {method: own[label_of(method, "informed")] for method in TASKS[name].methods}
    of = {method: (METHODS[known][0], settings) for method, (known, settings) in chosen.items()}
    suite = {**confirming(name, of, TASKS[name].epochs), "data_root": str(data_root()), "seeds": 1}
    splits = load_data_set(TASKS[name].problem["data"], data_root())
    rounds = ROUNDS[TASKS[name].large]
    seconds = in_turn({job.method.name: step(job, splits) for job in jobs_of(plan_suite(suite))}, rounds, UNCOUNTED)
    found = {method: ratio(values, seconds["plain"]) for method, values in seconds.items()}
    sys.stderr.write(f"{name} {found}\n")
    return found


if __name__ == "__main__":
    with one_thread():
        write(RECORD, {"costs": {name: costs(name) for name in TASKS}})
