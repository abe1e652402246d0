"""What a training step of each method takes over a plain one, on the network and the data of each task.

    python -m benchmarks.evidence_cost           # about five minutes on one core that does nothing else

All methods of a task, with their informed settings, step in turn on one mini-batch, round after round, in one process
with one thread and the precision of their trainings. A ratio is the median over rounds of a method's step to the plain
one of the same round, with the quartiles. Reading and augmenting the data is left out: it is the same for all.

Writes `benchmarks/records/evidence-costs.json`.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.evidence import METHODS, TASKS, confirming, data_root, label_of, winners
from benchmarks.timing import Step, in_order, in_turn, ratio
from benchmarks.writing import write
from samson.experiments import Job, Splits, jobs_of, load_data_set, make_network, make_task, one_thread, plan_suite

RECORD = Path(__file__).parent / "records" / "evidence-costs.json"
ROUNDS, UNCOUNTED, SEED = {False: 100, True: 11}, 2, 0
"""Rounds of a small task, and of a large one, whose steps take so long that few are enough."""


def step(job: Job, splits: Splits) -> Step:
    """A training step of a job's method on one mini-batch."""
    record, recipe, cpu = job.problem.record, job.problem.recipe, torch.device("cpu")
    inputs, targets = next(splits.batches(recipe.batch_size, seed=SEED, epoch=0, device=cpu, augment=splits.augment))
    model = make_network(record.network, splits.shape, splits.outputs, SEED).train()
    if len(splits.shape) == 3:
        model, inputs = in_order(model, torch.channels_last), inputs.contiguous(memory_format=torch.channels_last)
    optimizer = job.method.build(model, SEED, 10_000, [inputs]).optimizer
    task, short = make_task(record.task), recipe.precision == "bfloat16"

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if short else nullcontext():
            outputs = model(inputs)
        loss = task.loss(outputs.float(), targets, recipe.label_smoothing)
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)  # type: ignore[arg-type]  # in the stub a float


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
