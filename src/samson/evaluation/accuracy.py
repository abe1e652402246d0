"""Top-1 accuracy of a classifier, leaving model and random state as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@torch.no_grad()
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
    device = next(model.parameters()).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    examples = 0
    with evaluation_mode(model):
        for inputs, targets in batches:
            right += (model(inputs.to(device)).argmax(dim=1) == targets.to(device)).sum()
            examples += len(targets)
    if not examples:
        raise ValueError("`data` must hold at least one example, got none.")
    return int(right) / examples


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
