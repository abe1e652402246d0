"""The loop that a trainer must equal, written out by hand, and the modes of the optimizer that each trainer gets."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samson import SAMSON, NoiseInjection, SharpnessAware, param_groups

Loss = Callable[[nn.Module, Any], Tensor]


def noise(weight: Tensor, generator: torch.Generator) -> Tensor:
    return weight + 0.2 * torch.randn(weight.shape, generator=generator)


MODES: dict[str, dict[str, Any]] = {
    "two passes": {"rule": SAMSON(rho=0.5)},
    "every second step": {"rule": SAMSON(rho=0.5), "every": 2, "reuse": 0.7},
    "mixed": {"rule": SAMSON(rho=0.5), "mix": 0.6},
    "previous gradient": {"rule": SAMSON(rho=0.5), "ascent": "previous"},
    "previous gradient, every second step": {"rule": SAMSON(rho=0.5), "ascent": "previous", "every": 2},
    "noise": {"rule": NoiseInjection(noise, seed=3)},
}


def sgd(model: nn.Module, **settings: float) -> torch.optim.SGD:
    return torch.optim.SGD(param_groups(model), **{"lr": 0.05, "momentum": 0.9} | settings)


def sharp(model: nn.Module, mode: str = "two passes", **settings: Any) -> SharpnessAware:
    settings = MODES[mode] | settings
    return SharpnessAware(sgd(model), settings.pop("rule"), **settings)


def plain_step(
    optimizer: torch.optim.Optimizer, run: Callable[[], None], clip: Callable[[], Any] | None = None
) -> None:
    """One step by hand: `run` adds the gradients of all the step's batches."""
    optimizer.zero_grad()
    climbs = isinstance(optimizer, SharpnessAware) and optimizer.climbs
    if not climbs or optimizer.needs_first_pass:
        run()
    if climbs:
        with optimizer.perturbed():
            run()
    if clip is not None:
        clip()
    optimizer.step()


def plain_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Any],
    loss_of: Loss,
    accumulate: int = 1,
    clip: Callable[[], Any] | None = None,
) -> list[float]:
    """One epoch by hand, whose last step may have fewer batches; gives every loss, in the order of the passes."""
    losses = []
    for start in range(0, len(batches), accumulate):

        def run(held: Sequence[Any] = batches[start : start + accumulate]) -> None:
            for batch in held:
                loss = loss_of(model, batch)
                losses.append(loss.item())
                (loss / accumulate).backward()

        plain_step(optimizer, run, clip)
    return losses
