"""Do the methods keep their order where plain training is trained for longer?

    python -m benchmarks.longer TASK            # killed, it goes on
    python -m benchmarks.longer search          # on the validation split of Fashion-MNIST; killed, it goes on

On Fashion-MNIST and CIFAR-10 plain training stays below what is known to be reachable (`docs/evidence.md`), and a gain
over a badly trained network proves little. So some methods are trained once more with four times as many epochs. All
else is as in the confirmation: its settings, which shorter trainings chose, its seeds, test split and chips. Records go
to `benchmarks/results/TASK-longer.json.gz`; `benchmarks/hypotheses.md` says what was written before.

With the settings of shorter trainings, methods with clipping break down there. So `search` looks at this length for
settings that do not, with clipping that keeps a layer's norm beside clipping as it is, and writes a line for each
training to `benchmarks/results/fashion-mnist-longer.jsonl`.
"""

from __future__ import annotations

import sys

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


if __name__ == "__main__":
    search() if sys.argv[1] == "search" else confirm(sys.argv[1])
