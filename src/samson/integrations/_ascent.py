"""What trainers log of the last perturbation."""

from __future__ import annotations

from torch import Tensor

from samson.optim import Lookbehind, SharpnessAware


def ascent_values(optimizer: SharpnessAware | Lookbehind) -> dict[str, Tensor]:
    """What is known of the last perturbation, as tensors on the device; empty before the first.

    They are its gradient norm, ‖ε‖ if the optimizer was made with `measure=True`, the loss before and after it, and
    how many were skipped.

    Example:
        >>> import torch
        >>> from samson import SAM
        >>> ascent_values(SharpnessAware(torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1), SAM()))
        {}
    """
    ascent = optimizer.last_ascent
    if ascent is None:
        return {}
    values = {
        "gradient_norm": ascent.gradient_norm,
        "epsilon_norm": ascent.epsilon_norm,
        "clean_loss": ascent.clean_loss,
        "perturbed_loss": ascent.perturbed_loss,
        "skipped": optimizer.skipped_ascents,
    }
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
