"""Top-1 accuracy of a classifier, leaving model and random state as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

Batches = Iterable[tuple[Tensor, Tensor]]
"""Batches of (inputs, class numbers): a DataLoader, a list, or a pair of whole tensors."""

BATCH = 256


def as_batches(data: Batches | tuple[Tensor, Tensor]) -> Batches:
    """Something that can be run through for every chip: whole tensors are cut up, a one-shot iterator is kept.

    Raises:
        ValueError: If a pair of tensors has different lengths, or none at all.
    """
    if isinstance(data, tuple) and isinstance(data[0], Tensor) and isinstance(data[1], Tensor):
        inputs, targets = data[0], data[1]
        if len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"`data` must pair each input with a target, got {len(inputs)} inputs and {len(targets)} targets."
            )
        return list(zip(torch.split(inputs, BATCH), torch.split(targets, BATCH), strict=True))
    return list(data) if isinstance(data, Iterator) else cast("Batches", data)


def accuracy(model: nn.Module, batches: Batches) -> float:
    """The fraction of examples whose largest output is the target's, in evaluation mode.

    Args:
        model: Gives logits of shape (batch, classes).
        batches: Pairs of inputs and class numbers of shape (batch,); moved to the model's device.

    Returns:
        A fraction between 0 and 1.

    Raises:
        ValueError: If there is no example.
    """
    return _share(*_count(model, batches))


def accuracy_by_blocks(
    model: nn.Module, batches: Batches, size: int, reading: Callable[[int], AbstractContextManager[object]]
) -> float:
    """As `accuracy`, with a reading of its own for each block of examples, whatever the batches.

    Args:
        model: As for `accuracy`.
        batches: As for `accuracy`; cut where a block ends.
        size: Examples in a block, ≥ 1, counted from the start of the data.
        reading: Gives the block in which the model runs, from the number of the block of examples.
    """
    right = examples = 0
    for number, pieces in groupby(_blocks(batches, size), key=lambda piece: piece[0]):
        with reading(number):
            of_block = _count(model, ((inputs, targets) for _, inputs, targets in pieces))
        right, examples = right + of_block[0], examples + of_block[1]
    return _share(right, examples)


@torch.no_grad()
def _count(model: nn.Module, batches: Batches) -> tuple[int, int]:
    """Numbers of right answers and of examples."""
    device = next(model.parameters()).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    examples = 0
    with evaluation_mode(model):
        for inputs, targets in batches:
            right += (model(inputs.to(device)).argmax(dim=1) == targets.to(device)).sum()
            examples += len(targets)
    return int(right), examples


def _share(right: int, examples: int) -> float:
    if not examples:
        raise ValueError("`data` must hold at least one example, got none.")
    return right / examples


def _blocks(batches: Batches, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Batches cut where a block of examples ends, each with the number of its block."""
    start = 0
    for inputs, targets in batches:
        done = 0
        while done < len(targets):
            end = min(len(targets), done + size - (start + done) % size)
            yield (start + done) // size, inputs[done:end], targets[done:end]
            done = end
        start += len(targets)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
