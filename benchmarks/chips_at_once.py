"""Whether several chips in one forward pass are faster than one after another.

    python -m benchmarks.chips_at_once --device cuda

A small network that is put on one chip at a time leaves a GPU waiting for its next kernel. Here the weights of several
chips, Gaussian noise relative to each layer's largest, are stacked, and `torch.func.vmap` computes the same images with
all of them. Beside it stand the same stacked weights one after another, and `evaluate`, with all that it does; all get
the images in the same memory order. Groups of 1, 4, 16 and 64 chips take turns, round after round; a rate is the
median, with the least and the largest. How far the outputs of the two differ at most, relative to the largest, is
recorded.

Writes `benchmarks/records/chips-at-once.json`, or `chips-at-once-cuda.json`, and prints it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from benchmarks.chip_cost import network, now
from benchmarks.evaluation_networks import resnet18
from benchmarks.throughput import spread
from samson.evaluation import evaluate
from samson.experiments import environment, one_thread
from samson.noise import Gaussian

RECORD = Path(__file__).parent / "records" / "chips-at-once.json"
NETWORKS: dict[str, Callable[[], nn.Module]] = {"CNN": network, "ResNet-18": resnet18}
GROUPS = (1, 4, 16, 64)
SIGMA, BATCH_SIZE, SEED = 0.1, 500, 0

Weights = dict[str, Tensor]


def stacked(model: nn.Module, chips: int) -> Weights:
    """The weights of so many chips, by name, with the chip as first axis."""
    found = {name: p.detach().expand(chips, *p.shape) for name, p in model.named_parameters()}
    return {name: w + SIGMA * w.abs().max() * torch.randn_like(w) if w.ndim > 2 else w for name, w in found.items()}


def one_after_another(model: nn.Module, weights: Weights, images: Tensor) -> Tensor:
    """Outputs (chips, images, classes), chip by chip."""
    chips = len(next(iter(weights.values())))
    own = ({name: w[i] for name, w in weights.items()} for i in range(chips))
    return torch.stack([torch.cat([functional_call(model, w, (x,)) for x in images.split(BATCH_SIZE)]) for w in own])


def at_once(model: nn.Module, weights: Weights, images: Tensor) -> Tensor:
    """The same of all chips together; of fewer images, so that as many activations are held."""
    size = max(1, BATCH_SIZE // len(next(iter(weights.values()))))
    run = vmap(lambda w, x: functional_call(model, w, (x,)), in_dims=(0, None))
    return torch.cat([run(weights, x) for x in images.split(size)], 1)


def measure(name: str, images: int, groups: tuple[int, ...], rounds: int, device: str) -> dict[str, Any]:
    """Chips a second of one network."""
    model = NETWORKS[name]().to(device, memory_format=torch.contiguous_format)
    torch.manual_seed(SEED)
    inputs = torch.randn(images, 3, 32, 32).to(device)
    targets = torch.zeros(images, dtype=torch.long, device=device)
    weights = {chips: stacked(model, chips) for chips in groups}
    turns: dict[str, tuple[int, Callable[[], Any]]] = {
        "evaluate": (4, lambda: evaluate(model, (inputs, targets), Gaussian(SIGMA), trials=4))
    }
    differences = {}
    for chips, of in weights.items():
        plain, together = (partial(run, model, of, inputs) for run in (one_after_another, at_once))
        turns |= {f"{chips} one after another": (chips, plain), f"{chips} at once": (chips, together)}
        one, other = plain(), together()
        differences[str(chips)] = round(float((one - other).abs().max() / one.abs().max()), 6)
    rates: dict[str, list[float]] = {key: [] for key in turns}
    for number in range(rounds + 1):  # the first is to warm up
        print(f"\r{name}: round {number} of {rounds} ", end="", file=sys.stderr, flush=True)
        for key, (chips, run) in turns.items():
            start = now()
            run()
            rates[key].append(chips / float((now() - start)[1]))
    print(file=sys.stderr)
    return {
        "chips_a_second": {key: spread(of[1:], 2) for key, of in rates.items()},
        "largest_difference": differences,
    }


def main() -> None:
    """Measure, write the record and print it."""
    parser = argparse.ArgumentParser(description="Several chips in one pass.")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="20 images on 4 chips, which measure nothing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cpu = given.device == "cpu"
    images, groups, rounds = (20, (1, 4), 2) if given.tiny else (given.images, GROUPS, given.rounds)
    with one_thread(), torch.inference_mode():
        about = environment("cpu" if cpu else torch.cuda.get_device_name(given.device))
        networks = {name: measure(name, images, groups, rounds, given.device) for name in given.networks}
    record = {
        "environment": vars(about),
        "seeds": {"networks": 0, "images and chips": SEED},
        "images": images,
        "rounds": rounds,
        "networks": networks,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    out = given.out or (RECORD if cpu else RECORD.with_stem("chips-at-once-cuda"))
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    for name, of in networks.items():
        for key, (low, middle, high) in of["chips_a_second"].items():
            print(f"{name}: {key} {middle:,.1f} [{low:,.1f}, {high:,.1f}] chips/s")


if __name__ == "__main__":
    main()
