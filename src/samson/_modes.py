"""A model in one mode for a while: evaluation or training, and back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from samson._interrupts import uninterrupted


@uninterrupted
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block.

    Each module gets its own mode back, and the CPU's global random state and the gradient mode are as before.
    """
    training = [module for module in model.modules() if getattr(module, "training", False)]  # a frozen one has none
    random_state, gradients = torch.get_rng_state(), torch.is_grad_enabled()
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
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modes
        for name, buffer in module._buffers.items()
        if buffer is not None and _is_writable(buffer)
    ]
    model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module, name, buffer, before in buffers:
            module._buffers[name] = buffer.copy_(before)  # the same one, also where the model has set another


def _is_writable(buffer: Tensor) -> bool:
    """Whether a model may write into it: not if it has no shape yet, is expanded, or was made in inference mode."""
    if nn.parameter.is_lazy(buffer) or buffer.is_inference():
        return False
    return buffer.layout != torch.strided or torch._debug_has_internal_overlap(buffer) != 1
