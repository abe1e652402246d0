"""Training loops side by side: samson's whole one, and a bare one of PyTorch over tensors that are ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import in_order
from samson.experiments import TASKS, Place, Recipe, Run, Splits, make_network, parse_methods, train

ORDERS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
METHODS = {method.name: method for method in parse_methods(["sgd", "samson"], data="digits")}
SHAPE, CLASSES, SEED = (3, 32, 32), 10, 0

Loop = Callable[[int], bool]
"""Trains a new network for so many epochs; whether the training was saved on the way."""


def pictures(n: int) -> Splits:
    """Random images with random classes."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randint(256, (n, *SHAPE), generator=generator, dtype=torch.uint8)
    classes = torch.randint(CLASSES, (n,), generator=generator)
    few = images[:1], classes[:1]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return Splits((images, classes), few, few, CLASSES, mean=mean, std=std, augment=("crop", "flip"))


def whole(data: Splits, name: str, method: str, precision: str, batch_size: int, device: str) -> Loop:
    """Our loop."""

    def loop(epochs: int) -> bool:
        with TemporaryDirectory() as folder:
            run = Run(
                data=data,
                task=TASKS["classification"](),
                network=lambda: make_network(name, SHAPE, CLASSES, SEED),
                method=METHODS[method],
                recipe=Recipe(epochs=epochs, batch_size=batch_size, precision=precision),
                seed=SEED,
                place=Place(torch.device(device)),
                folder=Path(folder),
            )
            train(run)
            return any(Path(folder).iterdir())

    return loop


def bare(data: Splits, name: str, order: str, precision: str, batch_size: int, device: str) -> Loop:
    """PyTorch alone."""
    inputs, targets = (part.to(device) for part in cast("tuple[Tensor, Tensor]", data.examples("train")))
    batches = [
        (some.contiguous(memory_format=ORDERS[order]), wanted)
        for some, wanted in zip(inputs.split(batch_size), targets.split(batch_size), strict=True)
    ]

    def loop(epochs: int) -> bool:
        model = in_order(make_network(name, SHAPE, CLASSES, SEED).to(device), ORDERS[order])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        for some, wanted in epochs * batches:
            optimizer.zero_grad()
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = model(some)
            functional.cross_entropy(outputs.float(), wanted).backward()
            optimizer.step()
        return False

    return loop


def loops(data: Splits, name: str, precision: str, batch_size: int, device: str) -> dict[str, Loop]:
    """What takes turns."""
    found = {f"bare, {order}": bare(data, name, order, precision, batch_size, device) for order in ORDERS}
    return found | {method: whole(data, name, method, precision, batch_size, device) for method in METHODS}
