"""The evidence: several tasks, every method with equal effort, new seeds and the test split at the end.

    python -m benchmarks.evidence search TASK      # candidates on the validation split; killed, it goes on
    python -m benchmarks.evidence confirm TASK     # the winners with new seeds on the test split; killed, it goes on
    python -m benchmarks.evidence pack TASK        # the confirming run records into one file, to be committed

`search` writes a line for each training to `benchmarks/results/TASK-search.jsonl`: accuracy (or bits) without noise and
on Gaussian validation chips. Two winners come out of the same trainings: "blind" by the value without noise alone, as a
method that knows no chip must be tuned, and "informed" by the mean over chips. Ties go to the later candidate, which
perturbs more. `confirm` trains both winners of every method with seeds that the search did not use, and puts each
network on all chips of `CHIPS`. `benchmarks/hypotheses.md` was written before any confirming run.

Data other than those inside packages are read below `SAMSON_DATA`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from samson.evaluation import clean_value
from samson.experiments import (
    Job,
    compare_suite,
    jobs_of,
    load_data_set,
    make_task,
    one_thread,
    plan_suite,
    ranges_of,
    sweep,
    trained,
)
from samson.noise import Quantize

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parent.parent / "runs" / "evidence"
FIRST_SEED = 100
"""Of the search; confirming seeds count from 0."""
SEARCH_CHIP_SEED = 1


def three_bits() -> Quantize:
    """Weights of three bits, per output channel."""
    return Quantize(bits=3, scheme="symmetric", per="channel")


CHIPS: list[dict[str, Any]] = [
    {"noise": "gaussian", "levels": [0.05, 0.1, 0.15, 0.2, 0.3]},
    {"noise": "pcm", "levels": ["1h", "1d", "1y", "10y"]},
    {"noise": "bit-errors", "levels": [1e-3, 5e-3, 0.01]},
    {"chip": ["int4", f"{__name__}:three_bits"], "name": "few bits"},
    {"noise": "lognormal", "levels": [0.3]},
]
PERIPHERY: dict[str, Any] = {"chip": "standard-hwa", "times": ["1d"]}
"""For networks whose layers hooks reach."""


@dataclass(frozen=True)
class Task:
    """A problem of the evidence.

    Args:
        problem: Its tables in a suite.
        seeds: Seeds of the search.
        confirming: Seeds of the confirmation.
        levels: Gaussian levels of the search.
        periphery: Whether the standard periphery is among the chips.
        examples: Test examples on chips; None takes all.
        trials: Chips of each kind.
    """

    problem: dict[str, Any]
    seeds: int = 1
    confirming: int = 3
    levels: tuple[float, ...] = (0.05, 0.1, 0.2)
    periphery: bool = True
    examples: int | None = 2000
    trials: int = 10


TASKS: dict[str, Task] = {
    "japanese-vowels": Task(
        {"data": "japanese-vowels", "network": "gru", "base": "AdamW", "recipe": {"epochs": 60}},
        seeds=2,
        confirming=5,
        periphery=False,
        examples=None,
    ),
    "fashion-mnist": Task({"data": "fashion-mnist", "network": "vgg13-narrow", "recipe": {"epochs": 6}}),
    "tiny-shakespeare": Task(
        {"data": "tiny-shakespeare", "network": "gpt-tiny", "base": "AdamW", "recipe": {"epochs": 5}},
        levels=(0.02, 0.05, 0.1),
    ),
    "cifar10-resnet20": Task({"data": "cifar10", "network": "resnet20", "recipe": {"epochs": 15}}),
    "cifar10-mobilenetv2": Task({"data": "cifar10", "network": "mobilenetv2-narrow", "recipe": {"epochs": 10}}),
}

SIGMAS, RADII = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4), (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
ALPHAS = (1.2, 1.5, 2.0, 2.5, 3.0, 4.0)
TIGHT = (1.5, 2.5)

METHODS: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {
    "plain": ("plain", {}),
    "noise": ("noise", {"sigma": SIGMAS}),
    "rwp": ("rwp", {"sigma": (0.1, 0.2, 0.3, 0.4, 0.6, 0.9)}),
    "clip": ("clip", {"alpha": ALPHAS}),
    "channel-clip": ("channel-clip", {"alpha": ALPHAS}),
    "sam": ("sam", {"rho": (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)}),
    "asam": ("asam", {"rho": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)}),
    "samson": ("samson", {"rho": RADII}),
    "samson-p2": ("samson", {"rho": (0.5, 1.0, 2.0, 5.0, 10.0, 20.0), "p": (2.0,)}),
    "rangesam": ("rangesam", {"rho": RADII}),
    "noise+clip": ("noise+clip", {"sigma": (0.05, 0.1, 0.2), "alpha": TIGHT}),
    "rwp+clip": ("rwp+clip", {"sigma": (0.1, 0.2, 0.4), "alpha": TIGHT}),
    "sam+clip": ("sam+clip", {"rho": (0.05, 0.1, 0.2), "alpha": TIGHT}),
    "asam+clip": ("asam+clip", {"rho": (0.25, 0.5, 1.0), "alpha": TIGHT}),
    "samson+clip": ("samson+clip", {"rho": (0.1, 0.2, 0.5), "alpha": TIGHT}),
    "samson-p2+clip": ("samson+clip", {"rho": (1.0, 2.0, 5.0), "p": (2.0,), "alpha": TIGHT}),
    "rangesam+clip": ("rangesam+clip", {"rho": (0.25, 0.5, 1.0), "alpha": TIGHT}),
}
"""By the name in the evidence: the method, and six candidates for its own settings."""

Settings = dict[str, float]


def candidates(name: str) -> list[Settings]:
    """Every candidate of a method, the weaker perturbation first."""
    grid = METHODS[name][1]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def searched(task: str) -> Path:
    """Where the lines of a search are."""
    return RESULTS / f"{task}-search.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; one that was cut off in the middle is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def job_of(task: Task, name: str, settings: Settings, seed: int) -> Job:
    """One training of the search."""
    table = {
        **task.problem,
        "methods": [{"method": METHODS[name][0], "name": name, **settings}],
        "chips": [{"noise": "gaussian", "levels": list(task.levels)}],
        "trials": 6,
        "chip_seed": SEARCH_CHIP_SEED,
        "data_root": str(data_root()),
    }
    return replace(jobs_of(plan_suite(table))[0], seed=seed)


def data_root() -> Path:
    """Where files of data are."""
    return Path(os.environ.get("SAMSON_DATA", "data"))


def search(name: str) -> None:
    """Train every candidate that has no line yet, and write one for each."""
    task, path = TASKS[name], searched(name)
    path.parent.mkdir(exist_ok=True)
    known = {json.dumps([line["method"], line["settings"], line["seed"]]) for line in lines(path)}
    every = [(m, c, FIRST_SEED + s) for s in range(task.seeds) for m in METHODS for c in candidates(m)]
    left = [one for one in every if json.dumps(list(one)) not in known]
    for number, (method, settings, seed) in enumerate(left, start=1):
        line = {"method": method, "settings": settings, "seed": seed, **measured(task, method, settings, seed)}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stderr.write(f"{number}/{len(left)} {json.dumps(line)}\n")


def measured(task: Task, name: str, settings: Settings, seed: int) -> dict[str, Any]:
    """Train, and measure on the validation split."""
    job = job_of(task, name, settings, seed)
    splits = load_data_set(job.problem.record.data, job.data_root)
    kept = RUNS / "search" / blake2b(repr((job.name, settings)).encode(), digest_size=8).hexdigest()
    with one_thread():
        model, training = trained(job.problem, job.method, seed, splits, kept, lambda *_: None)
        shutil.rmtree(kept, ignore_errors=True)
        if model is None:
            return {"diverged": training.diverged_at}
        metric = make_task(job.problem.record.task).metric
        data = splits.some("validation", task.examples)
        [found] = sweep(model, data, metric, job, lambda *_: None, ranges_of(model, training, job, splits))
        return {
            "clean": clean_value(model, data, metric),
            "chips": [round(float(np.mean(values)), 6) for values in found],
            "gradients": training.gradients,
            "seconds": round(training.seconds, 1),
        }


def winners(name: str) -> dict[str, tuple[str, Settings]]:
    """Both winners of every method, by a name for the confirmation; one entry where they are the same."""
    found: dict[str, tuple[str, Settings]] = {}
    sign = -1 if TASKS[name].problem.get("data") == "tiny-shakespeare" else 1
    table = lines(searched(name))
    for method in METHODS:
        for criterion in ("blind", "informed"):
            scores = [_score(table, method, settings, criterion, sign) for settings in candidates(method)]
            best = max(index for index, value in enumerate(scores) if value == max(scores))
            found[f"{method}-{criterion}" if METHODS[method][1] else method] = method, candidates(method)[best]
    return found


def _score(table: Iterable[dict[str, Any]], method: str, settings: Settings, criterion: str, sign: int) -> float:
    own = [line for line in table if (line["method"], line["settings"]) == (method, settings)]
    if not own or any("diverged" in line for line in own):
        return -np.inf
    return float(np.mean([sign * (line["clean"] if criterion == "blind" else np.mean(line["chips"])) for line in own]))


def confirm(name: str) -> None:
    """The winners with new seeds, on the test split and all chips."""
    task = TASKS[name]
    table = {
        **task.problem,
        "methods": [
            {"method": METHODS[method][0], "name": label, **settings}
            for label, (method, settings) in winners(name).items()
        ],
        "chips": [*CHIPS, *([PERIPHERY] if task.periphery else [])],
        "seeds": task.confirming,
        "trials": task.trials,
        "examples": task.examples,
        "data_root": str(data_root()),
    }
    compare_suite({key: value for key, value in table.items() if value is not None}, RUNS / name)
    pack(name)


def pack(name: str) -> None:
    """Put the run records that are there into one file."""
    records = sorted((RUNS / name / "records").rglob("*.json"))
    data = json.dumps([json.loads(path.read_text()) for path in records])
    (RESULTS / f"{name}.json.gz").write_bytes(gzip.compress(data.encode(), mtime=0))


if __name__ == "__main__":
    {"search": search, "confirm": confirm, "pack": pack}[sys.argv[1]](sys.argv[2])
