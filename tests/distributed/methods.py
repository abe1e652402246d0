"""A small float64 network without batch norm, its mini-batches, and every method that is to train it anywhere."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samson import (
    ASAM,
    SAM,
    SAMSON,
    FixedClipping,
    LearnedRange,
    Lookbehind,
    NoiseInjection,
    RangeSAM,
    SharpnessAware,
    WeightClipping,
    param_groups,
)
from samson.noise import Gaussian
from samson.optim import Norms, ScalingRule

Batch = tuple[Tensor, Tensor]
Make = Callable[[nn.Module], torch.optim.Optimizer]


def make_net(seed: int = 0) -> nn.Sequential:
    """Tensors of 6, 5, 3 and 1 rows: two processes share them evenly, unevenly, and with nothing for the second."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1)
    ).double()
    with torch.no_grad():
        net[3].weight.uniform_(0.5, 1.5)
    return net


class Attention(nn.Module):
    """Packed queries, keys and values of 4 rows each: of two processes the first has 6 rows, the second 6."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.attention = nn.Linear(4, 12), nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm([3, 4]), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x).tanh().view(-1, 3, 4)
        return self.head(self.norm(x + self.attention(x, x, x, need_weights=False)[0]).flatten(1))


def make_attention(seed: int = 0) -> Attention:
    """A norm's scale and the narrow rest of it have two axes, so shapes alone do not say what lies on the chip."""
    torch.manual_seed(seed)
    net = Attention().double()
    with torch.no_grad():
        net.norm.weight.uniform_(0.5, 1.5)
        net.norm.bias.uniform_(-0.5, 0.5)
        net.attention.in_proj_weight.mul_(torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(4).unsqueeze(1))
    return net


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    return x, x[:, :2].prod(1, keepdim=True).tanh()


def part_of(batch: Batch, rank: int) -> Batch:
    """One of two halves, whose mean gradients have the batch's gradient as their mean."""
    return batch[0][rank::2], batch[1][rank::2]


def own_parts(batches: list[Batch]) -> list[Batch]:
    """This process's half of each batch."""
    return [part_of(batch, dist.get_rank()) for batch in batches]


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), lr=0.02, momentum=0.8, weight_decay=1e-3)


def adagrad(model: nn.Module) -> torch.optim.Adagrad:
    """Has its state from the start."""
    return torch.optim.Adagrad(param_groups(model), lr=0.02)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]) -> None:
    """One step for each batch, by a closure."""
    for batch in batches:

        def closure(batch: Batch = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)


@dataclass(frozen=True)
class RMSSAM(ScalingRule):
    """T = (|w| + η) / √(mean of w²), and 0 for a tensor of zeros; of a whole tensor, whatever part of it is here."""

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        counts = norms([torch.ones_like(w) for w in weights], 1)
        sizes = [length / count.sqrt() for length, count in zip(norms(weights, 2), counts, strict=True)]
        return [(w.abs() + self.eta) * torch.where(s > 0, 1 / s, 0) for w, s in zip(weights, sizes, strict=True)]


def with_groups(model: nn.Module) -> SharpnessAware:
    """The last layer, of which the second process has nothing, is a group of its own; another is not perturbed."""
    named = list(model.named_parameters())
    groups = [{"params": named[:6]}, {"params": named[6:8], "perturb": False}, {"params": named[8:], "rho": 0.3}]
    return SharpnessAware(torch.optim.SGD(groups, lr=0.1, momentum=0.9), SAMSON(rho=0.2), model=model)


RULES: dict[str, Make] = {
    "sam": lambda model: SharpnessAware(sgd(model), SAM(rho=0.2)),
    "asam": lambda model: SharpnessAware(sgd(model), ASAM(rho=0.5)),
    "samson-p2": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5, p=2)),
    "samson": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5)),
    "samson-p3": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5, p=3)),
    "samson-groups": with_groups,
    "of-ones-own": lambda model: SharpnessAware(sgd(model), RMSSAM(rho=0.5)),
    "rangesam": lambda model: SharpnessAware(sgd(model), RangeSAM(rho=0.5)),
    "rangesam-channel": lambda model: SharpnessAware(sgd(model), RangeSAM(rho=0.5, per="channel")),
    "rangesam-through": lambda model: SharpnessAware(sgd(model), RangeSAM(rho=0.5, through_range=True)),
}
"""Ascents along the gradient."""

MODES: dict[str, Make] = {
    "previous": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5), ascent="previous"),
    "momentum": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5), ascent="momentum"),
    "previous-adagrad": lambda model: SharpnessAware(adagrad(model), SAMSON(rho=0.5), ascent="previous"),
    "every": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5), every=3),
    "reuse": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5), every=3, reuse=0.5),
    "reuse-adagrad": lambda model: SharpnessAware(adagrad(model), SAMSON(rho=0.5), every=3, reuse=0.5),
    "mix": lambda model: SharpnessAware(sgd(model), SAMSON(rho=0.5), mix=0.6),
    "previous-every-mix": lambda model: SharpnessAware(sgd(model), SAM(rho=0.2), ascent="previous", every=2, mix=0.6),
    "noise": lambda model: SharpnessAware(sgd(model), NoiseInjection(Gaussian(0.1), seed=3)),
    "noise-mix": lambda model: SharpnessAware(sgd(model), NoiseInjection(Gaussian(0.1), seed=3), mix=0.5),
    "lookbehind": lambda model: Lookbehind(sgd(model), SAMSON(rho=0.2), k=2, alpha=0.5),
    "lookbehind-adaptive": lambda model: Lookbehind(sgd(model), SAM(rho=0.1), k=3, alpha="adaptive"),
}
"""Everything else."""

PARTS_OF_OTHERS = ("previous-adagrad", "every", "reuse-adagrad", "previous-every-mix", "noise-mix", "lookbehind")
"""Modes that do nothing with gradients and states that one of the others does not."""


def clipped(clipping: Callable[[], Callable], wrap: Make = sgd) -> Make:
    """An optimizer with a clipping of its own."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = wrap(model)
        optimizer.register_step_post_hook(clipping())
        return optimizer

    return make


CLIPPED: dict[str, Make] = {
    "clip": clipped(lambda: WeightClipping(alpha=1.2)),
    "clip-long": clipped(lambda: WeightClipping(alpha=1.2, keep_norm=True)),
    "clip-channel": clipped(lambda: WeightClipping(alpha=1.2, per="channel"), RULES["rangesam"]),
    "clip-fixed": clipped(lambda: FixedClipping(w_max=0.3)),
    "clip-learned": clipped(lambda: LearnedRange(start=1.2, penalty=0.5)),
    "clip-learned-channel": clipped(
        lambda: LearnedRange(start=1.2, penalty=0.5, per="channel"), RULES["rangesam-through"]
    ),
}
"""What is clipped after each step."""

ALL = RULES | MODES | CLIPPED
