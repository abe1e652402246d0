"""How much faster chips are at once than one at a time.

    taskset -c 1 python -m benchmarks.batched_chips --images 100   # two minutes of one core
    python -m benchmarks.batched_chips --device cuda

The same chips of a network are run by `Serial` and by `Batched`, 4, 16 and 64 of them, in the layout that `find_layout`
gives. The ways take turns, round after round, in one process. On a CPU it has one thread, and times are of the
processor; on a GPU they are elapsed ones, to the last score on the host. A ratio is that of one at a time to at once in
the same round: the median over rounds, with the quartiles; more than 1 is faster at once.

Beside it stands what programming and reading alone takes, which is not batched and so bounds the ratio, and the calls
of operators that do work, a chip: where each takes the same time, as on a GPU that waits for them, the ratio of the
calls is what to expect. They are counted in the same run, with 16 chips at once.

Writes `benchmarks/records/batched-chips-<device>.json` and prints it as a table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.chip_cost import HOUR, IMAGES, network, quartiles
from benchmarks.traffic import traffic_of
from samson.evaluation import Batched, Executor, Layout, Serial
from samson.evaluation.setting import prepare
from samson.evaluation.task import Task
from samson.experiments.environment import environment
from samson.experiments.networks import build_network
from samson.noise import PCM, Gaussian, WeightNoise

RECORDS = Path(__file__).parent / "records"
CHIPS = (4, 16, 64)
COUNTED = 16
"""Chips at once when calls are counted."""
TIMES_FASTER = 5.0
"""What is aimed at on a GPU; a CPU is kept busy by one chip."""


def small_mlp() -> nn.Module:
    """Two linear layers for 8 x 8 images, with weights from seed 0."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], WeightNoise]] = {
    "MLP": (small_mlp, (1, 8, 8), Gaussian(0.1)),
    "MLP, PCM": (small_mlp, (1, 8, 8), PCM(time_s=HOUR)),
    "digits ResNet": (lambda: build_network("small-resnet", 10, seed=0), (1, 8, 8), Gaussian(0.1)),
    "CNN": (network, (3, 32, 32), Gaussian(0.1)),
}
"""Networks, the shape of an image for each, and a noise."""


def programmed(task: Task, chips: int) -> None:
    """Program and read chips, and run nothing."""
    for number in range(chips):
        task.chip(number).read(None, 0)


def calls(run: Callable[[], object]) -> float:
    """Calls a chip that do work."""
    found = traffic_of(run).calls
    return (found.total() - found["promote_types"]) / COUNTED


def measure(task: Task, layout: Layout, rounds: int, device: str) -> dict[str, Any]:
    """Times of one case."""

    def run(executor: Executor, chips: int) -> None:
        list(executor.run(task, range(chips)))

    def milliseconds(work: Callable[[], object], chips: int) -> float:
        clock = time.process_time if device == "cpu" else time.perf_counter
        start = clock()
        work()
        if device != "cpu":
            torch.accelerator.synchronize()
        return 1e3 * (clock() - start) / chips

    for executor in (Serial(), Batched(2)):
        run(executor, 2)  # what is done once
    alone: list[float] = []
    programming: list[float] = []
    ratios: dict[int, list[float]] = {chips: [] for chips in CHIPS}
    for _ in range(rounds):
        for chips, found in ratios.items():
            alone.append(milliseconds(lambda n=chips: run(Serial(), n), chips))  # type: ignore[misc]
            found.append(alone[-1] / milliseconds(lambda n=chips: run(Batched(n), n), chips))  # type: ignore[misc]
        programming.append(milliseconds(lambda: programmed(task, COUNTED), COUNTED))
    return {
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "noise": repr(task.noise),
        "layout": vars(layout),
        "milliseconds_alone": quartiles(alone),
        "milliseconds_programming": quartiles(programming),
        "calls_alone": calls(lambda: run(Serial(), COUNTED)),
        "calls_programming": calls(lambda: programmed(task, COUNTED)),
        f"calls_{COUNTED}_at_once": calls(lambda: run(Batched(COUNTED), COUNTED)),
        "times_faster": {
            str(chips): {"ratio": quartiles(found)}
            | ({} if device == "cpu" else {"limit": TIMES_FASTER, "met": bool(np.median(found) >= TIMES_FASTER)})
            for chips, found in ratios.items()
        },
    }


def table(record: dict[str, Any]) -> str:
    """One line for each case."""
    at_once = " | ".join(f"times faster, {chips} at once" for chips in CHIPS) + " | calls a chip"
    lines = [
        f"| network | ms a chip, alone | of it programming | {at_once}: alone, programming, {COUNTED} at once |",
        "|---" * (4 + len(CHIPS)) + "|",
    ]
    for name, of in record["cases"].items():
        ratios = [of["times_faster"][str(chips)]["ratio"] for chips in CHIPS]
        counts = [of[key] for key in ("calls_alone", "calls_programming", f"calls_{COUNTED}_at_once")]
        lines.append(
            f"| {name} | {of['milliseconds_alone'][1]:.1f} | {of['milliseconds_programming'][1]:.1f} | "
            f"{' | '.join(f'{middle:.2f} [{low:.2f}, {high:.2f}]' for low, middle, high in ratios)} | "
            f"{', '.join(f'{count:.0f}' for count in counts)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Chips at once against one at a time.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device, images = arguments.device, arguments.images
    if device == "cpu":
        torch.set_num_threads(1)
    load = [round(part, 1) for part in os.getloadavg()]
    found: dict[str, Any] = {}
    for name, (make, shape, noise) in CASES.items():
        print(name, file=sys.stderr, flush=True)
        generator = torch.Generator().manual_seed(0)
        data = torch.randn(images, *shape, generator=generator), torch.randint(10, (images,), generator=generator)
        prepared = prepare(make().to(device), (data[0].to(device), data[1].to(device)), noise)
        found[name] = measure(prepared.task, prepared.task.layout, arguments.rounds, device)
    record = {
        "device": "cpu, one thread" if device == "cpu" else torch.cuda.get_device_name(),
        "environment": vars(environment(device)) | {"cores": os.cpu_count()},
        "load_before_and_after": [load, [round(part, 1) for part in os.getloadavg()]],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": images,
        "rounds": arguments.rounds,
        "seeds": {"networks": 0, "images": 0, "chips": 0},
        "cases": found,
    }
    out = arguments.out or RECORDS / f"batched-chips-{device}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()
