"""A model in one mode for a while: evaluation or training, and back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from samson._buffers import held_buffers
from samson._interrupts import uninterrupted


@uninterrupted
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block.

    Each module gets its own mode back, and the CPU's global random state and the gradient mode are as before. So is
    what layers write into buffers, as observers do in either mode. A buffer that a layer exchanges stays: it may be a
    table that grew, whose length the layer keeps elsewhere.
    """
    training = [module for module in model.modules() if getattr(module, "training", False)]  # a frozen one has none
    random_state, gradients = torch.get_rng_state(), torch.is_grad_enabled()
    with held_buffers([model], exchanged=False):
        try:
            model.eval()
            yield
        finally:
            for module in training:
                module.training = True
            torch.set_rng_state(random_state)
            torch.set_grad_enabled(gradients)


@uninterrupted
def training_mode(model: nn.Module) -> Iterator[None]:
    """Training mode inside the block; each module gets its own mode back, and buffers are as before."""
    modes = {module: module.training for module in model.modules()}
    with held_buffers([model]):
        model.train()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
