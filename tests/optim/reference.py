"""Sharpness-aware SGD written out in float64: each rule's T in numpy, gradients anywhere, and a loop's steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from samson import ASAM, SAM, SAMSON, RangeSAM
from samson.optim import Rule
from tests.conftest import Batch, make_model

Values = list[Tensor]
Scale = Callable[[str, np.ndarray], np.ndarray | float]
LR, MOMENTUM, DECAY = 0.1, 0.9, 1e-3


@dataclass
class Case:
    """A rule and its T, written independently: from a parameter's name and value."""

    rule: Rule
    scale: Scale


def by_name(formula: Callable[[np.ndarray], np.ndarray | float]) -> Scale:
    """The authors' policy."""
    return lambda name, w: formula(w) if "weight" in name else 1.0


def samson(eta: float, p: float) -> Callable[[np.ndarray], np.ndarray | float]:
    def formula(w: np.ndarray) -> np.ndarray:
        size = np.abs(w).max() if p == math.inf else (np.abs(w) ** p).sum() ** (1 / p)
        return (np.abs(w) + eta) / size if size else np.zeros_like(w)

    return formula


def of_matrices(formula: Callable[[np.ndarray], np.ndarray | float]) -> Scale:
    """What lies on the chip, here by shape; the rest is left where it is."""
    return lambda name, w: formula(w) if w.ndim >= 2 else 0.0


def largest_of_channels(w: np.ndarray) -> np.ndarray:
    return np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True)


CASES = {
    "sam": Case(SAM(rho=0.1), lambda name, w: 1.0),
    "asam": Case(ASAM(rho=0.5), by_name(lambda w: np.abs(w) + 0.01)),
    "asam-all": Case(ASAM(rho=0.5, eta=0.0, policy="all"), lambda name, w: np.abs(w)),
    "samson": Case(SAMSON(rho=0.3), by_name(samson(0.01, math.inf))),
    "samson-p2": Case(SAMSON(rho=0.3, p=2), by_name(samson(0.01, 2))),
    "samson-p3-eta0": Case(SAMSON(rho=0.3, p=3, eta=0.0), by_name(samson(0.0, 3))),
    "samson-p1.5": Case(SAMSON(rho=0.3, p=1.5), by_name(samson(0.01, 1.5))),
    "samson-matrices": Case(
        SAMSON(rho=0.3, policy="matrices"), lambda name, w: samson(0.01, math.inf)(w) if w.ndim >= 2 else 1.0
    ),
    "rangesam": Case(RangeSAM(rho=0.5), of_matrices(lambda w: np.abs(w).max())),
    "rangesam-channel": Case(RangeSAM(rho=0.5, per="channel"), of_matrices(largest_of_channels)),
}


class Loop:
    """The parts of a hand-written loop: gradients anywhere, w + ε of a case, and SGD with momentum."""

    def __init__(self, lr: float = LR, decay: float = DECAY) -> None:
        self.model, self.lr, self.decay = make_model(), lr, decay
        self.names = [name for name, _ in self.model.named_parameters()]
        self.w = [p.detach().clone() for p in self.model.parameters()]
        self.speed = [torch.zeros_like(p) for p in self.w]

    def gradient(self, at: Values, batch: Batch) -> Values:
        leaves = {n: v.detach().clone().requires_grad_() for n, v in zip(self.names, at, strict=True)}
        buffers = {n: b.clone() for n, b in self.model.named_buffers()}
        loss = nn.functional.cross_entropy(torch.func.functional_call(self.model, leaves | buffers, batch[0]), batch[1])
        return list(torch.autograd.grad(loss, list(leaves.values())))

    def climbed(self, case: Case, along: Values, rho: float | None = None) -> Values:
        here = [w.detach() for w in self.w]
        t = [torch.as_tensor(case.scale(n, w.numpy()), dtype=w.dtype) for n, w in zip(self.names, here, strict=True)]
        norm = product([a * b for a, b in zip(t, along, strict=True)]) ** 0.5
        rho = case.rule.rho if rho is None else rho
        return [w + rho * s**2 * g / norm for w, s, g in zip(here, t, along, strict=True)]

    def descend(self, g: Values) -> None:
        for i, value in enumerate(g):
            self.speed[i] = MOMENTUM * self.speed[i] + value + self.decay * self.w[i]
            self.w[i] = self.w[i] - self.lr * self.speed[i]


def product(one: Values, other: Values | None = None) -> Tensor:
    return sum((a * b).sum() for a, b in zip(one, one if other is None else other, strict=True))


def mixed(share: float, one: Values, other: Values) -> Values:
    return [share * a + (1 - share) * b for a, b in zip(one, other, strict=True)]


def apart(one: Values, other: Values) -> float:
    return float(np.max([float((a.detach() - b).abs().max()) for a, b in zip(one, other, strict=True)]))  # NaN counts


class Switching(nn.Module):
    """One pass uses one head, the next the other: each has a gradient in every other pass only."""

    def __init__(self, passes: int = 0) -> None:
        super().__init__()
        self.body, self.heads = nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 3) for _ in range(2)])
        self.passes = passes

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.heads[(self.passes - 1) % 2](self.body(x))
