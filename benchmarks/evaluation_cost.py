"""What an evaluation costs beside plain forward passes, and beside aihwkit.

    python -m benchmarks.evaluation_cost      # about an hour on one core
    python -m benchmarks.evaluation_cost --device cuda

The reference is a plain forward pass of PyTorch over 1,000 images of 32 x 32, as fast as it can be: inference mode,
model and images laid out channels-last beforehand, the batch size that is the fastest for 500 of the images in the same
run, and the right answers counted. `evaluate` is given the same network and images as PyTorch makes them, in its
default layout. All is in one process with one thread, and float32 but where it says otherwise. An answer is right where
it is that of the network without noise.

After each chip of an evaluation comes one reference pass, so that chips and passes are equally many and meet the same
load of the machine. A ratio is that of an evaluation, with all it does, to its passes: the median over rounds, with the
quartiles. It is taken of processor time, which other processes disturb less, and of elapsed time; a limit is met where
both medians meet it. The ResNet-18 has fewer rounds: a pass takes seconds.

Chips of PCM at one hour in bfloat16 (`autocast="bfloat16"`) stand beside these passes too. What that changes in the
mean on the same chips, with drift compensation, stands beside the half-width of that mean's interval.

The arithmetic rate of a pass stands beside that of a large matrix product, which says how much a faster forward could
still bring on this processor.

aihwkit (1.1.0), where it can be imported, runs the small network on its torch tiles with perfect inputs and outputs,
also in inference mode with its own best batch size. Its images are tried in both memory orders, once as in its
examples, once channels-last. The ratio is that of its chips, programmed, drifted for an hour and run, to those of
`evaluate` with PCM at one hour in the same round, in float32 and in bfloat16.

Writes `benchmarks/records/evaluation-cost.json`, or `evaluation-cost-cuda.json`, and prints it as a table.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import math
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.chip_cost import HOUR, IMAGES, network
from benchmarks.markdown import table
from benchmarks.timing import Times, in_order, now, quartiles
from samson.evaluation import Layout, evaluate
from samson.experiments import environment, make_network
from samson.noise import PCM, Gaussian, WeightNoise
from samson.statistics import mean_interval

RECORD = Path(__file__).parent / "records" / "evaluation-cost.json"
BATCH_SIZES = (25, 50, 100, 200, 500)
SEARCHED = 500
"""Images with which the reference's batch size is found."""
NOISES: dict[str, tuple[WeightNoise, float]] = {
    "Gaussian(0.1)": (Gaussian(0.1), 1.10),
    "PCM, 1 hour": (PCM(time_s=HOUR, compensation=None), 1.20),
}
LOWERED = "PCM, 1 hour, bfloat16"
"""What is measured, with the cost that is aimed at, in reference passes."""

COMPENSATED = PCM(time_s=HOUR, compensation="global")
"""Where bfloat16's change of the answer is looked at: without compensation little is right after an hour."""

TIMES_FASTER = 5.0
"""How much faster than aihwkit is aimed at."""

AIHWKIT_CHIPS = 3

Data = tuple[Tensor, Tensor]


def timed(run: Callable[[], Any]) -> Times:
    """What a call takes."""
    start = now()
    run()
    return now() - start


@torch.inference_mode()
def matmul_rate(device: str) -> float:
    """Floating-point operations of a product of two large matrices, in 1e9 a second."""
    a, b = torch.randn(2, 1024, 1024, device=device)
    return 2 * 1024**3 / min(float(timed(lambda: a @ b)[0]) for _ in range(10)) / 1e9


@torch.inference_mode()
def operations(model: nn.Module, data: Data) -> int:
    """Floating-point operations of a pass, in products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        model(data[0][:1])
    return int(counter.get_total_flops()) * len(data[0])


@torch.inference_mode()
def count_right(model: nn.Module, batches: list[tuple[Tensor, ...]]) -> int:
    """The right answers of one pass."""
    return int(sum((model(x).argmax(1) == y).sum() for x, y in batches))


def fastest(model: nn.Module, layouts: list[Layout], data: Data, passes: int) -> tuple[Layout, dict[str, float]]:
    """The layout with the fastest pass, and milliseconds of processor time by layout."""
    data = data[0][:SEARCHED], data[1][:SEARCHED]
    times: dict[Layout, list[float]] = {layout: [] for layout in layouts}
    for _ in range(passes):
        for layout in layouts:
            times[layout].append(float(timed(partial(count_right, model, prepared(layout, data)))[0]))
    medians = {layout: float(np.median(of)) for layout, of in times.items()}
    named = {f"{of.batch_size}{', channels last' * of.channels_last}": 1e3 * t for of, t in medians.items()}
    return min(medians, key=lambda layout: medians[layout]), {name: round(ms, 1) for name, ms in named.items()}


def prepared(layout: Layout, data: Data) -> list[tuple[Tensor, ...]]:
    """Batches that need nothing more."""
    images = data[0].to(memory_format=torch.channels_last if layout.channels_last else torch.contiguous_format)
    assert layout.batch_size is not None
    return list(zip(images.split(layout.batch_size), data[1].split(layout.batch_size), strict=True))


def on_torch_tiles(model: nn.Module, time_s: float) -> tuple[nn.Module, Callable[[], None]] | None:
    """A copy on aihwkit's torch tiles with perfect inputs and outputs, and what makes it another chip at a time.

    The tiles are otherwise as they come: PCM with programming noise, drift and read noise, and global drift
    compensation.

    Returns:
        None where aihwkit is not installed.
    """
    if find_spec("aihwkit") is None:
        return None
    configs: Any = importlib.import_module("aihwkit.simulator.configs")
    inference: Any = importlib.import_module("aihwkit.inference.utils")
    configuration = configs.TorchInferenceRPUConfig()
    configuration.forward.is_perfect = True
    convert: Any = importlib.import_module("aihwkit.nn.conversion").convert_to_analog
    analog: nn.Module = convert(copy.deepcopy(model), configuration).eval()

    def new_chip() -> None:
        inference.program_analog_weights(analog, None)
        inference.drift_analog_weights(analog, time_s)

    return analog, new_chip


def measure(
    make: Callable[[], nn.Module], *, n: int, chips: int, rounds: int, passes: int, beside: bool, device: str
) -> dict[str, Any]:
    """Times of one network."""
    model = in_order(make().to(device), torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 32, 32, generator=generator).to(device)
    *_, classifier = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():  # as random weights come, one class would have all answers
        classifier.bias.sub_(torch.cat([model(part) for part in images.split(100)]).mean(0))
        data = images, torch.cat([model(part).argmax(1) for part in images.split(100)])
    clean = in_order(copy.deepcopy(model), torch.channels_last)
    best, milliseconds = fastest(clean, [Layout(size, channels_last=True) for size in BATCH_SIZES], data, passes)
    batches = prepared(best, data)
    tiles = on_torch_tiles(model, HOUR) if beside else None
    theirs: dict[str, Any] = {}
    if tiles is not None:
        analog, new_chip = tiles
        new_chip()
        layouts = [Layout(size, channels_last=last) for last in (False, True) for size in BATCH_SIZES]
        plain, found = fastest(analog, layouts[: len(BATCH_SIZES)], data, 3)
        last, found_last = fastest(analog, layouts[len(BATCH_SIZES) :], data, 3)
        theirs = {"milliseconds_of_500_images": found | found_last}
    reference: list[Times] = []
    kinds = {name: (noise, None) for name, (noise, _) in NOISES.items()} | {
        LOWERED: (PCM(time_s=HOUR, compensation=None), "bfloat16")
    }
    costs: dict[str, list[tuple[Times, Times]]] = {name: [] for name in kinds}
    others: dict[str, list[Times]] = {"as in its examples": [], "channels last": []}
    for number in range(rounds):
        print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for name, (noise, autocast) in kinds.items():
            of_passes: list[Times] = []

            def after_each(_: object, of_passes: list[Times] = of_passes) -> None:
                of_passes.append(timed(lambda: count_right(clean, batches)))

            own = partial(evaluate, trials=chips, progress=after_each, autocast=autocast)
            of_all = timed(partial(own, model, data, noise))
            of_reference = np.sum(of_passes, axis=0)
            costs[name].append(((of_all - of_reference) / chips, of_reference / chips))
            reference.append(of_reference / chips)
        if tiles is not None:
            for name, layout in zip(others, (plain, last), strict=True):
                of_layout = prepared(layout, data)

                def chip(of_layout: list[tuple[Tensor, ...]] = of_layout) -> None:
                    new_chip()
                    count_right(analog, of_layout)

                others[name].append(np.mean([timed(chip) for _ in range(AIHWKIT_CHIPS)], axis=0))
    print(file=sys.stderr)
    if tiles is not None:
        theirs |= {"version": version("aihwkit"), "chips_a_round": AIHWKIT_CHIPS, "limit": TIMES_FASTER}
        for name, of in others.items():
            theirs[name] = {"milliseconds": quartiles(1e3 * np.array(of)[:, 0], 1)}
            for kind in ("PCM, 1 hour", LOWERED):
                ours = np.array([cost for cost, _ in costs[kind]])
                theirs[name][kind] = ratios(np.array(of) / ours, TIMES_FASTER)
    per_pass = np.median(reference, axis=0)
    plainly, lowered = (
        evaluate(model, data, COMPENSATED, trials=chips, autocast=autocast) for autocast in (None, "bfloat16")
    )
    change = mean_interval(np.subtract(lowered.trials, plainly.trials).tolist(), resolution=plainly.resolution)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "chips_a_round": chips,
        "rounds": rounds,
        "reference_layout": vars(best),
        "reference_milliseconds": quartiles(1e3 * np.array(reference)[:, 0], 1),
        "reference_gflops": round(operations(clean, data) / per_pass[0] / 1e9, 1),
        "matmul_gflops": round(matmul_rate(device), 1),
        "milliseconds_of_500_images_by_batch_size": milliseconds,
        "layout": vars(Layout.of(model, data)),
        "noises": {
            name: {"noise": repr(noise), "limit": limit}
            | ratios(np.array([cost / of for cost, of in costs[name]]), limit, at_most=True)
            for name, (noise, limit) in NOISES.items()
        },
        "bfloat16": ratios(np.array([cost / of for cost, of in costs[LOWERED]]), math.inf, at_most=True)
        | {
            "accuracy_with": repr(COMPENSATED),
            "accuracy": vars(plainly.interval),
            "change": vars(change),
            "half_width": plainly.interval.half_width,
            "chips": chips,
            "within": max(abs(change.low), abs(change.high)) <= plainly.interval.half_width,
        },
        "aihwkit": theirs or None,
    }


def ratios(found: Any, limit: float, *, at_most: bool = False) -> dict[str, Any]:
    """Quartiles on both clocks, and whether both medians meet a limit."""
    medians = np.median(found, axis=0)
    return {
        "ratio": quartiles(found[:, 0]),
        "ratio_elapsed": quartiles(found[:, 1]),
        "met": bool((medians <= limit).all() if at_most else (medians >= limit).all()),
    }


def shown(record: dict[str, Any]) -> str:
    """One line for each ratio, with what is aimed at."""

    def row(what: str, of: dict[str, Any], limit: str) -> list[str]:
        middle = [f"{m:.2f} [{low:.2f}, {high:.2f}]" for low, m, high in (of["ratio"], of["ratio_elapsed"])]
        met = ("yes" if of["met"] else "NO") if limit else ""
        return [what, *middle, limit, met]

    lines = []
    for name, of in record["networks"].items():
        for noise, cost in of["noises"].items():
            what = f"{name}: {noise}, a chip in reference passes"
            lines.append(row(what, cost, f"≤ {cost['limit']:.2f}"))
        if "bfloat16" in of:
            lines.append(row(f"{name}: {LOWERED}, a chip in reference passes", of["bfloat16"], ""))
        if of["aihwkit"]:
            for images in ("as in its examples", "channels last"):
                for kind in ("PCM, 1 hour", LOWERED):
                    what = f"{name}: {kind}, chips in the time of one of aihwkit's, its images {images}"
                    lines.append(row(what, of["aihwkit"][images][kind], f"≥ {TIMES_FASTER:.0f}"))
    return table(["what", "processor time", "elapsed", "limit", "met"], lines)


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Cost of an evaluation.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rounds-large", type=int, default=3)
    parser.add_argument("--only", choices=("CNN", "ResNet-18"), help="Measure one network and keep the other's record.")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    images, chips, device = arguments.images, arguments.chips, arguments.device
    cpu = device == "cpu"
    out = arguments.out or (RECORD if cpu else RECORD.with_stem("evaluation-cost-cuda"))
    torch.set_num_threads(1)
    measurements = {
        "CNN": lambda: measure(
            network, n=images, chips=chips, rounds=arguments.rounds, passes=7, beside=cpu, device=device
        ),
        "ResNet-18": lambda: measure(
            lambda: make_network("resnet18", (3, 32, 32), 10, 0).eval(),
            n=images,
            chips=chips,
            rounds=arguments.rounds_large,
            passes=2,
            beside=False,
            device=device,
        ),
    }
    record: dict[str, Any] = {
        "device": "cpu, one thread" if cpu else torch.cuda.get_device_name(device),
        "images": images,
        "seeds": {"networks": 0, "images": 0, "chips": 0},
        "networks": json.loads(out.read_text(encoding="utf-8"))["networks"] if arguments.only and out.exists() else {},
    }
    for name, measured in measurements.items():
        if arguments.only in (None, name):
            load = [round(part, 1) for part in os.getloadavg()]
            record["networks"][name] = {
                "environment": vars(environment()) | {"threads": 1, "cores": os.cpu_count()},
                **measured(),
                "load_before_and_after": [load, [round(part, 1) for part in os.getloadavg()]],
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(shown(record))


if __name__ == "__main__":
    main()
