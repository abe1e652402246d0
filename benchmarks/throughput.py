"""Images a second of the whole training loop, against a bare loop of PyTorch over tensors that are ready.

    python -m benchmarks.throughput                   # about 15 minutes on one core
    python -m benchmarks.throughput --images 1024     # about 5 minutes
    python -m benchmarks.throughput --processes       # on a machine that does nothing else

Ours is `samson.experiments.train` with all it does: batches of uint8 images that are cropped, flipped and scaled, the
schedule, the bookkeeping of losses, and the training saved in a folder. The bare loop has float32 images in memory, in
the network's memory order: zero_grad, forward, cross-entropy, backward and the step of SGD, with the same settings.
Both make their network anew in each block; images and classes are random.

Blocks of all loops take turns, backwards every other round, in one process with one thread, so that what else the
machine does meets all of them. A block is as many epochs as take the fastest loop so many seconds, so that ours saves.
A ratio is that of two blocks of one round: the median over rounds, with the least and the largest. It is taken of
processor time, which other processes disturb less, and of elapsed time; on a GPU of the latter alone.

The goals are that our loop with plain SGD reaches .95 of the bare loop, and SAMSON, which computes two gradients a
step, .47 of our SGD. A goal is met where the medians on all clocks meet it.

Writes `benchmarks/records/throughput.json`, or on a GPU `throughput-cuda.json`, and prints it.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import now
from benchmarks.training_loops import METHODS, SEED, bare, loops, pictures
from benchmarks.writing import write
from samson.experiments import environment, one_thread

RECORD = Path(__file__).parent / "records" / "throughput.json"
NETWORKS, PRECISIONS = ("resnet8", "resnet20"), ("float32", "bfloat16")
PAIRS = (("sgd", "bare, channels last", 0.95), ("samson", "sgd", 0.47))
"""Which loops are compared, and how much of the other's images a second is aimed at."""


def measure(name: str, precision: str, n: int, rounds: int, seconds: float, batch: int, device: str) -> dict[str, Any]:
    """Images a second of every loop with one network in one precision."""
    n -= n % batch
    for loop in loops(pictures(batch), name, precision, batch, device).values():
        loop(1)
    turns = loops(pictures(n), name, precision, batch, device)
    start = now()
    turns["bare, channels last"](1)
    epochs = max(1, math.ceil(seconds / float((now() - start)[1])))
    rates: dict[str, list[Any]] = {key: [] for key in turns}
    saved = dict.fromkeys(METHODS, 0)
    for number in range(rounds):
        print(f"\r{name}, {precision}: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for key, loop in list(turns.items())[:: -1 if number % 2 else 1]:
            start = now()
            kept = loop(epochs)
            rates[key].append(epochs * n / (now() - start))
            if key in saved:
                saved[key] += kept
    print(file=sys.stderr)
    ratios = {}
    for of, to, goal in PAIRS:
        ratio = by_clock([a / b for a, b in zip(rates[of], rates[to], strict=True)], device, 3)
        ratios[f"{of} / {to}"] = ratio | {"goal": goal, "met": all(median >= goal for _, median, _ in ratio.values())}
    return {
        "epochs_a_block": epochs,
        "blocks_that_saved": saved,
        "images_a_second": {key: by_clock(of, device, 1) for key, of in rates.items()},
        "ratios": ratios,
    }


def by_clock(values: list[Any], device: str, digits: int) -> dict[str, list[float]]:
    """The spread over rounds of what was taken of both clocks."""
    clocks = {"processor": 0, "elapsed": 1} if device == "cpu" else {"elapsed": 1}
    return {clock: spread(np.array(values)[:, i], digits) for clock, i in clocks.items()}


def spread(values: Any, digits: int) -> list[float]:
    """The least, the median and the largest."""
    return [round(float(q), digits) for q in np.quantile(values, (0, 0.5, 1))]


def race(threads: int, seconds: float, start: float) -> float:
    """Images a second of a bare loop in this process, from a moment on."""
    torch.set_num_threads(threads)
    loop = bare(pictures(256), NETWORKS[0], "channels last", PRECISIONS[0], 128, "cpu")
    loop(1)
    time.sleep(max(0.0, start - time.time()))
    began, epochs = now(), 0
    while (now() - began)[1] < seconds:
        loop(1)
        epochs += 1
    return 256 * epochs / float((now() - began)[1])


def side_by_side(rounds: int) -> dict[str, Any]:
    """Images a second in total of two processes of one thread, and of one process of two threads."""
    found: dict[str, list[float]] = {"2 processes of 1 thread": [], "1 process of 2 threads": []}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for _ in range(rounds):
            for key, threads in zip(found, (1, 2), strict=True):
                asked = 2 // threads * [(threads, 5.0, time.time() + 10)]
                found[key].append(sum(pool.starmap(race, asked, chunksize=1)))
    return {key: {"elapsed": spread(of, 1)} for key, of in found.items()}


def table(record: dict[str, Any]) -> str:
    """Rates and ratios, a line each, and what is fastest."""

    def text(of: dict[str, Any], digits: int) -> str:
        shown = [(clock, *of[clock]) for clock in ("processor", "elapsed") if clock in of]
        return ", ".join(f"{m:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}] {c}" for c, low, m, high in shown)

    lines = []
    for name, of in record["networks"].items():
        lines += [f"{name}, {key}: {text(rate, 0)} images/s" for key, rate in of["images_a_second"].items()]
        for key, ratio in of["ratios"].items():
            met = "met" if ratio["met"] else "NOT MET"
            lines.append(f"{name}, {key}: {text(ratio, 3)}; goal ≥ {ratio['goal']:.2f}: {met}")
    for network in NETWORKS:
        rates = {
            f"{name}, {key}": rate["elapsed"][1]
            for name, of in record["networks"].items()
            for key, rate in of["images_a_second"].items()
            if name.startswith(f"{network},") and key.startswith("bare")
        }
        lines.append(f"{network}: the fastest bare loop is {max(rates, key=lambda key: rates[key])}")
    lines += [f"{key}: {text(of, 0)} images/s in total" for key, of in (record["processes"] or {}).items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Images a second of the training loop.")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a block, at least")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", action="store_true", help="two processes against two threads, too")
    parser.add_argument("--tiny", action="store_true", help="2 rounds of 2 steps, which measure nothing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    n, batch_size, rounds, seconds = (
        (32, 16, 2, 0.0) if given.tiny else (given.images, 128, given.rounds, given.seconds)
    )
    load = [os.getloadavg()]
    with one_thread():
        about = environment(given.device if given.device == "cpu" else torch.cuda.get_device_name(given.device))
        networks = {
            f"{name}, {precision}": measure(name, precision, n, rounds, seconds, batch_size, given.device)
            for name in NETWORKS
            for precision in PRECISIONS
        }
    record = {
        "seeds": {"networks, order and augmentation": SEED, "images": SEED},
        "images": n,
        "batch_size": batch_size,
        "rounds": rounds,
        "networks": networks,
        "processes": side_by_side(rounds) if given.processes else None,
        "load_before_and_after": [[round(part, 1) for part in each] for each in (*load, os.getloadavg())],
    }
    out = given.out or (RECORD if given.device == "cpu" else RECORD.with_stem("throughput-cuda"))
    print(table(write(out, record, **vars(about), cores=os.cpu_count())))


if __name__ == "__main__":
    main()
