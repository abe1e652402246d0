"""What a rule does to weights, as the contract has it: where they move to, and that they come back."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samson._checks import promise
from samson.optim._ascent import Part, climb
from samson.optim._groups import param_groups
from samson.optim._memory import Workspace
from samson.optim._wrapper import SharpnessAware
from samson.optim.rules import AscentRule

Formula = Callable[[str, np.ndarray[Any, Any]], np.ndarray[Any, Any] | float]
"""T in numpy, from a parameter's name and its values."""


def check_ascent(rule: AscentRule, scale: Formula) -> None:
    """One ascent over all weights, in a block that an error ends."""
    model = network(torch.float64)
    optimizer = SharpnessAware(_base(model), rule)
    _closure(model, optimizer)()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    w = {name: value.numpy() for name, value in before.items()}
    g = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
    t = {name: np.broadcast_to(scale(name, w[name]), w[name].shape) for name in w}
    length = math.sqrt(sum(((t[name] * g[name]) ** 2).sum() for name in w))
    with suppress(ZeroDivisionError), optimizer.perturbed(model):
        moved = {name: p.detach().numpy() - w[name] for name, p in model.named_parameters()}
        raise ZeroDivisionError
    for name, p in model.named_parameters():
        epsilon = float(rule.rho) * t[name] ** 2 * g[name] / length
        near = np.allclose(moved[name], epsilon, rtol=1e-9, atol=1e-12)
        promise(near, f"ε must be ρ·T²∘g / ‖T∘g‖₂ over all weights with T as written in numpy, is not for `{name}`")
        promise(torch.equal(p, before[name]), f"weights must come back bitwise after an error, `{name}` did not")


def check_radius_zero(rule: AscentRule) -> None:
    """Three steps, of the base optimizer alone and wrapped."""
    ends = []
    for still in (None, replace(rule, rho=0.0)):
        model = network(torch.float32)
        optimizer = _base(model) if still is None else SharpnessAware(_base(model), still)
        for _ in range(3):
            optimizer.step(_closure(model, optimizer))
        ends.append(model.state_dict().values())
    same = all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    promise(same, "with rho=0 a step must be the base optimizer's, bitwise")


def check_norms_that_are_not_finite(rule: AscentRule, dtypes: Sequence[torch.dtype]) -> None:
    """An entry of a gradient that is not finite, as after an overflow, by `scale` and by `fast()`."""
    for dtype, fast, entry in product(dtypes, (True, False), (1.0, math.inf, -math.inf, math.nan)):
        weights = [torch.randn(3, 4).to(dtype) for _ in range(2)]
        before = [w.clone() for w in weights]
        norm, _ = climb(_parts(rule, weights, entry, fast))
        still = all(torch.equal(w, old) for w, old in zip(weights, before, strict=True))
        promise(entry != 1 or norm.isfinite(), f"‖T∘g‖₂ must be finite for weights of {dtype} and gradients of 1")
        promise(entry == 1 or still, f"weights of {dtype} must not move where the gradient has an entry of {entry}")


def check_it_never_waits(rule: AscentRule) -> None:
    """On tensors without values, of which none can be read."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # which loads much

    for fast in (True, False):
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                climb(_parts(rule, [torch.randn(3, 4) for _ in range(2)], 1.0, fast))
        except Exception as error:
            raise AssertionError(
                "a rule must read no value, for which the host would wait for the device, as `.item()`, `float(t)`, "
                f"`if t > 0` and `t[mask]` do: {error}"
            ) from error


def network(dtype: torch.dtype) -> nn.Module:
    """Layers of each kind of weight, always the same; in each parameter one entry is 0."""
    torch.default_generator.manual_seed(0)
    layers = OrderedDict[str, nn.Module](
        norm=nn.BatchNorm1d(4), conv=nn.Conv1d(4, 6, 3), tanh=nn.Tanh(), flat=nn.Flatten(), head=nn.Linear(18, 4)
    )
    model = nn.Sequential(layers).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-1, 1).view(-1)[0] = 0
    return model


def _base(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9)


def _closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    x = torch.randn(8, 4, 5).to(next(model.parameters()))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def _parts(rule: AscentRule, weights: Sequence[Tensor], entry: float, fast: bool) -> list[Part]:
    """The first weight scaled, if the rule scales any, the others not; with gradients of 1 but for one entry."""
    scaled = [number == 0 and rule.scales_tensor("weight", w) for number, w in enumerate(weights)]
    gradients = [torch.ones_like(w) for w in weights]
    gradients[0][0, 0] = entry
    return [
        Part(rule, rule.rho, own, [w], [g], Workspace([w], own and fast))
        for own, w, g in zip(scaled, weights, gradients, strict=True)
    ]
