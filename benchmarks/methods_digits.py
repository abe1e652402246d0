"""Every method with its chosen settings on the digits: how it holds on several kinds of chips.

The settings are the winners of `search_digits.py` by two criteria: "informed" (the mean over noise levels on validation
chips of the Gaussian kind) and "blind" (without noise alone, what can be had without knowing any chip; ties go to the
stronger perturbation or the tighter bound, so to the last candidate). Each is trained with three seeds that took no
part in the search, and put on chips of the validation split.

    python -m benchmarks.methods_digits [SEED …]       # about 30 minutes on one core for all

keeps what is done in `runs/methods-digits.jsonl`, so that a repeated command goes on from there, and writes
`benchmarks/records/methods-digits.json`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence import add, lines, on_validation
from benchmarks.search_digits import NETWORK, method_of
from benchmarks.search_digits import RECORD as SEARCHED
from benchmarks.writing import write
from samson.experiments import jobs_of, plan_suite

RECORD = Path(__file__).parent / "records" / "methods-digits.json"
DONE = Path(__file__).parent.parent / "runs" / "methods-digits.jsonl"
SEEDS = (200, 201, 202)
TRIALS = 10
CHIPS: list[dict[str, Any]] = [
    {"noise": "gaussian", "levels": [0.05, 0.1, 0.2]},
    {"noise": "pcm", "levels": ["1y"]},
    {"noise": "bit-errors", "levels": [0.01]},
    {"chip": ["int4"]},
    {"noise": "lognormal", "levels": [0.3]},
    {"chip": ["standard-hwa"], "times": ["1d"]},
]


def winners() -> dict[str, tuple[str, dict[str, float]]]:
    """By a name with its criterion: the method and its settings."""
    found: dict[str, tuple[str, dict[str, float]]] = {"sgd": ("sgd", {})}
    for name, search in json.loads(SEARCHED.read_text(encoding="utf-8"))["methods"].items():
        if name == "sgd":
            continue
        found[f"{name} informed"] = name, search["best"]
        clean = [np.mean([levels[0] for levels in c["by_seed_and_level"]]) for c in search["candidates"]]
        last = max(index for index, value in enumerate(clean) if value == max(clean))
        found[f"{name} blind"] = name, search["candidates"][last]["settings"]
    return found


def measure(name: str, settings: dict[str, float], seed: int) -> dict[str, Any]:
    """Train a network, and put it on validation chips: its accuracy without noise and on each kind of chip."""
    plan = plan_suite({"data": "digits", "network": NETWORK, "methods": ["sgd"], "chips": CHIPS, "trials": TRIALS})
    job = replace(jobs_of(replace(plan, chip_seed=2))[0], method=method_of(name, settings), seed=seed)
    training, clean, found = on_validation(job, None)
    if clean is None:
        return {"diverged": True}
    return {
        "clean": clean,
        "chips": {
            f"{family.name} {kind.label}": round(float(np.mean(values)), 6)
            for family, kinds in zip(plan.families, found, strict=True)
            for kind, values in zip(family.kinds, kinds, strict=True)
        },
        "gradients": training.gradients,
    }


def done() -> dict[str, dict[str, Any]]:
    """What was measured, by method, settings and seed."""
    return {json.dumps(line["key"]): line["found"] for line in lines(DONE)}


def main() -> None:
    """Measure what is left, and write the record once nothing is."""
    asked = winners()
    for seed in map(int, sys.argv[1:] or SEEDS):
        for label, (name, settings) in asked.items():
            key = [label, settings, seed]
            if json.dumps(key) not in done():
                add(DONE, {"key": key, "found": measure(name, settings, seed)}, "measured")
    known = done()
    if all(json.dumps([label, settings, seed]) in known for seed in SEEDS for label, (_, settings) in asked.items()):
        methods = {
            label: {
                "method": name,
                "settings": settings,
                "runs": [known[json.dumps([label, settings, seed])] for seed in SEEDS],
            }
            for label, (name, settings) in asked.items()
        }
        write(RECORD, {"split": "validation", "seeds": SEEDS, "trials": TRIALS, "methods": methods})


if __name__ == "__main__":
    main()
