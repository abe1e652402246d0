"""What training methods are made of: a core that makes the step, and additions that join any core."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

from samson._batches import Examples
from samson._checks import require
from samson.noise import Gaussian, Periphery, ThroughChip
from samson.optim import (
    RULES,
    FixedClipping,
    LearnedRange,
    NoiseInjection,
    Rule,
    SharpnessAware,
    WeightClipping,
)

Values = Mapping[str, Any]

MODES: dict[str, float | str] = {"ramp": "constant", "mix": 1.0, "every": 1.0, "ascent": "gradient", "budget": math.inf}
"""What every core that perturbs has beside its own settings (see `SharpnessAware` and `RhoSchedule`), the last two only
along the gradient, with what changes nothing."""

UNRECORDED: dict[str, float | str] = {**MODES, "keep_norm": 0.0}
"""Settings that a record holds only where they change something."""

RAMP = "ramp"
"""The setting that is the shape of a `RhoSchedule` over the training."""


class Part(NamedTuple):
    """What a method's name is made of.

    Args:
        about: What it is, in a line.
        settings: Its settings with their defaults.
        put_on: Gives the optimizer with this part on it, from the optimizer, the part's settings and a seed.
        checked: Makes what the settings are for, so that one out of its range raises.
        on_model: Puts the part on the network before its optimizer is made, from the network, the settings and data.
    """

    about: str
    settings: Mapping[str, float | str]
    put_on: Callable[[Optimizer, Values, int], Optimizer] = lambda optimizer, settings, seed: optimizer
    checked: Callable[[Values], object] = lambda settings: None
    on_model: Callable[[nn.Module, Values, Examples], ThroughChip] | None = None


def summary(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _settings(kind: Any) -> dict[str, float | str]:
    """The numbers and words among the fields of a dataclass, with their defaults; a switch is 0 or 1."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return {
        name: float(value) if isinstance(value, bool) else value
        for name, value in defaults.items()
        if isinstance(value, (int, float, str)) and name != "seed"
    }


def _made(kind: Any, settings: Values) -> Any:
    """A dataclass from its settings, those of modes left out."""
    own = {field.name: field.default for field in dataclasses.fields(kind)}
    switches = {name for name, default in own.items() if isinstance(default, bool)}
    for name in switches & settings.keys():
        require(settings[name] in (0, 1), name, "be 0 or 1", settings[name])
    return kind(**{name: bool(value) if name in switches else value for name, value in settings.items() if name in own})


def whole(name: str, value: float) -> int:
    """A setting that is a whole number, which is read as any number is; ValueError for another."""
    require(math.isfinite(value) and value == int(value), name, "be a whole number", value)
    return int(value)


def _wrapped(optimizer: Optimizer, rule: Rule, settings: Values, *, measure: bool = False) -> Optimizer:
    modes = {name: settings.get(name, default) for name, default in MODES.items() if name != RAMP}
    return SharpnessAware(optimizer, rule, measure=measure, **{**modes, "every": whole("every", modes["every"])})


def _of_rule(kind: type[Rule]) -> Part:
    return Part(
        summary(kind),
        {**_settings(kind), **MODES},
        lambda optimizer, settings, seed: _wrapped(optimizer, _made(kind, settings), settings, measure=True),
    )


def _of_noise(about: str, **defaults: float | str) -> Part:
    def put_on(optimizer: Optimizer, settings: Values, seed: int) -> Optimizer:
        rule = NoiseInjection(_made(Gaussian, settings), seed, select=settings["select"])
        return _wrapped(optimizer, rule, settings)

    modes = {name: value for name, value in MODES.items() if name not in ("ascent", "budget")}
    return Part(about, {"sigma": 0.1, **_settings(Gaussian), **modes, **defaults}, put_on)


def cores() -> dict[str, Part]:
    """What makes a method's step, by name; a method has one at most. Every rule of `samson.optim.RULES` is one."""
    return {
        "plain": Part("The base optimizer alone.", {}),
        "sgd": Part("The base optimizer alone, where that is SGD.", {}),
        "noise": _of_noise(summary(NoiseInjection)),
        "rwp": _of_noise(
            "Random weight perturbation: the gradient under injected noise that grows, mixed with the clean one.",
            mix=0.5,
            ramp="quadratic",
        ),
        **{name: _of_rule(rule) for name, rule in RULES.items()},
    }


PLAIN = ("plain", "sgd")
"""Names of the base optimizer alone, to which other methods are compared."""


def _of_clipping(kind: Any, **fixed: str) -> Part:
    """A step hook; settings that its name says are no settings."""

    def put_on(optimizer: Optimizer, settings: Values, seed: int) -> Optimizer:
        optimizer.register_step_post_hook(_made(kind, {**settings, **fixed}))
        return optimizer

    about = (
        summary(kind).replace("each weight that lies", "each output channel of what lies") if fixed else summary(kind)
    )
    own = {name: value for name, value in _settings(kind).items() if name != "per" or kind is LearnedRange}
    return Part(about, own, put_on)


def _periphery(settings: Values) -> Periphery:
    steps = whole("steps", settings["steps"])
    return Periphery(
        dac_steps=steps, adc_steps=steps, adc_bound=settings["out_bound"], output_noise=settings["output_noise"]
    )


def _converters(model: nn.Module, settings: Values, batches: Examples) -> ThroughChip:
    return ThroughChip(model, _periphery(settings), batches, settings["select"], decay=settings["decay"])


def _taught(settings: Values) -> None:
    require(0 < settings["temperature"] < math.inf, "temperature", "be > 0 and finite", settings["temperature"])
    require(0 <= settings["teacher_weight"] < math.inf, "teacher_weight", "be ≥ 0", settings["teacher_weight"])


CLIPPINGS: dict[str, Part] = {
    "clip": _of_clipping(WeightClipping),
    "channel-clip": _of_clipping(WeightClipping, per="channel"),
    "fixed-clip": _of_clipping(FixedClipping),
    "learned-range": _of_clipping(LearnedRange),
}
"""Ways to bound the weights, of which a method has one at most."""

DISTIL = "distil"
"""The addition that the training loop looks for: its loss has a part that a teacher gives."""

ADDITIONS: dict[str, Part] = {
    **CLIPPINGS,
    "converters": Part(
        "Training through converters with learned input ranges (see `samson.noise.ThroughChip`).",
        {"steps": 254.0, "out_bound": 14.0, "output_noise": 0.0, "decay": 0.001},
        checked=_periphery,
        on_model=_converters,
    ),
    DISTIL: Part(
        "Distillation from the plain network of the same seed, which is trained first.",
        {"temperature": 1.0, "teacher_weight": 1.0},
        checked=_taught,
    ),
}
"""What joins any core by "+"; alone it joins the base optimizer."""

ALIASES: dict[str, tuple[str, Part]] = {
    "hwa": (
        f"noise+channel-clip+converters+{DISTIL}",
        Part(
            "Hardware-aware training as in industry: noise (or another core), channel-clip, converters and distil; "
            "input ranges start and decay as by default in aihwkit-lightning.",
            {"sigma": 0.03, "per": "channel", "alpha": 2.5},
        ),
    )
}
"""Methods by one name for several parts: those, whose core another may replace, and settings.

`hwa` is the recipe of arXiv 2505.09663 (IBM) but for its input ranges, which start at 3 deviations and decay by 0.001,
the defaults of aihwkit-lightning 2.1.0; the recipe has 18 and 0.01.
"""
