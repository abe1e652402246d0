"""Choose each method's default settings on the digits, by the validation split alone and with equal effort.

Every method gets twelve candidates of its own parameters (ρ, σ, α), each trained with two seeds that no comparison
uses and put on ten validation chips a level. One criterion for all: validation accuracy, averaged over the noise
levels (0 among them), chips and seeds. Ties go to the earlier candidate. The base optimizer is the same for every
method and is not searched: learning rate .1, momentum .9, weight decay 5e-4, as published by the method's first author
for later work (see `samson/experiments/_defaults.py`). Plain SGD has no parameter of its own; its twelve candidates are
learning rate x weight decay, recorded to show what tuning these for SGD alone would bring, and not used.

    python -m benchmarks.search_digits [METHOD …]       # about 100 minutes on two cores for all

writes `benchmarks/records/search-digits.json` after each method; without a name those that the record lacks. The
winners stand in `samson/experiments/_defaults.py`; a test holds the two together. The test split is never looked at.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from samson.evaluation import Layout, clean_value, evaluate
from samson.experiments import BASES, Method, environment, load_data_set, one_thread, parse_methods, plan_suite, trained
from samson.noise import Gaussian

RECORD = Path(__file__).parent / "records" / "search-digits.json"
SEEDS = (100, 101)
CHIP_SEED = 1
CHIPS = 10
EPOCHS, BATCH_SIZE = 30, 64
NETWORK = "small-resnet"
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)

RADII = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
ALPHAS = (0.8, 1.0, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0, 4.0)
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "sgd": {"lr": (0.05, 0.1, 0.2, 0.4), "weight_decay": (5e-4, 1e-3, 2e-3)},  # recorded, not used
    "noise": {"sigma": (0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5)},
    "rwp": {"sigma": (0.2, 0.4, 0.6, 0.8, 1.0, 1.5), "mix": (0.5, 1.0)},
    "clip": {"alpha": ALPHAS},
    "sam": {"rho": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0)},
    "asam": {"rho": (0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0)},
    "samson": {"rho": RADII},
    "rangesam": {"rho": RADII},
    "channel-clip": {"alpha": ALPHAS},
    "fixed-clip": {"w_max": (0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)},
    "learned-range": {"penalty": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "start": (1.2, 2.0)},
    "noise+clip": {"sigma": (0.05, 0.1, 0.2, 0.3), "alpha": (1.2, 1.5, 2.0)},
    "sam+clip": {"rho": (0.05, 0.1, 0.2, 0.4), "alpha": (1.2, 1.5, 2.0)},
    "asam+clip": {"rho": (0.5, 1.0, 2.0, 4.0), "alpha": (1.2, 1.5, 2.0)},
    "samson+clip": {"rho": (0.3, 0.7, 1.5, 3.0), "alpha": (1.2, 1.5, 2.0)},
    "rwp+clip": {"sigma": (0.1, 0.2, 0.3, 0.4), "alpha": (1.2, 1.5, 2.0)},
    "rangesam+clip": {"rho": (0.25, 0.5, 1.0, 2.0), "alpha": (1.2, 1.5, 2.0)},
    "rangesam+channel-clip": {"rho": (0.25, 0.5, 1.0, 2.0), "alpha": (1.2, 1.5, 2.0)},
    "rangesam+learned-range": {"rho": (0.25, 0.5, 1.0, 2.0), "penalty": (0.1, 1.0, 3.0)},
    "hwa": {"sigma": (0.03, 0.1, 0.2, 0.3), "alpha": (1.2, 1.5, 2.5)},
    "samson+hwa": {"rho": (0.3, 0.7, 1.5, 3.0), "alpha": (1.2, 1.5, 2.5)},
    "rangesam+hwa": {"rho": (0.25, 0.5, 1.0, 2.0), "alpha": (1.2, 1.5, 2.5)},
}

Job = tuple[str, dict[str, float], int]


def validated(method: Method, seed: int) -> list[float]:
    """Train a network and put it on the validation chips; its mean accuracy at each level.

    Args:
        method: The method, with its settings.
        seed: Training seed.
    """
    with one_thread():
        splits = load_data_set("digits", Path())
        problem = plan_suite({"data": "digits", "network": NETWORK}).problems[0]
        model, _ = trained(problem, method, seed, splits, None, lambda *_: None)
        if model is None:
            return [1 / splits.outputs] * len(LEVELS)
        found = [clean_value(model, splits.validation)]
        for level in LEVELS[1:]:
            noise, layout = Gaussian(level), Layout()
            chips = evaluate(model, splits.validation, noise, trials=CHIPS, seed=CHIP_SEED, layout=layout)
            found.append(float(np.mean(chips.trials)))
        return found


def score(job: Job) -> list[float]:
    """Train one candidate with one seed; its mean validation accuracy at each level."""
    name, settings, seed = job
    return validated(method_of(name, settings), seed)


def method_of(name: str, settings: dict[str, float]) -> Method:
    """A method with settings."""
    return parse_methods([name], [f"{name}.{key}={value}" for key, value in settings.items()], data="digits")[0]


def search(name: str, pool: multiprocessing.pool.Pool) -> dict[str, object]:
    """Score a method's candidates and choose one."""
    grid = GRIDS[name]
    candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    jobs: list[Job] = [(name, candidate, seed) for candidate in candidates for seed in SEEDS]
    levels = np.array(pool.map(score, jobs, chunksize=1)).reshape(len(candidates), len(SEEDS), len(LEVELS))
    scores = levels.mean(axis=(1, 2))
    best = int(scores.argmax())
    print(f"{name:12} {candidates[best]} {scores[best]:.4f}", file=sys.stderr, flush=True)
    return {
        "best": candidates[best],
        "environment": vars(environment()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "candidates": [
            {"settings": candidate, "score": round(float(total), 6), "by_seed_and_level": np.round(table, 6).tolist()}
            for candidate, total, table in zip(candidates, scores, levels, strict=True)
        ],
    }


def main() -> None:
    """Search what is asked for, or is missing, and write the record after each method."""
    known = json.loads(RECORD.read_text(encoding="utf-8"))["methods"] if RECORD.exists() else {}
    asked = sys.argv[1:] or [name for name in GRIDS if name not in known]
    with multiprocessing.get_context("spawn").Pool(int(os.environ.get("JOBS", "2"))) as pool:
        for name in asked:
            known[name] = search(name, pool)
            record = {
                "criterion": "mean validation accuracy over noise levels, chips and seeds",
                "data": "digits",
                "split": "validation",
                "noise": "gaussian",
                "levels": LEVELS,
                "chips": CHIPS,
                "chip_seed": CHIP_SEED,
                "seeds": SEEDS,
                "epochs": EPOCHS,
                "batch_size": BATCH_SIZE,
                "base": BASES["SGD"],
                "methods": {name: known[name] for name in GRIDS if name in known},
            }
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
