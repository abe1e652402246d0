"""What `check_noise` refuses and what it lets pass, beside the rows of tests/contracts/test_noises.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samson.noise import (
    BitErrors,
    Compose,
    DeadLines,
    DeviceNoise,
    FixedNoise,
    Gaussian,
    Variation,
    WeightNoise,
    check_noise,
    standard_normal,
)

DAY = 86_400.0
Write = Callable[[Tensor, Generator], dict[str, Any]]
Look = Callable[[dict[str, Tensor], float | None, Generator], Any]


def written(weight: Tensor, generator: Generator) -> dict[str, Any]:
    return {"weight": weight + 0.1 * standard_normal(weight, generator)}


def looked(state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
    return state["weight"] * (1 + 0.1 * standard_normal(state["weight"], generator))


@dataclass(frozen=True)
class Made(WeightNoise):
    """A noise of two functions, which keep what is promised unless another is given."""

    write: Write = written
    look: Look = looked
    is_fixed: bool = False
    is_random: bool = True
    default_time_s: float | None = None
    factor: Any = None

    def program(self, weight: Tensor, generator: Generator) -> dict[str, Any]:
        return self.write(weight, generator)

    def read(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Any:
        return self.look(state, time_s, generator)

    def reading(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> tuple[Tensor, Any]:
        return self.read(state, time_s, generator), self.factor


@dataclass(frozen=True)
class Ageless(DeviceNoise):
    """A device that drifts with its own time, whatever time is asked for."""

    largest_us = 25.0

    def program_devices(self, target_us: Tensor, generator: Generator) -> dict[str, Tensor]:
        return {"conductance_us": target_us + standard_normal(target_us, generator)}

    def read_devices(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
        return state["conductance_us"] * (1 + (self.time_s or 0.0)) ** -0.01


@dataclass(frozen=True)
class Twice(Made):
    """Applies in `reading` what `read` does not."""

    def reading(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> tuple[Tensor, None]:
        return 2 * self.read(state, time_s, generator), None


@dataclass(frozen=True)
class Hidden(Made):
    """Holds a gain in itself: of the latest chip, or of its first one."""

    first: bool = False

    def program(self, weight: Tensor, generator: Generator) -> dict[str, Any]:
        if not (self.first and hasattr(self, "gain")):
            object.__setattr__(self, "gain", weight.abs().max())
        return super().program(weight, generator)

    def read(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
        return super().read(state, time_s, generator) * self.gain


def into(state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
    return state["weight"].mul_(0.9)


def seeding(weight: Tensor, generator: Generator) -> dict[str, Any]:
    torch.manual_seed(0)
    return written(weight, generator)


def drifting(state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
    return state["weight"] * (1 + (time_s or 0.0)) ** -0.01


BROKEN: list[tuple[str, WeightNoise]] = [
    ("draw from its generator alone, but one", Made(lambda w, g: {"weight": w + torch.randn_like(w)})),
    ("draw from its generator alone, but one", Made(seeding)),
    ("draw from its generator alone where it is read", Made(look=lambda s, t, g: s["weight"] * torch.rand(()))),
    ("leave its state as it is", Made(look=into)),
    ("leave the weight that it programs", Made(lambda w, g: {"weight": w.add_(0.1)})),
    ("hold all of a chip in the state", Hidden()),
    ("hold all of a chip in the state", Hidden(first=True)),
    ("return a dict of tensors from `program`, but gave a Tensor", Made(lambda w, g: w)),
    ("return tensors alone from `program`, but `gain` is a float", Made(lambda w, g: {**written(w, g), "gain": 1.0})),
    (
        r"read a Tensor of shape \(2, 2, 2\) .* gave a Tensor of shape \(1, 2, 2\)",
        Made(look=lambda s, t, g: s["weight"][:1]),
    ),
    ("read a Tensor .* in torch.float32, .* in torch.float64", Made(look=lambda s, t, g: s["weight"].double())),
    ("read a Tensor .* gave a float", Made(look=lambda s, t, g: 1.0)),
    ("read finite numbers", Made(lambda w, g: {"weight": w / w.abs().max()})),
    ("give one weight by `read` and `reading`", Twice()),
    (r"broadcasts to the weight's shape \(2, 2, 2\), but gave a Tensor of shape \(7,\)", Made(factor=torch.ones(7))),
    ("a factor that broadcasts .* gave a float", Made(factor=1.0)),
    ("read at its `default_time_s`, 86400.0", Made(look=drifting, default_time_s=DAY)),
    ("read at the time that is asked for", Ageless(time_s=DAY)),
    ("give the same in each reading where `is_fixed` is True", Made(look=drifting, is_fixed=True)),
    ("give the same in each reading where `is_fixed` is True", Made(is_fixed=True)),
    (
        "give the same chip in any memory format",
        Made(lambda w, g: {"weight": w + torch.empty_like(w).normal_(generator=g)}),
    ),
    ("says False, and chips of 40 generators differed", Made(is_random=False)),
    (
        "says True, and chips of 40 generators were the same",
        Made(look=lambda s, t, g: s["weight"], write=lambda w, g: {"weight": w}),
    ),
    ("draw each chip from its own generator", Made(lambda w, g: written(w, Generator().manual_seed(3)))),
    ("draw each chip from its own generator", Made(look=lambda s, t, g: looked(s, t, Generator().manual_seed(3)))),
]


@pytest.mark.parametrize(("message", "noise"), BROKEN)
def test_a_broken_promise_is_named(message: str, noise: WeightNoise) -> None:
    with pytest.raises(AssertionError, match=f"`noise` must .*{message}"):
        check_noise(noise)


@pytest.mark.parametrize("noise", [Made(lambda w, g: w), Compose(Gaussian(0.1), Made(), Made(lambda w, g: w))])
def test_a_state_is_a_dict_on_every_chip(noise: WeightNoise) -> None:
    with pytest.raises(ValueError, match="`noise` must return a dict of tensors from `program`, but Made gave a Ten"):
        noise(torch.ones(2, 2), Generator())


@dataclass(frozen=True)
class Attenuated(FixedNoise):
    """Errs by place alone, as wires do: chips are all the same."""

    is_random = False

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        if not weight.ndim:
            return weight
        rows = torch.arange(len(weight)).to(weight).view(-1, *(1,) * (weight.ndim - 1))
        return weight * (1 - 0.05 * rows / len(weight))


@pytest.mark.parametrize(
    "noise",
    [
        Made(),
        Made(look=drifting),
        Made(factor=torch.ones(2, 1)),
        Variation(gain=0.1),
        Variation(gain=0.1, per="channel"),
        DeadLines(rows=0.02),
        BitErrors(1e-4),
        Gaussian(1e-6),
        Attenuated(),
    ],
)
def test_few_rare_and_small_errors_are_no_broken_promise(noise: WeightNoise) -> None:
    check_noise(noise)


def test_a_class_is_no_noise() -> None:
    with pytest.raises(ValueError, match="`noise` must be a WeightNoise, got <class"):
        check_noise(Gaussian)
