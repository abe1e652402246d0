"""Training methods by name: a core and additions to it, joined by "+", and their settings."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, Optimizer

from samson.experiments._defaults import BASE, DEFAULTS
from samson.experiments._errors import SetupError, choose, require
from samson.noise import Gaussian
from samson.optim import RULES, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.records import Settings, finite


@dataclasses.dataclass(frozen=True)
class Part:
    """What a method's name is made of.

    Args:
        about: What it is, in a line.
        settings: Its settings with their defaults.
        put_on: Gives the optimizer with this part on it, from the optimizer, the part's settings and a seed.
    """

    about: str
    settings: Mapping[str, float | str]
    put_on: Callable[[Optimizer, Mapping[str, Any], int], Optimizer]


def _summary(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def cores() -> dict[str, Part]:
    """What makes a method's step, by name; a method has one at most. Every rule of `samson.optim.RULES` is one."""
    return {
        "sgd": Part("The base optimizer alone.", {}, lambda optimizer, settings, seed: optimizer),
        "noise": Part(
            _summary(NoiseInjection),
            {},
            lambda optimizer, settings, seed: SharpnessAware(optimizer, NoiseInjection(Gaussian(**settings), seed)),
        ),
        **{name: _of_rule(rule) for name, rule in RULES.items()},
    }


def _of_rule(rule: Callable[..., Any]) -> Part:
    fields = dataclasses.fields(rule)  # type: ignore[arg-type]
    return Part(
        _summary(rule),
        {field.name: field.default for field in fields if field.default is not dataclasses.MISSING},
        lambda optimizer, settings, seed: SharpnessAware(optimizer, rule(**settings)),
    )


def _clip(optimizer: Optimizer, settings: Mapping[str, Any], seed: int) -> Optimizer:
    optimizer.register_step_post_hook(WeightClipping(**settings))
    return optimizer


ADDITIONS: dict[str, Part] = {"clip": Part(_summary(WeightClipping), {}, _clip)}
"""What joins any core by "+"; alone it joins the base optimizer."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method with all its settings.

    Args:
        name: Its parts joined by "+", for example "samson+clip".
        settings: Every setting by name; infinity is a float here.
    """

    name: str
    settings: Mapping[str, float | str]

    def record(self) -> Settings:
        """The settings as a record holds them."""
        return {key: finite(value) if isinstance(value, float) else value for key, value in self.settings.items()}

    def build(self, model: nn.Module, seed: int = 0) -> Optimizer:
        """Make the optimizer: SGD with Nesterov momentum, wrapped and hooked as the method says.

        Args:
            model: The network to train.
            seed: Seed of the injected noise.

        Raises:
            ValueError: If a setting is out of its range.
        """
        base = {key: self.settings[key] for key in BASE}
        optimizer: Optimizer = SGD(param_groups(model), nesterov=base["momentum"] != 0, **base)  # type: ignore[arg-type]
        for name in self.name.split("+"):
            part = {**cores(), **ADDITIONS}[name]
            own = _own_settings(name, self.name)
            optimizer = part.put_on(optimizer, {key: self.settings[key] for key in own}, seed)
        return optimizer


def parse_methods(names: Iterable[str], overrides: Iterable[str] = ()) -> list[Method]:
    """Read method names and `METHOD.PARAM=VALUE` settings.

    Args:
        names: For example `["sgd", "samson+clip"]`.
        overrides: For example `["samson.p=2", "samson+clip.alpha=1.5"]`; the last of two equal ones counts.

    Raises:
        SetupError: For an unknown or repeated method, two cores in one name, an unknown or ill-formed setting, or a
            setting out of its range.
    """
    parsed: dict[str, dict[str, float | str]] = {}
    for asked in names:
        name = _parse_name(asked)
        require(name not in parsed, "--methods", "without repetition", asked, "Remove the second one.")
        parsed[name] = default_settings(name)
    for override in overrides:
        _apply(override, parsed)
    methods = [Method(name, settings) for name, settings in parsed.items()]
    require(
        bool(methods), "--methods", "at least one method", "", f"Take some of: {', '.join((*cores(), *ADDITIONS))}."
    )
    for method in methods:
        try:
            method.build(nn.Linear(2, 2, device="meta"))
        except (ValueError, TypeError) as error:
            raise SetupError(
                f"--set {method.name}: {error}\nChange it with `--set {method.name}.PARAM=VALUE`."
            ) from error
    return methods


def _parse_name(asked: str) -> str:
    """The name of a method as records have it: its core first, if that is not the base optimizer alone."""
    known = cores()
    parts = [choose("--methods", part, (*known, *ADDITIONS)) for part in asked.strip().split("+")]
    own = [part for part in parts if part in known]
    require(
        len(own) <= 1 and len(parts) == len(set(parts)),
        "--methods",
        f"one of {', '.join(known)}, alone or with {' or '.join(f'`+{name}`' for name in ADDITIONS)}",
        asked,
        "Split it into several methods, separated by commas.",
    )
    added = [name for name in ADDITIONS if name in parts]
    return "+".join([*(name for name in own if name != "sgd" or not added), *added])


def default_settings(name: str) -> dict[str, float | str]:
    """The base optimizer's settings and those of a method's parts: the classes' defaults, then the tuned ones."""
    parts = name.split("+")
    return {**BASE, **{key: value for part in parts for key, value in _own_settings(part, name).items()}}


def _own_settings(part: str, name: str) -> dict[str, float | str]:
    """The settings of one part of a method: the class's defaults, then those tuned for it, alone or in this method."""
    tuned = DEFAULTS.get(part, {})
    whole = {key: value for key, value in DEFAULTS.get(name, {}).items() if key in tuned}
    return {**{**cores(), **ADDITIONS}[part].settings, **tuned, **whole}


def _apply(override: str, parsed: dict[str, dict[str, float | str]]) -> None:
    target, equals, text = override.partition("=")
    name, dot, parameter = target.strip().rpartition(".")
    require(bool(equals and dot), "--set", "METHOD.PARAM=VALUE", override, "Write for example --set samson.rho=0.5.")
    name = choose("--set", name, parsed)
    settings = parsed[name]
    choose(f"--set {name}", parameter, settings)
    value: float | str = text.strip()
    if not isinstance(settings[parameter], str):
        try:
            value = float(value)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise SetupError(f"--set {target} must be a number, got {text!r}.\nWrite for example 0.5 or inf.")
    settings[parameter] = value
