"""How much faster chips are at once than one at a time.

    taskset -c 1 python -m benchmarks.batched_chips       # about 5 minutes on one core
    python -m benchmarks.batched_chips --device cuda

The same chips of a network are run by `Serial` and by `Batched`, 4, 16 and 64 of them, on 1,000 images in the layout
that `find_layout` gives. The ways take turns, round after round, in one process; with `--device cpu` it has one thread.
Times are elapsed ones, to the last score on the host. A ratio is that of one at a time to at once in the same round:
the median over rounds, with the quartiles; more than 1 is faster at once.

Each noise stands with what programming and reading alone takes, which is not batched and so bounds the ratio, and with
the calls of operators that do work, a chip: where each takes the same time, as on a GPU that waits for them, their
ratio is what to expect.

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
NOISES: dict[str, WeightNoise] = {"Gaussian(0.1)": Gaussian(0.1), "PCM, 1 hour": PCM(time_s=HOUR)}


def small_mlp() -> nn.Module:
    """Two linear layers for 8 x 8 images, with weights from seed 0."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (small_mlp, (1, 8, 8)),
    "digits ResNet": (lambda: build_network("small-resnet", 10, seed=0), (1, 8, 8)),
    "CNN": (network, (3, 32, 32)),
}
"""Networks, and the shape of an image for each."""


def seconds(run: Callable[[], object]) -> float:
    """What a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def programmed(task: Task, chips: int) -> None:
    """Program and read chips, and run nothing."""
    for number in range(chips):
        task.chip(number).read(None, 0)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def calls(run: Callable[[], object]) -> float:
    """Calls a chip that do work."""
    return sum(traffic_of(run).calls.values()) / COUNTED


def measure(task: Task, layout: Layout, rounds: int, note: str) -> dict[str, Any]:
    """Times of one network with one noise."""

    def run(executor: Executor, chips: int) -> None:
        list(executor.run(task, range(chips)))

    for executor in (Serial(), Batched(2)):
        run(executor, 2)  # what is done once
    times: dict[int, list[tuple[float, float]]] = {chips: [] for chips in CHIPS}
    programming = []
    for number in range(rounds):
        print(f"\r{note}, round {number + 1} of {rounds}   ", end="", file=sys.stderr, flush=True)
        for chips, found in times.items():
            ways = [(0, Serial()), (1, Batched(chips))]
            both = dict.fromkeys((0, 1), 0.0)
            for way, executor in ways if number % 2 else ways[::-1]:
                both[way] = seconds(lambda e=executor, n=chips: run(e, n))  # type: ignore[misc]
            found.append((both[0], both[1]))
        programming.append(seconds(lambda: programmed(task, COUNTED)) / COUNTED)
    one, many = (calls(lambda e=e: run(e, COUNTED)) for e in (Serial(), Batched(COUNTED)))  # type: ignore[misc]
    on_gpu = task.batches[0][0].is_cuda  # type: ignore[index]
    return {
        "noise": repr(task.noise),
        "layout": vars(layout),
        "milliseconds_one_at_a_time": quartiles([1e3 * a / n for n, of in times.items() for a, _ in of]),
        "milliseconds_programming": quartiles([1e3 * t for t in programming]),
        "calls_one_at_a_time": one,
        "calls_programming": calls(lambda: programmed(task, COUNTED)),
        f"calls_of_{COUNTED}_at_once": many,
        "times_faster": {
            str(chips): {"ratio": (ratio := quartiles([a / b for a, b in found]))}
            | ({"limit": TIMES_FASTER, "met": ratio[1] >= TIMES_FASTER} if on_gpu else {})
            for chips, found in times.items()
        },
    }


def table(record: dict[str, Any]) -> str:
    """One line for each network and noise."""
    lines = [
        "| network | noise | ms a chip, alone | of it programming | "
        + " | ".join(f"{n} at once" for n in CHIPS)
        + f" | calls a chip, alone and {COUNTED} at once |",
        "|---|" * 1 + "---|" * (4 + len(CHIPS)),
    ]
    for name, of_network in record["networks"].items():
        for noise, of in of_network["noises"].items():
            ratios = " | ".join(
                "{1:.2f} [{0:.2f}, {2:.2f}]".format(*of["times_faster"][str(n)]["ratio"]) for n in CHIPS
            )
            lines.append(
                f"| {name} | {noise} | {of['milliseconds_one_at_a_time'][1]:.1f} | "
                f"{of['milliseconds_programming'][1]:.1f} | {ratios} | {of['calls_one_at_a_time']:.0f}, "
                f"{of[f'calls_of_{COUNTED}_at_once']:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Chips at once against one at a time.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
        kind = "cpu, one thread"
    else:
        kind = torch.cuda.get_device_name()
    load = [round(part, 1) for part in os.getloadavg()]
    found: dict[str, Any] = {}
    for name, (make, shape) in NETWORKS.items():
        model = make().to(arguments.device)
        generator = torch.Generator().manual_seed(0)
        data = torch.randn(IMAGES, *shape, generator=generator), torch.randint(10, (IMAGES,), generator=generator)
        data = data[0].to(arguments.device), data[1].to(arguments.device)
        of_noises = {}
        for noise_name, noise in NOISES.items():
            prepared = prepare(model, data, noise)
            note = f"{name}, {noise_name}"
            of_noises[noise_name] = measure(prepared.task, prepared.layout, arguments.rounds, note)
        found[name] = {"parameters": sum(p.numel() for p in model.parameters()), "noises": of_noises}
    print(file=sys.stderr)
    record = {
        "device": kind,
        "environment": vars(environment(arguments.device)) | {"cores": os.cpu_count()},
        "load_before_and_after": [load, [round(part, 1) for part in os.getloadavg()]],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": IMAGES,
        "rounds": arguments.rounds,
        "seeds": {"networks": 0, "images": 0, "chips": 0},
        "networks": found,
    }
    out = arguments.out or RECORDS / f"batched-chips-{arguments.device}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()
