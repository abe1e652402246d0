"""Do the methods keep their order where plain training is trained for longer?

    python -m benchmarks.longer TASK    # killed, it goes on

On Fashion-MNIST and CIFAR-10 plain training stays below what is known to be reachable (`docs/evidence.md`), and a gain
over a badly trained network proves little. So some methods are trained once more with four times as many epochs. All
else is as in the confirmation: its settings, which shorter trainings chose, its seeds, test split and chips. Records go
to `benchmarks/results/TASK-longer.json.gz`; `benchmarks/hypotheses.md` says what was written before.
"""

from __future__ import annotations

import sys

from benchmarks.evidence import METHODS, RUNS, TASKS, confirming, label_of, pack, run, winners

FACTOR = 4
COMPARED = ("plain", "clip", "samson+clip", "rangesam+clip")

if __name__ == "__main__":
    task, own = sys.argv[1], winners(sys.argv[1])
    labels = {label_of(method, "informed"): METHODS[method][0] for method in COMPARED}
    chosen = {label: (method, own[label][1]) for label, method in labels.items()}
    run(confirming(task, chosen, FACTOR * TASKS[task].epochs), RUNS / f"{task}-longer" / "whole")
    pack(f"{task}-longer")
