"""Distillation: a part of the loss that a teacher gives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation(outputs: Tensor, taught: Tensor, temperature: float, weight: float) -> Tensor:
    """weight·t²·KL(teacher ‖ network) of the softmax of logits over t along the last axis, the mean over the rest.

    Reference: Hinton et al. 2015, arXiv 1503.02531, section 2.
    """
    own, theirs = (functional.log_softmax(logits / temperature, dim=-1).flatten(0, -2) for logits in (outputs, taught))
    apart = functional.kl_div(own, theirs, reduction="batchmean", log_target=True)
    return weight * temperature**2 * apart
