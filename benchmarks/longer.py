"""Do the methods keep their order where plain training is trained for longer?

    python -m benchmarks.longer TASK            # killed, it goes on
    python -m benchmarks.longer search          # on the validation split of Fashion-MNIST; killed, it goes on
    python -m benchmarks.longer confirm         # the best of that with new seeds on the test split

On Fashion-MNIST and CIFAR-10 plain training stays below what is known to be reachable (`docs/evidence.md`), and a gain
over a badly trained network proves little. So some methods are trained once more with four times as many epochs. All
else is as in the confirmation: its settings, which shorter trainings chose, its seeds, test split and chips. Records go
to `benchmarks/results/TASK-longer.json.gz`; `benchmarks/hypotheses.md` says what was written before.

With the settings of shorter trainings, methods with clipping break down there. So `search` looks at this length for
settings that do not, with clipping that keeps a layer's norm beside clipping as it is, and writes a line for each
training to `benchmarks/results/fashion-mnist-longer.jsonl`. Records of `confirm` go to `fashion-mnist-kept.json.gz`.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np

from benchmarks.evidence import (
    FIRST_SEED,
    METHODS,
    RESULTS,
    RUNS,
    TASKS,
    Settings,
    add,
    base_of,
    confirming,
    label_of,
    lines,
    pack,
    packed,
    run,
    tried,
    winners,
)
from benchmarks.evidence_found import Found

FACTOR = 4
COMPARED = ("plain", "clip", "samson+clip", "rangesam+clip")
SEARCHED = "fashion-mnist"
FILE = RESULTS / f"{SEARCHED}-longer.jsonl"
KEPT = {"keep_norm": 1.0}
CANDIDATES: list[tuple[str, Settings]] = [
    ("plain", {}),
    *(("clip", {"alpha": alpha}) for alpha in (1.5, 2.0, 2.5, 3.0)),
    *(("clip", {"alpha": alpha, **KEPT}) for alpha in (1.2, 1.5, 2.0)),
    *(
        (method, {"rho": rho, "alpha": alpha, **KEPT})
        for method, radii in (("samson+clip", (0.1, 0.5)), ("rangesam+clip", (0.5, 1.0)))
        for rho in radii
        for alpha in (1.2, 1.5)
    ),
]


def search() -> None:
    """Train every candidate that has no line yet, with one seed, and measure it on noisy validation chips."""
    epochs = FACTOR * TASKS[SEARCHED].epochs
    known = [(line["method"], line["settings"]) for line in lines(FILE)]
    left = [candidate for candidate in CANDIDATES if candidate not in known]
    for number, (method, settings) in enumerate(left, start=1):
        found = tried(SEARCHED, METHODS[method][0], {**base_of(SEARCHED), **settings}, epochs, FIRST_SEED)
        add(FILE, {"method": method, "settings": settings, "seed": FIRST_SEED, **found}, f"{number}/{len(left)}")


def whole() -> Found:
    """The confirming networks that are there."""
    return Found(SEARCHED, packed(f"{SEARCHED}-longer"))


def confirm(task: str) -> None:
    """The informed winners of shorter trainings, with the confirming seeds."""
    own = winners(task)
    labels = {label_of(method, "informed"): METHODS[method][0] for method in COMPARED}
    chosen = {label: (method, own[label][1]) for label, method in labels.items()}
    run(confirming(task, chosen, FACTOR * TASKS[task].epochs), RUNS / f"{task}-longer" / "whole")
    pack(f"{task}-longer")


def best(method: str, *, kept: bool) -> Settings:
    """The settings of a method that did best in the search on noisy validation chips."""
    own = [line for line in lines(FILE) if line["method"] == method and ("keep_norm" in line["settings"]) == kept]
    found: Settings = max(own, key=lambda line: float(np.mean(line["chips"])))["settings"]
    return found


def confirm_best() -> None:
    """The best of the search, with the confirming seeds on the test split."""
    chosen: dict[str, tuple[str, Settings]] = {"plain": ("plain", {}), "clip-free": ("clip", best("clip", kept=False))}
    chosen |= {f"{method}-kept": (method, best(method, kept=True)) for method in COMPARED[1:]}
    run(confirming(SEARCHED, chosen, FACTOR * TASKS[SEARCHED].epochs), RUNS / f"{SEARCHED}-kept" / "whole")
    pack(f"{SEARCHED}-kept")


if __name__ == "__main__":
    commands = {"search": search, "confirm": confirm_best}
    commands.get(sys.argv[1], partial(confirm, sys.argv[1]))()
