"""Running statistics of norm layers, held still while a model runs with perturbed weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def frozen_statistics(model: nn.Module | None) -> Iterator[None]:
    """Put the running statistics back at exit, whatever forward passes did to them.

    The buffers are saved and copied back. No attribute of a layer is touched, so momentum stays right, batches are
    counted once and a compiled model does not recompile.

    Args:
        model: The model, also wrapped or compiled; None does nothing.
    """
    live = [] if model is None else running_statistics(model)
    saved = [buffer.clone() for buffer in live]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(live, saved, strict=True):
                buffer.copy_(value)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Every buffer that a norm layer in training mode updates by itself in its forward pass."""
    found: dict[int, Tensor] = {}
    for module in model.modules():
        if module.training:
            for name, buffer in module.named_buffers(recurse=False):
                if name.startswith("running_") or name == "num_batches_tracked":
                    found[id(buffer)] = buffer
    return list(found.values())
