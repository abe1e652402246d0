"""A learned range: weights clamped in place against a parametrisation with latent weights, as LSQ has it.

`LearnedRange` keeps the weights themselves within their range and moves it by what wants beyond. LSQ (arXiv 1902.08153)
keeps latent weights that may lie beyond, clamps them in the forward pass, and gives the range the whole gradient of the
clamp. Both have eight candidates here (first range and penalty), and are scored as in `search_digits.py`: digits,
validation split, two seeds, mean over Gaussian noise levels.

    python -m benchmarks.learned_range       # about 10 minutes on one core

Writes `benchmarks/records/learned-range.json`.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from benchmarks.search_digits import SEEDS, validated
from benchmarks.writing import write
from samson.experiments import parse_methods
from samson.noise import on_chip

RECORD = Path(__file__).parent / "records" / "learned-range.json"
STARTS = (1.2, 2.0)


class _Clamp(torch.autograd.Function):
    """A clamp whose range gets LSQ's gradient, scaled by 1/√n."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, limit: Tensor) -> Tensor:
        ctx.save_for_backward(weight, limit)
        return weight.clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, limit = ctx.saved_tensors
        beyond = weight.abs() >= limit
        of_limit = (gradient * weight.sign())[beyond].sum() / weight.numel() ** 0.5
        return gradient.masked_fill(beyond, 0), of_limit


class Clamped(nn.Module):
    """A weight within a learned range."""

    def __init__(self, limit: Tensor) -> None:
        super().__init__()
        self.limit = nn.Parameter(limit)

    def forward(self, weight: Tensor) -> Tensor:
        """The clamped weight."""
        return _Clamp.apply(weight, self.limit.clamp_min(1e-6))


def latent(model: nn.Module, penalty: float = 0.01, start: float = 2.0) -> Optimizer:
    """SGD on latent weights and ranges; the penalty is the ranges' weight decay."""
    for tensor in on_chip(model):
        [layer] = tensor.place.modules
        parametrize.register_parametrization(layer, "weight", Clamped(start * tensor.weight.std(correction=0)))
    ranges = [p for name, p in model.named_parameters() if name.endswith(".limit")]
    others = [p for name, p in model.named_parameters() if not name.endswith(".limit")]
    groups = [{"params": others, "weight_decay": 5e-4}, {"params": ranges, "weight_decay": penalty}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)


FORMS = {
    "in place": ("learned-range", (0.1, 0.3, 1.0, 3.0)),
    "parametrised": ("benchmarks.learned_range:latent", (0.001, 0.003, 0.01, 0.03)),
}
"""The method and its penalties: a range that is a parameter has the base's momentum, which is worth a factor of ten."""


def main() -> None:
    """Score both forms and write the record."""
    found: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
    for form, (name, penalties) in FORMS.items():
        for penalty, start in itertools.product(penalties, STARTS):
            settings = {"penalty": penalty, "start": start}
            table = [validated(parse_methods([{"method": name, **settings}], data="digits")[0], seed) for seed in SEEDS]
            found[form].append({"settings": settings, "by_seed_and_level": np.round(table, 6).tolist()})
            sys.stderr.write(f"{form} {settings} {np.mean(table):.4f}\n")
    write(RECORD, {"forms": found, "seeds": SEEDS})


if __name__ == "__main__":
    main()
