"""What is left of a method's lead on a large task where its rivals clip as tightly, or train as shortly?

    python -m benchmarks.alike TASK     # killed, it goes on

The search gave `asam+clip` a tighter clipping on tiny-shakespeare than every other method, and shorter training helps
there (`docs/evidence.md`). So two more parts are trained with the confirming seeds and put on the same chips: the
methods whose winner has another `alpha`, each with the best radius that the search tried with this one; and with half
of the epochs the methods with one gradient a step. The run records go to `benchmarks/results/TASK-alike.json.gz`;
`benchmarks/hypotheses.md` says what was written before.
"""

from __future__ import annotations

import sys

from benchmarks.evidence import (
    METHODS,
    RUNS,
    TASKS,
    Settings,
    Table,
    candidates,
    confirming,
    label_of,
    of,
    pack,
    run,
    score,
    winners,
)

ALPHA = 1.5
CLIPPED = ("clip", "sam+clip", "asam+clip", "samson+clip", "rangesam+clip")
SHORT = ("plain", "noise", "clip")


def at_alpha(task: str, method: str) -> Settings:
    """The best on noisy validation chips of what the search tried with that clipping."""
    table, number = of(task), TASKS[task].last_round
    tried = [settings for settings in candidates(task, method) if settings["alpha"] == ALPHA]
    return max(tried, key=lambda settings: score(task, number, method, settings, "informed", table))


def parts(task: str) -> dict[str, Table]:
    """The suite of each part."""
    own, epochs = winners(task), TASKS[task].epochs
    others = [method for method in CLIPPED if own[label_of(method, "informed")][1]["alpha"] != ALPHA]
    alike = {f"{method}-alike": (METHODS[method][0], at_alpha(task, method)) for method in others}
    labels = [(label_of(method, "informed"), METHODS[method][0]) for method in SHORT]
    short = {label: (method, own[label][1]) for label, method in labels}
    return {"whole": confirming(task, alike, epochs), "half": confirming(task, short, max(1, epochs // 2))}


if __name__ == "__main__":
    for part, suite in parts(sys.argv[1]).items():
        run(suite, RUNS / f"{sys.argv[1]}-alike" / part)
        pack(f"{sys.argv[1]}-alike")
