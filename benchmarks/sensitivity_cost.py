"""What reusing activations saves in a sensitivity analysis.

    python -m benchmarks.sensitivity_cost     # about 2 minutes on one core

A chip of `sensitivity` runs the model with noise on all layers, on each alone and on all but each; with reuse also once
without noise. Both ways run in turn, round after round, in one process with one thread, and give the same bits. Times
are of the process, for one chip; a ratio is the median over rounds of the time with reuse to that without, with
the quartiles. Weights are not trained, which does not matter for time.

Activations in place save less: what they overwrite is copied, and they are computed again.

Writes `benchmarks/records/sensitivity-cost.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samson.evaluation import Layout
from samson.evaluation.layers import LayersTask, layers_on_chip
from samson.evaluation.setting import prepare
from samson.experiments.environment import environment
from samson.experiments.networks import SmallResNet
from samson.noise import PCM, Gaussian, WeightNoise

IMAGES = 200
RECORD = Path(__file__).parent / "records" / "sensitivity-cost.json"
NOISES: dict[str, WeightNoise] = {"gaussian": Gaussian(0.1), "pcm": PCM(time_s=3600.0)}


def plain_cnn(*, inplace: bool) -> nn.Module:
    """Nine convolutions with batch norm and activations, about 200,000 parameters, for 32 x 32 images."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (96, 1)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=inplace),
        ]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


def cases() -> dict[str, tuple[nn.Module, Tensor]]:
    """Networks by name, with images."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(IMAGES, 1, 8, 8, generator=generator)
    large = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    torch.manual_seed(0)
    return {
        "small-resnet, 8 x 8": (SmallResNet(), small),
        "plain CNN, 32 x 32": (plain_cnn(inplace=False), large),
        "plain CNN, activations in place": (plain_cnn(inplace=True), large),
    }


def measure(model: nn.Module, images: Tensor, noise: WeightNoise, rounds: int) -> dict[str, Any]:
    """Seconds a chip both ways, and their ratio."""
    data = images, torch.zeros(len(images), dtype=torch.int64)
    prepared = prepare(model, data, noise, metric="cross-entropy", layout=Layout(100, channels_last=True))
    layers = tuple(layers_on_chip(model))
    tasks = {reuse: LayersTask(**vars(prepared.task), layers=layers, reuse=reuse) for reuse in (False, True)}
    if not np.array_equal(tasks[True](0), tasks[False](0)):
        raise RuntimeError("Reuse changes the results.")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for reuse, task in tasks.items():
            start = time.process_time()
            task(number)
            seconds[reuse].append(time.process_time() - start)
    ratios = np.divide(seconds[True], seconds[False])
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": len(layers),
        "passes": 2 * len(layers) + 1,
        "seconds_in_full": round(float(np.median(seconds[False])), 3),
        "seconds_with_reuse": round(float(np.median(seconds[True])), 3),
        "ratio": [round(q, 3) for q in np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = {
        network: {name: measure(model, images, noise, rounds) for name, noise in NOISES.items()}
        for network, (model, images) in cases().items()
    }
    for network, by_noise in found.items():
        for noise, row in by_noise.items():
            print(f"{network}, {noise}: {row}")
    record = {
        "rounds": rounds,
        "images": IMAGES,
        "batch": 100,
        "networks": found,
        "environment": vars(environment()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
