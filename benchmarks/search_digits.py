"""Choose each method's default settings on the digits, by the validation split alone and with equal effort.

Every method gets twelve candidates of its own parameters (ρ, σ, α), each trained with two seeds that no comparison
uses and put on ten validation chips a level. One criterion for all: validation accuracy, averaged over the noise
levels (0 among them), chips and seeds. Ties go to the earlier candidate. The base optimizer is the same for every
method and is not searched: learning rate .1, momentum .9, weight decay 5e-4, as published by the method's first author
for later work (see `samson/experiments/_defaults.py`). Plain SGD has no parameter of its own; its twelve candidates are
learning rate x weight decay, recorded to show what tuning these for SGD alone would bring, and not used.

    python -m benchmarks.search_digits       # about 30 minutes on two cores

writes `benchmarks/records/search-digits.json`. The winners stand in `samson/experiments/_defaults.py`; a test holds
the two together. The test split is never looked at.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn
from torch.optim import Optimizer

from samson.evaluation import Layout, accuracy, evaluate
from samson.experiments import (
    BASES,
    RECIPES,
    Classification,
    Run,
    build_network,
    environment,
    load_data_set,
    one_thread,
    parse_methods,
    train,
)
from samson.noise import Gaussian

RECORD = Path(__file__).parent / "records" / "search-digits.json"
SEEDS = (100, 101)
CHIP_SEED = 1
CHIPS = 10
EPOCHS, BATCH_SIZE = 30, 64
NETWORK = "small-resnet"
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)

RADII = {
    "sam": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0),
    "asam": (0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0),
    "samson": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
}
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "sgd": {"lr": (0.05, 0.1, 0.2, 0.4), "weight_decay": (5e-4, 1e-3, 2e-3)},  # recorded, not used
    "noise": {"sigma": (0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5)},
    "clip": {"alpha": (0.8, 1.0, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0, 4.0)},
    **{rule: {"rho": radii} for rule, radii in RADII.items()},
    "noise+clip": {"sigma": (0.05, 0.1, 0.2, 0.3), "alpha": (1.2, 1.5, 2.0)},
    "sam+clip": {"rho": (0.05, 0.1, 0.2, 0.4), "alpha": (1.2, 1.5, 2.0)},
    "asam+clip": {"rho": (0.5, 1.0, 2.0, 4.0), "alpha": (1.2, 1.5, 2.0)},
    "samson+clip": {"rho": (0.3, 0.7, 1.5, 3.0), "alpha": (1.2, 1.5, 2.0)},
}

Job = tuple[str, dict[str, float], int]


def validated(make: Callable[[nn.Module, int], Optimizer], seed: int) -> list[float]:
    """Train a network and put it on the validation chips; its mean accuracy at each level.

    Args:
        make: Makes the optimizer from the network and the number of steps.
        seed: Training seed.
    """
    with one_thread():
        splits = load_data_set("digits", Path())
        run = Run(
            data=splits,
            task=Classification(),
            network=lambda: build_network(NETWORK, splits.shape, splits.outputs, seed),
            method=Made(make, EPOCHS * splits.steps(BATCH_SIZE)),
            recipe=RECIPES["digits"],
            seed=seed,
        )
        model = train(run)
        found = [accuracy(model, splits.validation)]
        for level in LEVELS[1:]:
            chips = {"trials": CHIPS, "seed": CHIP_SEED, "layout": Layout()}
            found.append(float(np.mean(evaluate(model, splits.validation, Gaussian(level), **chips).trials)))
        return found


@dataclass(frozen=True)
class Made:
    """A method from a function of the network and the number of steps."""

    make: Callable[[nn.Module, int], Optimizer]
    steps: int

    def build(self, model: nn.Module, seed: int) -> Optimizer:
        """Make the optimizer."""
        return self.make(model, self.steps)


def score(job: Job) -> list[float]:
    """Train one candidate with one seed; its mean validation accuracy at each level."""
    name, settings, seed = job
    [method] = parse_methods([name], [f"{name}.{key}={value}" for key, value in settings.items()])
    return validated(lambda model, steps: method.build(model, seed), seed)


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
        "candidates": [
            {"settings": candidate, "score": round(float(total), 6), "by_seed_and_level": np.round(table, 6).tolist()}
            for candidate, total, table in zip(candidates, scores, levels, strict=True)
        ],
    }


def main() -> None:
    """Run the search and write its record."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        methods = {name: search(name, pool) for name in GRIDS}
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
        "environment": vars(environment()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "methods": methods,
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
