"""What writing one chip costs beside a forward pass over 1,000 images.

    python -m benchmarks.chip_cost            # about 10 minutes on one core
    python -m benchmarks.chip_cost --rounds 5

Every trial is one of `evaluate`: program a chip, read it and write it into the model; run the images; give the model
its own weights back. The trials of all noises run in turn, round after round, in one process with one thread. The cost
is all of a trial but the forward pass, as a ratio to the forward pass of the same trial: the median over rounds, with
the quartiles. Calls are those of operators that do work, for one chip of five weight tensors.

The network has 189,000 parameters and little arithmetic for each, so its forward pass is a hard measure: float32, laid
out channels-last, in inference mode, with the batch size that is the fastest in the same run. Ratios are of processor
time, which other processes of the machine disturb less, and of elapsed time; a limit is met where both medians meet it.

Writes `benchmarks/records/chip-cost.json` and prints it as a table.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.markdown import table
from benchmarks.timing import Times, in_order, now, quartiles
from benchmarks.traffic import traffic_of
from benchmarks.writing import write
from samson.noise import CMO, NOISES, PCM, PRESETS, DeviceNoise, PCMHermes, ReRAM, WeightNoise, deploy

RECORD = Path(__file__).parent / "records" / "chip-cost.json"
IMAGES, BATCH_SIZES = 1000, (25, 50, 100, 200)
HOUR, DAY = 3600.0, 86_400.0
GENERIC_LIMIT, DEVICE_LIMIT = 0.05, 0.10
"""What is aimed at, as a share of the forward pass: bit errors and quantisation count as generic."""

LEVELS = {"gaussian": 0.1, "lognormal": 0.1, "chip": 0.05, "bit": 0.01, "stuck": 0.01, "dead": 0.01}
"""Levels of the catalogue's families, by the first word of their names."""


def noises() -> dict[str, WeightNoise]:
    """Everything that is measured, by name; as first read, compensated devices and others cost the same."""
    generic = {name: make(LEVELS[name.split("-")[0]]) for name, make in NOISES.items() if make.unit != "s"}
    chips = {f"preset {name}": chip.noise for name, chip in PRESETS.items() if not name.endswith("-uncompensated")}
    return {
        **generic,
        **chips,
        "PCM, 1 hour": PCM(HOUR, compensation=None),
        "PCM, 1 hour, compensated": PCM(HOUR, compensation="global"),
        "PCM, 1 hour, compensated by column": PCM(HOUR, compensation="column"),
        "PCMHermes, 1 device, 1 hour": PCMHermes(HOUR, compensation=None),
        "PCMHermes, 1 device, 1 hour, compensated": PCMHermes(HOUR, compensation="global"),
        "PCMHermes, 2 devices, 1 hour": PCMHermes(HOUR, devices=2, compensation=None),
        "PCMHermes, 2 devices, 1 hour, compensated": PCMHermes(HOUR, devices=2, compensation="global"),
        "ReRAM, 1 second": ReRAM(1.0),
        "ReRAM, 1 day": ReRAM(DAY),
        "CMO, 1 hour": CMO(HOUR),
    }


def network() -> nn.Module:
    """Three convolutions and two linear layers for 32 x 32 images, with weights from seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)]
    return in_order(nn.Sequential(*layers).eval(), torch.channels_last)


def forward(model: nn.Module, batches: tuple[Tensor, ...]) -> Times:
    """Run the images; what it took."""
    start = now()
    for batch in batches:
        model(batch)
    return now() - start


def trial(model: nn.Module, noise: WeightNoise, number: int, batches: tuple[Tensor, ...]) -> tuple[Times, Times]:
    """Run the images on one chip; what the chip took, and the forward pass."""
    start = now()
    with deploy(model, noise, seed=0, trial=number).at():
        of_forward = forward(model, batches)
    return now() - start - of_forward, of_forward


def write_one(model: nn.Module, noise: WeightNoise) -> None:
    """Write one chip and take it out again."""
    with deploy(model, noise).at():
        pass


def measure(rounds: int) -> dict[str, Any]:
    """Find the fastest batch size, and time every noise."""
    model, measured = network(), noises()
    images = torch.randn(IMAGES, 3, 32, 32).to(memory_format=torch.channels_last)
    sizes: dict[int, list[Times]] = {size: [] for size in BATCH_SIZES}
    for _ in range(max(rounds // 2, 3)):
        for size, of_size in sizes.items():
            of_size.append(forward(model, images.split(size)))
    batch_size = min(sizes, key=lambda size: float(np.median(sizes[size], axis=0)[0]))
    batches = images.split(batch_size)
    calls = {name: traffic_of(partial(write_one, model, noise)).calls.total() for name, noise in measured.items()}
    times: dict[str, list[tuple[Times, Times]]] = {name: [] for name in measured}
    for number in range(rounds):
        print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        for name, noise in measured.items():
            times[name].append(trial(model, noise, number, batches))
    print(file=sys.stderr)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": IMAGES,
        "rounds": rounds,
        "seeds": {"network and images": 0, "chips": 0, "trials": [0, rounds]},
        "batch_size": batch_size,
        "forward_milliseconds": {
            str(size): quartiles(1e3 * np.array(of_size)[:, 0]) for size, of_size in sizes.items()
        },
        "noises": {
            name: summary(noise, np.array(times[name])) | {"calls": calls[name]} for name, noise in measured.items()
        },
    }


def summary(noise: WeightNoise, times: NDArray[np.float64]) -> dict[str, Any]:
    """Of one noise, from its times: (rounds, chip and forward pass, two clocks)."""
    limit = DEVICE_LIMIT if isinstance(noise, DeviceNoise) else GENERIC_LIMIT
    ratios = times[:, 0] / times[:, 1]
    return {
        "noise": repr(noise),
        "milliseconds": quartiles(1e3 * times[:, 0, 0]),
        "ratio": quartiles(ratios[:, 0], 4),
        "ratio_elapsed": quartiles(ratios[:, 1], 4),
        "limit": limit,
        "met": bool((np.median(ratios, axis=0) <= limit).all()),
    }


def shown(record: dict[str, Any]) -> str:
    """One line for each noise, in percent of the forward pass."""

    def percent(ratio: list[float]) -> str:
        return "{1:.1f} [{0:.1f}, {2:.1f}]".format(*(100 * q for q in ratio))

    fastest = record["forward_milliseconds"][str(record["batch_size"])]
    about = (
        f"A chip of a network of {record['parameters']:,} parameters, in percent of a forward pass over "
        f"{record['images']:,} images ({fastest[1]:.0f} ms, in batches of {record['batch_size']}): median and "
        f"quartiles over {record['rounds']} rounds."
    )
    lines = []
    for name, of in record["noises"].items():
        ratios = percent(of["ratio"]), percent(of["ratio_elapsed"])
        met = "yes" if of["met"] else "NO"
        lines.append([name, f"{of['milliseconds'][1]:.1f}", *ratios, f"{100 * of['limit']:.0f}", met, str(of["calls"])])
    heads = ["noise", "ms", "processor time, %", "elapsed, %", "limit, %", "met", "calls"]
    return f"{about}\n\n{table(heads, lines)}"


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Cost of writing one chip.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RECORD)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        record = {"device": "cpu, one thread", **measure(arguments.rounds)}
    write(arguments.out, record, threads=1)
    print(shown(record))


if __name__ == "__main__":
    main()
