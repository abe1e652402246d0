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


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD (Defazio et al. 2024, arXiv 2405.15682) as its package has it: the parameters are y in
    training mode and the average x in evaluation mode, and a step in evaluation mode is an error."""

    def __init__(self, params: Any, lr: float = 0.05, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "train_mode": False})

    def _switch(self, to_training: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != to_training:
                weight = 1 - group["beta"] if to_training else 1 - 1 / group["beta"]
                for p in group["params"]:
                    if p in self.state:
                        p.data.lerp_(self.state[p]["z"], weight)
                group["train_mode"] = to_training

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("The optimizer is not in training mode.")
            c = 1 / (group["k"] + 1)
            for p in group["params"]:
                if p.grad is not None:
                    z = self.state[p].setdefault("z", p.clone())
                    p.lerp_(z, c).add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - c) - 1))
                    z.sub_(p.grad, alpha=group["lr"])
            group["k"] += 1


def schedule_free(model: nn.Module, mode: str = "two passes", rho: float = 0.5) -> SharpnessAware:
    settings = MODES[mode] | {"rule": SAMSON(rho=rho)}
    return SharpnessAware(ScheduleFree(param_groups(model)), settings.pop("rule"), **settings)


def schedule_free_weights(
    model: nn.Module, batches: Sequence[Any], loss_of: Loss, mode: str = "two passes", rho: float = 0.5
) -> list[dict[str, Tensor]]:
    """x after each step, by the paper's equations in x, y and z, with the gradients of a sharpness-aware pass.

    ρ counts at y: the optimizer that finds the gradient holds y and makes no step of its own.
    """
    finder = SharpnessAware(torch.optim.SGD(param_groups(model), lr=1.0), SAMSON(rho=rho), **{
        key: value for key, value in MODES[mode].items() if key != "rule"
    })  # fmt: skip
    x = z = [p.detach().clone() for p in model.parameters()]
    ends = []
    for number, batch in enumerate(batches, start=1):
        y = [0.9 * a + 0.1 * b for a, b in zip(x, z, strict=True)]

        def put(values: list[Tensor]) -> None:
            with torch.no_grad():
                for p, value in zip(model.parameters(), values, strict=True):
                    p.copy_(value)

        put(y)
        plain_step(finder, lambda batch=batch: loss_of(model, batch).backward())  # moves by −1 · gradient
        steps = [a - p.detach() for a, p in zip(y, model.parameters(), strict=True)]
        z = [a - 0.05 * step for a, step in zip(z, steps, strict=True)]
        x = [(1 - 1 / number) * a + b / number for a, b in zip(x, z, strict=True)]
        put(x)
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
    return ends


def close(one: dict[str, Tensor], other: dict[str, Tensor], within: float = 1e-5) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=within, atol=within) for name in other)


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
