"""Can the best recipe be made better? Variations of the range ball with clipping, on the validation split.

    python -m benchmarks.recipe search TASK      # killed, it goes on
    python -m benchmarks.recipe confirm TASK     # likewise

`search`: each variation changes one thing of the "informed" winner of the search (`benchmarks/evidence.py`) and has
four radii: half of the winner's, that itself, twice and four times it. Seeds, chips and split are those of the search.
Writes a line for each training to `benchmarks/results/TASK-recipe.jsonl`; `docs/evidence/recipe.md` shows all of it,
what failed too. A large task has half of the epochs, the first three radii, and the variations that may lose less where
epochs are few: of the range ball with clipping, and of that with a learned range.

`confirm` trains the winner as it is, with its best radius too, and the three best variations, each with its best
radius, with seeds that no search used, and puts them on all chips with the test split. Their run records go to
`benchmarks/results/TASK-recipe.json.gz`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence import (
    LEARNED,
    RESULTS,
    RUNS,
    TASKS,
    add,
    base_of,
    confirming,
    lines,
    pack,
    run,
    seeds,
    tried,
    winners,
)

Settings = dict[str, Any]

AS_IT_IS = "as it is"
BEST_RADIUS = "as it is, with its best radius"
VARIATIONS: dict[str, tuple[str, Settings]] = {
    AS_IT_IS: ("rangesam+clip", {}),
    "the radius ramps up": ("rangesam+clip", {"ramp": "quadratic"}),
    "half of the clean gradient": ("rangesam+clip", {"mix": 0.5}),
    "every second step": ("rangesam+clip", {"every": 2}),
    "along the last gradient, one pass": ("rangesam+clip", {"ascent": "previous"}),
    "a radius for each output channel": ("rangesam+clip", {"per": "channel"}),
    "gradient through the range": ("rangesam+clip", {"through_range": 1}),
    "the loss may rise by 1 at most": ("rangesam+clip", {"budget": 1.0}),
    "tighter clipping": ("rangesam+clip", {"alpha": 1.2}),
    "wider clipping": ("rangesam+clip", {"alpha": 2.0}),
    "clipping for each output channel": ("rangesam+channel-clip", {}),
    "a learned range": ("rangesam+learned-range", {"alpha": None}),
    "a plain network as teacher": ("rangesam+clip+distil", {}),
    "noise in place of the worst case, one pass": ("noise+clip", {"rho": None}),
}
"""By what is varied: the method, and what it changes in the winner's settings; None takes a setting away."""

FOR_FEW_EPOCHS = (
    AS_IT_IS,
    "the radius ramps up",
    "half of the clean gradient",
    "every second step",
    "along the last gradient, one pass",
)
"""Those of a large task, with clipping and with a learned range."""
FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Radii over the winner's; a large task has the first three."""
FINALISTS = 3
SIGMA_OF_RADIUS = 0.1
"""Noise has no radius: σ is this times ρ."""


def logged(task: str) -> Path:
    """Where the lines of a task are."""
    return RESULTS / f"{task}-recipe.jsonl"


def variations(task: str) -> dict[str, tuple[str, Settings]]:
    """By what is varied: the method, and its settings with the radius of the winner that it starts from."""
    clipped, learned = (winners(task).get(f"{name}-informed", ("", {}))[1] for name in ("rangesam+clip", LEARNED))
    every = {name: (method, clipped | changes) for name, (method, changes) in VARIATIONS.items()}
    if not TASKS[task].large:
        return every
    first = {name: every[name] for name in FOR_FEW_EPOCHS}
    return first | {f"a learned range, {name}": (LEARNED, learned | VARIATIONS[name][1]) for name in FOR_FEW_EPOCHS}


def candidates(task: str, variation: str) -> list[Settings]:
    """The radii of a variation, from small to large."""
    _, settings = variations(task)[variation]
    start = winners(task)["rangesam+clip-informed"][1]["rho"] if settings["rho"] is None else settings["rho"]
    found = []
    for factor in FACTORS[:3] if TASKS[task].large else FACTORS:
        radius = {"sigma": SIGMA_OF_RADIUS * factor * start} if settings["rho"] is None else {"rho": factor * start}
        found.append({key: value for key, value in (settings | radius).items() if value is not None})
    return found


def scores(task: str, variation: str) -> list[float]:
    """For each radius, the mean over seeds and Gaussian levels on the validation split; −∞ where one diverged."""
    sign, found = TASKS[task].sign, []
    for settings in candidates(task, variation):
        own = [s for s in lines(logged(task)) if (s["variation"], s["settings"]) == (variation, settings)]
        sound = own and not any("diverged" in line for line in own)
        found.append(float(np.mean([sign * np.mean(line["chips"]) for line in own])) if sound else -np.inf)
    return found


def finalists(task: str) -> dict[str, Settings]:
    """The winner as it is and with its best radius, and the best variations with theirs, the best first."""
    found = {variation: scores(task, variation) for variation in variations(task)}
    best = {variation: candidates(task, variation)[int(np.argmax(own))] for variation, own in found.items()}
    every = {AS_IT_IS: winners(task)["rangesam+clip-informed"][1], BEST_RADIUS: best.pop(AS_IT_IS)}
    if every[AS_IT_IS] == every[BEST_RADIUS]:
        del every[AS_IT_IS]
    return every | {one: best[one] for one in sorted(best, key=lambda one: -max(found[one]))[:FINALISTS]}


def plain(variation: str) -> str:
    """The name that a variation has in records."""
    return variation.replace(" ", "-").replace(",", "")


def confirm(task: str) -> None:
    """The finalists with new seeds, on the test split and all chips."""
    every = variations(task)
    chosen = {plain(one): (every.get(one, every[AS_IT_IS])[0], own) for one, own in finalists(task).items()}
    run(confirming(task, chosen, TASKS[task].epochs), RUNS / f"{task}-recipe" / "whole")
    pack(f"{task}-recipe")


def search(task: str) -> None:
    """Train what has no line yet."""
    known = {(line["variation"], json.dumps(line["settings"]), line["seed"]) for line in lines(logged(task))}
    methods = {variation: method for variation, (method, _) in variations(task).items()}
    epochs = TASKS[task].epochs // (2 if TASKS[task].large else 1)
    every = [(v, s, seed) for seed in seeds(TASKS[task]) for v in methods for s in candidates(task, v)]
    left = [(v, s, seed) for v, s, seed in every if (v, json.dumps(s), seed) not in known]
    for number, (variation, settings, seed) in enumerate(left, start=1):
        found = tried(task, methods[variation], {**base_of(task), **settings}, epochs, seed)
        line = {"variation": variation, "settings": settings, "seed": seed, **found}
        add(logged(task), line, f"{number}/{len(left)}")


if __name__ == "__main__":
    {"search": search, "confirm": confirm}[sys.argv[1]](sys.argv[2])
