"""What is left of a method's lead on tiny-shakespeare where its rivals clip as tightly, or train as shortly?

    python -m benchmarks.alike     # killed, it goes on

The search gave `asam+clip` a tighter clipping there than every other method, and shorter training helps
(`docs/evidence.md`). So two more parts are trained with the confirming seeds and put on the same chips: the methods
whose winner has another `alpha`, each with the best radius that the search tried with this one; and with half of the
epochs the methods with one gradient a step. The records go to `benchmarks/results/tiny-shakespeare-alike.json.gz`;
`benchmarks/hypotheses.md` says what was written before.
"""

from __future__ import annotations

from benchmarks.evidence import (
    METHODS,
    RUNS,
    TASKS,
    Settings,
    Table,
    bare,
    candidates,
    confirming,
    label_of,
    of,
    pack,
    packed,
    part_of,
    run,
    score,
    winners,
)
from benchmarks.evidence_found import Found, read

TASK = "tiny-shakespeare"
ALPHA = 1.5
SAME = "alike"
"""The criterion of such settings, in names."""
CLIPPED = ("clip", "sam+clip", "asam+clip", "samson+clip", "rangesam+clip")
SHORT = ("plain", "noise", "clip")


def at_alpha(method: str) -> Settings:
    """The best on noisy validation chips of what the search tried with that clipping."""
    table, number = of(TASK), TASKS[TASK].last_round
    tried = [settings for settings in candidates(TASK, method) if settings["alpha"] == ALPHA]
    return max(tried, key=lambda settings: score(TASK, number, method, settings, "informed", table))


def parts() -> dict[str, Table]:
    """The suite of each part."""
    own, epochs = winners(TASK), TASKS[TASK].epochs
    others = [method for method in CLIPPED if own[label_of(method, "informed")][1]["alpha"] != ALPHA]
    alike = {f"{method}-{SAME}": (METHODS[method][0], at_alpha(method)) for method in others}
    labels = [(label_of(method, "informed"), METHODS[method][0]) for method in SHORT]
    short = {label: (method, own[label][1]) for label, method in labels}
    return {"whole": confirming(TASK, alike, epochs), "half": confirming(TASK, short, max(1, epochs // 2))}


def whole() -> Found:
    """The task's own whole trainings; with another name those with that clipping, and the shorter ones."""
    found, named = read(TASK)["whole"].records, {label_of(method, "informed"): f"{method}-{SAME}" for method in CLIPPED}
    again = [
        {**record, "method": named[record["method"]]}
        for record in found
        if record["method"] in named and record["settings"]["alpha"] == ALPHA
    ]
    new = [
        record if part_of(TASK, record) == "whole" else {**record, "method": f"{bare(record['method'])}-half"}
        for record in packed(f"{TASK}-{SAME}")
    ]
    return Found(TASK, [*found, *again, *new])


def half() -> Found:
    """The task's own trainings with half of the epochs, and those with one gradient a step."""
    new = [record for record in packed(f"{TASK}-{SAME}") if part_of(TASK, record) == "half"]
    return Found(TASK, [*read(TASK)["half"].records, *new])


if __name__ == "__main__":
    for part, suite in parts().items():
        run(suite, RUNS / f"{TASK}-{SAME}" / part)
        pack(f"{TASK}-{SAME}")
