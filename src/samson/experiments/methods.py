"""Training methods by name: a rule or noise injection, with or without weight clipping, and their settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from torch import nn
from torch.optim import SGD, Optimizer

from samson.experiments.defaults import BASE, DEFAULTS
from samson.experiments.errors import SetupError, choose, require
from samson.noise import Gaussian
from samson.optim import RULES, NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.records import Settings, finite

CORES = ("sgd", "noise", *RULES)
"""What a method's step is made of; at most one of them is in a name."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method with all its settings.

    Args:
        name: Its parts joined by "+", for example "samson+clip".
        core: One of `CORES`.
        settings: Every setting by name; infinity is a float here.
    """

    name: str
    core: str
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
        settings = dict(self.settings)
        base = {key: settings.pop(key) for key in BASE}
        alpha = settings.pop("alpha", None)
        optimizer: Optimizer = SGD(param_groups(model), nesterov=base["momentum"] != 0, **base)  # type: ignore[arg-type]
        if self.core == "noise":
            optimizer = SharpnessAware(optimizer, NoiseInjection(Gaussian(**settings), seed))  # type: ignore[arg-type]
        elif self.core != "sgd":
            optimizer = SharpnessAware(optimizer, RULES[self.core](**settings))  # type: ignore[arg-type]
        if alpha is not None:
            optimizer.register_step_post_hook(WeightClipping(alpha))  # type: ignore[arg-type]
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
    parsed: dict[str, tuple[str, dict[str, float | str]]] = {}
    for asked in names:
        name, core = _parse_name(asked)
        require(name not in parsed, "--methods", "without repetition", asked, "Remove the second one.")
        parsed[name] = (core, default_settings(name, core))
    for override in overrides:
        _apply(override, parsed)
    methods = [Method(name, core, settings) for name, (core, settings) in parsed.items()]
    require(bool(methods), "--methods", "at least one method", "", f"Take some of: {', '.join((*CORES, 'clip'))}.")
    for method in methods:
        try:
            method.build(nn.Linear(2, 2, device="meta"))
        except ValueError as error:
            raise SetupError(
                f"--set {method.name}: {error}\nChange it with `--set {method.name}.PARAM=VALUE`."
            ) from error
    return methods


def _parse_name(asked: str) -> tuple[str, str]:
    parts = [choose("--methods", part, (*CORES, "clip")) for part in asked.strip().split("+")]
    clips = "clip" in parts
    cores = [part for part in parts if part != "clip"]
    require(
        len(cores) <= 1 and len(parts) == len(set(parts)),
        "--methods",
        "one of " + ", ".join(CORES) + ", alone or with `+clip`",
        asked,
        "Split it into several methods, separated by commas.",
    )
    core = cores[0] if cores else "sgd"
    if not clips:
        return core, core
    return "clip" if core == "sgd" else f"{core}+clip", core


def default_settings(name: str, core: str) -> dict[str, float | str]:
    """The defaults of the classes, then the tuned ones: of the whole method, else of its parts."""
    settings: dict[str, float | str] = dict(BASE)
    if core in RULES:
        settings |= {field.name: field.default for field in dataclasses.fields(RULES[core])}  # type: ignore[misc]
    for part in [name] if name in DEFAULTS else name.split("+"):
        settings |= DEFAULTS.get(part, {})
    return settings


def _apply(override: str, parsed: dict[str, tuple[str, dict[str, float | str]]]) -> None:
    target, equals, text = override.partition("=")
    name, dot, parameter = target.strip().rpartition(".")
    require(bool(equals and dot), "--set", "METHOD.PARAM=VALUE", override, "Write for example --set samson.rho=0.5.")
    name = choose("--set", name, parsed)
    settings = parsed[name][1]
    choose(f"--set {name}", parameter, settings)
    value: float | str = text.strip()
    if not isinstance(settings[parameter], str):
        try:
            value = float(value)
        except ValueError:
            raise SetupError(f"--set {target} must be a number, got {text!r}.\nWrite for example 0.5 or inf.") from None
    settings[parameter] = value
