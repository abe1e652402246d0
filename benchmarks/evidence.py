"""The evidence: several tasks, every method tuned by the same rule, new seeds and the test split at the end.

    python -m benchmarks.evidence search TASK      # candidates on the validation split; killed, it goes on
    python -m benchmarks.evidence suites TASK      # the winners with new seeds on the test split, as files to be run
    python -m benchmarks.evidence confirm TASK     # the same files run, one after the other; killed, it goes on
    python -m benchmarks.evidence sharpness TASK   # how sharp the confirming networks are; killed, it goes on
    python -m benchmarks.evidence pack TASK        # the confirming run records into one file, to be committed
    python -m benchmarks.evidence unpack TASK      # and out of it, for `samson report runs/evidence/TASK/whole`

`search` writes a line for each training to `benchmarks/results/TASK-search.jsonl`: the value without noise, and on
Gaussian validation chips. It has three rounds. First the base optimizer alone: its learning rate and weight decay, by
the value without noise; every method has the winner's. Then six candidates for each method's own settings with a third
of the epochs; the better half by either criterion go on. Then these with all epochs. "blind" is the value without noise
alone, as a method that knows no chip must be tuned; "informed" is the mean over chips. Ties go to the later candidate,
which perturbs more, or clips less.

Large tasks, whose trainings take minutes, have fewer methods, five candidates, and two rounds: the second has half of
the epochs, and decides. Where a winner is at the end of its grid, the search goes on beyond. Blind winners are trained
of those methods alone that a hypothesis compares so; half of the epochs have the informed ones. The largest tasks
search their base optimizer alone, with half of the epochs, and take over the informed winners of another task.

`confirm` trains both winners of every method with seeds that the search did not use, once where they are the same, and
puts each network on all chips of `CHIPS`; then the methods with two gradients a step once more with half the epochs, so
with as many gradients as the others. `benchmarks/hypotheses.md` says what was written before which of these runs.

Data other than those inside packages are read below `SAMSON_DATA`.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
    measure_folder,
    one_thread,
    plan_suite,
    ranges_of,
    sweep,
    trained,
)
from samson.noise import Quantize
from samson.records import RunRecord, Training, read_json, record_path, run_name, write_json

Settings = dict[str, float]
Key = tuple[int, str, Settings, int]
"""Of a training in the search: round, method, settings, seed."""
Lines = list[dict[str, Any]]
"""What a search wrote."""
Table = dict[str, Any]
"""Of a suite."""
Chips = tuple[tuple[tuple[float, ...], ...], ...]
"""A value for each family, kind and chip."""

RESULTS = Path(__file__).parent / "results"
RUNS = Path(__file__).parent.parent / "runs" / "evidence"
FIRST_SEED = 100
"""Of the search; confirming seeds count from 0."""
CRITERIA = ("blind", "informed")
SEARCH_CHIP_SEED = 1
SHARP = 2000
"""Training examples of a large task on which sharpness is measured."""


def three_bits() -> Quantize:
    """Weights of three bits, per output channel."""
    return Quantize(bits=3, scheme="symmetric", per="channel")


CHIPS: list[dict[str, Any]] = [
    {"noise": "gaussian", "levels": [0.05, 0.1, 0.15, 0.2, 0.3]},
    {"noise": "pcm", "levels": ["1h", "1d", "1y", "10y"]},
    {"noise": "bit-errors", "levels": [1e-3, 5e-3, 0.01]},
    {"chip": ["int4", "benchmarks.evidence:three_bits"], "name": "few bits"},
    {"noise": "lognormal", "levels": [0.3]},
    {"chip": "standard-hwa", "times": ["1d"]},
]


BASES: dict[str, list[Settings]] = {
    base: [{"lr": lr, "weight_decay": decay} for lr in rates for decay in decays]
    for base, rates, decays in (("SGD", (0.05, 0.1, 0.2), (5e-4, 2e-3)), ("AdamW", (1e-3, 3e-3, 1e-2), (0.01, 0.1)))
}


@dataclass(frozen=True)
class Task:
    """A problem of the evidence.

    Args:
        problem: Its tables in a suite.
        seeds: Seeds of the search.
        confirming: Seeds of the confirmation.
        levels: Gaussian levels of the search.
        examples: Test examples on chips; None takes all.
        trials: Chips of each kind.
        sign: 1 where larger is better, −1 where smaller is.
        large: Whether a training takes minutes.
        winners_of: A large task from which methods have their settings; None searches them.
    """

    problem: dict[str, Any]
    seeds: int = 1
    confirming: int = 3
    levels: tuple[float, ...] = (0.05, 0.1, 0.2)
    examples: int | None = 2000
    trials: int = 10
    sign: int = 1
    large: bool = False
    winners_of: str | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Which are compared."""
        return LARGEST if self.winners_of else LARGE if self.large else SMALL

    @property
    def blind(self) -> tuple[str, ...]:
        """Of which the blind winner is trained too."""
        return () if self.winners_of else BLIND if self.large else SMALL

    @property
    def last_round(self) -> int:
        """The round of the search that decides."""
        return 1 if self.large else 2

    @property
    def epochs(self) -> int:
        """Of a whole training."""
        return int(self.problem["recipe"]["epochs"])

    @property
    def bases(self) -> list[Settings]:
        """Candidates for the base optimizer."""
        return BASES[self.problem.get("base", "SGD")]


TASKS: dict[str, Task] = {
    "digits": Task(
        {"data": "digits", "network": "small-resnet", "recipe": {"epochs": 30}}, seeds=2, confirming=5, examples=None
    ),
    "japanese-vowels": Task(
        {"data": "japanese-vowels", "network": "gru", "base": "AdamW", "recipe": {"epochs": 60}},
        seeds=5,
        confirming=5,
        examples=None,
    ),
    "fashion-mnist": Task(
        {"data": "fashion-mnist", "network": "vgg13-narrow", "recipe": {"epochs": 4}},
        confirming=5,
        trials=6,
        large=True,
    ),
    "tiny-shakespeare": Task(
        {
            "data": "tiny-shakespeare",
            "network": "gpt-tiny",
            "base": "AdamW",
            "recipe": {"epochs": 4, "precision": "float32"},
        },
        confirming=5,
        examples=400,
        levels=(0.02, 0.05, 0.1),
        sign=-1,
        trials=6,
        large=True,
    ),
    "cifar10-resnet20": Task(
        {"data": "cifar10", "network": "resnet20", "recipe": {"epochs": 6, "precision": "bfloat16"}},
        trials=6,
        large=True,
        winners_of="fashion-mnist",
    ),
    "cifar10-mobilenetv2": Task(
        {"data": "cifar10", "network": "mobilenetv2-tiny", "recipe": {"epochs": 6, "precision": "float32"}},
        trials=6,
        large=True,
        winners_of="fashion-mnist",
    ),
}

SIGMAS, RADII = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4), (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
ALPHAS = (1.2, 1.5, 2.0, 2.5, 3.0, 4.0)
TIGHT = (1.5, 2.5)
LEARNED = "rangesam+learned-range"
"""What `benchmarks/recipe.py` found on the digits; with the penalty that it had there."""

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
    LEARNED: (LEARNED, {"rho": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0), "penalty": (1.0,)}),
}
"""By the name in the evidence: the method, and six candidates for its own settings."""

SMALL = tuple(name for name in METHODS if name != LEARNED)
CLIPPED = ("samson+clip", "rangesam+clip", LEARNED)
LARGE = ("plain", "noise", "clip", "sam", "asam", "samson", "noise+clip", "sam+clip", "asam+clip", *CLIPPED)
LARGEST = ("plain", "clip", "sam", "asam", "samson", "noise+clip", *CLIPPED)
"""The methods of small tasks, of large ones, and of those that search none."""
BLIND = ("sam", "asam", "samson", "sam+clip", "asam+clip", "samson+clip")
STEPS = 2
"""How often a large task goes on beyond the end of a method's grid, by either criterion."""


def candidates(name: str, method: str) -> list[Settings]:
    """Every candidate of a method on a task, the weaker perturbation first.

    A large task begins with five. When they have lines, and the best by a criterion has the smallest or the largest
    strength of those that are else alike, half or twice of it is a candidate too, up to `STEPS` times.
    """
    grid = METHODS[method][1]
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not (TASKS[name].large and grid):
        return every
    found, strength, table = every[:5], next(iter(grid)), of(name)
    done = [line["settings"] for line in table if (line["round"], line["method"]) == (1, method)]
    for criterion, _ in itertools.product(CRITERIA, range(STEPS)):
        if any(settings not in done for settings in found):
            break
        scores = [score(name, 1, method, settings, criterion, table) for settings in found]
        best = found[int(np.argmax(scores))]
        strengths = [settings[strength] for settings in found if {**settings, strength: best[strength]} == best]
        for end, factor in ((min(strengths), 0.5), (max(strengths), 2.0)):
            if best[strength] == end:
                found.append({**best, strength: round(factor * end, 6)})
    return sorted(found, key=lambda settings: tuple(settings.values()))


def label_of(method: str, criterion: str) -> str:
    """The name of a winner; a method without settings has one."""
    return f"{method}-{criterion}" if METHODS[method][1] else method


def bare(label: str) -> str:
    """A method's name without the criterion."""
    for criterion in CRITERIA:
        label = label.removesuffix(f"-{criterion}")
    return label


def searched(task: str) -> Path:
    """Where the lines of a search are."""
    return RESULTS / f"{task}-search.jsonl"


def lines(path: Path) -> Lines:
    """The lines of a file; one that was cut off in the middle is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def add(path: Path, line: dict[str, Any], told: str) -> None:
    """Write a line at the end of a file, and on standard error with what else is told."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    sys.stderr.write(f"{told} {json.dumps(line)}\n")


def data_root() -> Path:
    """Where files of data are."""
    return Path(os.environ.get("SAMSON_DATA", "data"))


def search(name: str) -> None:
    """Train every candidate of every round that has no line yet, and write one for each."""
    for keys in (of_the_base,) if TASKS[name].winners_of else (of_the_base, short, whole):
        while left := without_line(name, keys(name)):
            for number, key in enumerate(left, start=1):
                line = dict(zip(("round", "method", "settings", "seed"), key, strict=True)) | measured(name, key)
                add(searched(name), line, f"{keys.__name__} {number}/{len(left)}")


def without_line(name: str, keys: list[Key]) -> list[Key]:
    """What is still to be trained."""
    known = {json.dumps([line["round"], line["method"], line["settings"], line["seed"]]) for line in of(name)}
    return [key for key in keys if json.dumps(key) not in known]


def of_the_base(name: str) -> list[Key]:
    """The trainings of the first round."""
    task = TASKS[name]
    return [(0, "plain", base, seed) for base in task.bases for seed in seeds(task)]


def short(name: str) -> list[Key]:
    """Those of the second."""
    every = [(method, settings) for method in TASKS[name].methods for settings in candidates(name, method)]
    return [(1, method, settings, seed) for seed in seeds(TASKS[name]) for method, settings in every]


def whole(name: str) -> list[Key]:
    """Those of the third, if there is one."""
    task, table = TASKS[name], of(name)
    better = {method: finalists(name, method, table) for method in task.methods} if task.last_round == 2 else {}
    return [(2, method, settings, seed) for seed in seeds(task) for method in better for settings in better[method]]


def finalists(name: str, method: str, table: Lines) -> list[Settings]:
    """The better half of a method's candidates in the short trainings, by either criterion; all where these decide."""
    every = candidates(name, method)
    if TASKS[name].last_round == 1:
        return every
    found: set[int] = set()
    for criterion in CRITERIA:
        scores = [score(name, 1, method, settings, criterion, table) for settings in every]
        found |= set(sorted(range(len(every)), key=lambda index: (-scores[index], -index))[: (len(every) + 1) // 2])
    return [every[index] for index in sorted(found)]


def seeds(task: Task) -> range:
    """Those of the search."""
    return range(FIRST_SEED, FIRST_SEED + task.seeds)


def measured(name: str, key: Key) -> dict[str, Any]:
    """Train, and measure on the validation split."""
    task, (number, method, settings, seed) = TASKS[name], key
    few = number == 1 or task.winners_of is not None
    epochs = max(1, task.epochs // (2 if task.large else 3)) if few else task.epochs
    base = {} if number == 0 else base_of(name)
    return tried(name, METHODS[method][0], {**base, **settings}, epochs, seed)


def tried(name: str, method: str, settings: dict[str, Any], epochs: int, seed: int, **recipe: Any) -> dict[str, Any]:
    """Train a network of a task, by another recipe if one is given, and measure it on the validation split."""
    task = TASKS[name]
    table = {
        **task.problem,
        "recipe": {**task.problem["recipe"], "epochs": epochs, **recipe},
        "methods": [{"method": method, "name": "tried", **settings}],
        "chips": [{"noise": "gaussian", "levels": list(task.levels)}],
        "trials": 6,
        "chip_seed": SEARCH_CHIP_SEED,
        "data_root": str(data_root()),
    }
    job = dataclasses.replace(jobs_of(plan_suite(table))[0], seed=seed)
    which = repr((name, method, settings, epochs, seed, recipe))
    kept_in = RUNS / "search" / blake2b(which.encode(), digest_size=8).hexdigest()
    training, clean, families = on_validation(job, task.examples, kept_in)
    if clean is None:
        return {"diverged": training.diverged_at}
    [found] = families
    return {
        "clean": clean,
        "chips": [round(float(np.mean(values)), 6) for values in found],
        "gradients": training.gradients,
        "seconds": round(training.seconds, 1),
    }


def on_validation(job: Job, examples: int | None, kept_in: Path | None = None) -> tuple[Training, float | None, Chips]:
    """Train the network of a job, and measure it on the validation split: without noise and on every chip.

    Args:
        job: Its first training and all its chips.
        examples: Of the validation split; None takes all.
        kept_in: A folder for the training while it runs, so that it can go on.

    Returns:
        The training, the value without noise, and those on chips; None and nothing where the training diverged.
    """
    splits = load_data_set(job.problem.record.data, job.plan.data_root)
    with one_thread():
        model, training = trained(job.problem, job.method, job.seed, splits, kept_in, lambda *_: None)
        if kept_in is not None:
            shutil.rmtree(kept_in, ignore_errors=True)
        if model is None:
            return training, None, ()
        metric = make_task(job.problem.record.task).metric
        data = splits.some("validation", examples)
        ranges = ranges_of(model, training, job, splits)
        found = sweep(model, data, job, lambda *_: None, ranges, splits)
        return training, clean_value(model, data, metric), found


def base_of(name: str) -> Settings:
    """The settings of the base optimizer that every method has: the best of the first round without noise."""
    table = of(name)
    return max(TASKS[name].bases, key=lambda settings: score(name, 0, "plain", settings, "blind", table))


def of(name: str) -> Lines:
    """The lines of a task's search."""
    return lines(searched(name))


def score(name: str, number: int, method: str, settings: Settings, criterion: str, table: Lines) -> float:
    """The mean over a round's seeds by a criterion, larger is better; −∞ where one diverged or nothing was trained."""
    own = [line for line in table if (line["round"], line["method"], line["settings"]) == (number, method, settings)]
    if not own or any("diverged" in line for line in own):
        return -np.inf
    sign = TASKS[name].sign
    return float(np.mean([sign * (line["clean"] if criterion == "blind" else np.mean(line["chips"])) for line in own]))


@cache
def gradients(name: str, method: str) -> int:
    """How many a training of the last round took, where the task has its winners from."""
    name = TASKS[name].winners_of or name
    number = TASKS[name].last_round
    return max(line.get("gradients", 0) for line in of(name) if (line["round"], line["method"]) == (number, method))


@cache
def winners(name: str) -> dict[str, tuple[str, Settings]]:
    """The winners of every method, by a name for the confirmation; one entry where it has no settings of its own."""
    task, table = TASKS[name], of(name)
    found: dict[str, tuple[str, Settings]] = {}
    for method, criterion in itertools.product(task.methods, CRITERIA):
        if criterion == "blind" and method not in task.blind:
            continue
        label = label_of(method, criterion)
        if task.winners_of:
            found[label] = winners(task.winners_of)[label]
            continue
        every = finalists(name, method, table)
        scores = [score(name, task.last_round, method, settings, criterion, table) for settings in every]
        found[label] = method, every[max(index for index, value in enumerate(scores) if value == max(scores))]
    return found


def twins(name: str) -> dict[str, str]:
    """By which name each winner is trained: its own, or that of the blind one where both are the same."""
    own = winners(name)
    return {label: next(other for other in own if own[other] == own[label]) for label in own}


def suites(name: str) -> None:
    """Write the suite of each part of the confirmation, for `samson compare`."""
    for part in parts(name):
        head = f"# By `python -m benchmarks.evidence suites {name}`, from the search.\n"
        lines = [f"{key} = {toml(value)}\n" for key, value in suite(name, part).items()]
        (RESULTS / f"{name}-{part}.toml").write_text(head + "".join(lines), encoding="utf-8")


def toml(value: Any) -> str:
    """A value in TOML; a list of tables has a line for each."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(own)}" for key, own in value.items()) + " }"
    if isinstance(value, list) and isinstance(value[0], dict):
        return "[\n" + "".join(f"  {toml(own)},\n" for own in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def confirm(name: str) -> None:
    """The winners with new seeds, on the test split and all chips."""
    suites(name)
    for part in parts(name):
        run(suite(name, part), RUNS / name / part)
        pack(name)


def suite(name: str, part: str) -> Table:
    """The tables of a part of the confirmation."""
    own, (epochs, labels) = winners(name), parts(name)[part]
    return confirming(name, {label: (METHODS[own[label][0]][0], own[label][1]) for label in labels}, epochs)


def confirming(name: str, chosen: Mapping[str, tuple[str, dict[str, Any]]], epochs: int) -> Table:
    """The tables for methods with the confirming seeds, on the test split and all chips.

    `chosen` has each method and its own settings, by the name that it gets; the base optimizer's are those of the task.
    """
    task, base = TASKS[name], base_of(name)
    found = {
        **task.problem,
        "recipe": {**task.problem["recipe"], "epochs": epochs},
        "methods": [{"method": method, "name": label, **base, **own} for label, (method, own) in chosen.items()],
        "chips": CHIPS,
        "seeds": task.confirming,
        "trials": task.trials,
        "examples": task.examples,
    }
    return {key: value for key, value in found.items() if value is not None}


def run(tables: Table, folder: Path) -> None:
    """Train and measure; a repetition goes on."""
    compare_suite({**tables, "data_root": str(data_root())}, folder)


def parts(name: str) -> dict[str, tuple[int, list[str]]]:
    """The epochs of either part of the confirmation, and the winners that are trained for it."""
    task, own, trained_as = TASKS[name], winners(name), twins(name)
    whole = list(dict.fromkeys(trained_as.values()))
    twice = [label for label in whole if gradients(name, own[label][0]) > gradients(name, "plain")]
    informed = {trained_as[label] for label in own if label.endswith("informed")}
    half = [label for label in twice if label in informed] if task.large else twice
    return {"whole": (task.epochs, whole), "half": (max(1, task.epochs // 2), half)}


def pack(name: str) -> None:
    """Put the run records that are there into one file."""
    records = sorted((RUNS / name).glob("*/records/**/*.json"))
    data = json.dumps([json.loads(path.read_text()) for path in records])
    (RESULTS / f"{name}.json.gz").write_bytes(gzip.compress(data.encode(), mtime=0))


def packed(name: str) -> list[dict[str, Any]]:
    """The run records in that file; none if it is not there."""
    return _packed(RESULTS / f"{name}.json.gz")


@cache
def _packed(path: Path) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else []


def part_of(name: str, record: dict[str, Any]) -> str:
    """Which part of a task's confirmation a record belongs to."""
    [epochs] = [task.epochs for own, task in TASKS.items() if name.startswith(own)]
    return "whole" if record["problem"]["recipe"]["epochs"] >= epochs else "half"


def unpack(name: str, runs: Path = RUNS) -> None:
    """Put the packed run records where they were, or below another folder, but leave those that are there.

    All describe their chips as the newest does: older code had words for less, and made the same chips (a repeated run
    of `japanese-vowels` gave every value bit for bit).
    """
    families = None
    for record in sorted(packed(name), key=lambda record: str(record["finished"]), reverse=True):
        folder = runs / name / part_of(name, record)
        path = record_path(folder, run_name(record["problem"]["name"], record["method"], record["seed"]))
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        found = read_json(path, RunRecord)
        families = families or found.families
        if found.families != families:
            write_json(path, dataclasses.replace(found, families=families))


def sharpness(name: str) -> None:
    """How sharp every network of the whole trainings is, on the training split."""
    [record] = measure_folder(
        RUNS / name / "whole",
        trials=TASKS[name].trials,
        examples=SHARP if TASKS[name].large else None,
        progress=lambda network, done, total: print(f"{done}/{total} {network}", file=sys.stderr),
        data_root=data_root(),
    )
    rows = [
        {"method": n.method, "seed": n.seed, "measures": {key: value.mean for key, value in n.measures.items()}}
        for n in record.networks
    ]
    found = {"settings": dataclasses.asdict(record.settings), "networks": rows}
    (RESULTS / f"{name}-sharpness.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    commands = {one.__name__: one for one in (search, suites, confirm, sharpness, pack, unpack)}
    commands[sys.argv[1]](sys.argv[2])
