"""Can the best recipe be made better? Variations of the range ball with clipping, on the validation split.

    python -m benchmarks.recipe TASK     # killed, it goes on

Each variation changes one thing of the "informed" winner of the search (`benchmarks/evidence.py`) and has three radii:
half of the winner's, that itself, and twice it. Seeds, chips and split are those of the search, so that a gain here has
to be confirmed on others. Writes a line for each training to `benchmarks/results/TASK-recipe.jsonl`; the log on
`docs/evidence.md` shows all of it, what failed too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.evidence import RESULTS, TASKS, base_of, lines, seeds, tried, winners

Settings = dict[str, Any]

VARIATIONS: dict[str, tuple[str, Settings]] = {
    "as it is": ("rangesam+clip", {}),
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

SIGMA_OF_RADIUS = 0.1
"""Noise has no radius: σ is this times ρ."""


def logged(task: str) -> Path:
    """Where the lines of a task are."""
    return RESULTS / f"{task}-recipe.jsonl"


def candidates(task: str, variation: str) -> list[Settings]:
    """Three radii of a variation."""
    _, changes = VARIATIONS[variation]
    _, winner = winners(task)["rangesam+clip-informed"]
    found = []
    for factor in (0.5, 1.0, 2.0):
        radius = factor * winner["rho"]
        settings = {**winner, "rho": radius, **changes}
        if settings["rho"] is None:
            settings["sigma"] = SIGMA_OF_RADIUS * radius
        found.append({key: value for key, value in settings.items() if value is not None})
    return found


def main(task: str) -> None:
    """Train what has no line yet."""
    known = {(line["variation"], json.dumps(line["settings"]), line["seed"]) for line in lines(logged(task))}
    every = [(v, s, seed) for seed in seeds(TASKS[task]) for v in VARIATIONS for s in candidates(task, v)]
    left = [(v, s, seed) for v, s, seed in every if (v, json.dumps(s), seed) not in known]
    for number, (variation, settings, seed) in enumerate(left, start=1):
        method, _ = VARIATIONS[variation]
        found = tried(task, method, {**base_of(task), **settings}, TASKS[task].epochs, seed)
        line = {"variation": variation, "settings": settings, "seed": seed, **found}
        with logged(task).open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stderr.write(f"{number}/{len(left)} {json.dumps(line)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
