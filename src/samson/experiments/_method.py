"""A training method with its settings, and what it puts on a network."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.optim import Optimizer

from samson._batches import Examples
from samson._errors import choose, require
from samson._factories import find_factory
from samson.experiments._defaults import BASES
from samson.experiments._parts import ADDITIONS, DISTIL, MODES, RAMP, UNRECORDED, Part, cores, whole
from samson.noise import ThroughChip
from samson.optim import RhoSchedule, param_groups
from samson.records import Candidates, Settings, finite

METHOD = "method"
"""The setting that says what a method is, where its name is another one."""


class Built(NamedTuple):
    """What a method puts on a network.

    Args:
        optimizer: Its optimizer.
        schedule: What changes the strength of its perturbation over the training; None if nothing does.
        through: Through what the network is trained; None if through nothing.
    """

    optimizer: Optimizer
    schedule: RhoSchedule | None = None
    through: ThroughChip | None = None


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method with all its settings.

    Args:
        name: What it is called, once in a comparison.
        made_of: Its parts joined by "+", for example "samson+clip", or `MODULE:FUNCTION`.
        base: The base optimizer, a class of `torch.optim`.
        settings: Every setting by name; infinity is a float here.
        candidates: Values among which a search chooses, by setting.
        select: Patterns of the layers that lie on the chip; empty for those that do by default.
    """

    name: str
    made_of: str
    base: str
    settings: Mapping[str, float | str]
    candidates: Mapping[str, tuple[float | str, ...]] = dataclasses.field(default_factory=dict)
    select: tuple[str, ...] = ()

    def record(self) -> Settings:
        """The settings as a record holds them."""
        own = {
            key: finite(value)
            for key, value in self.settings.items()
            if key not in UNRECORDED or value != UNRECORDED[key] or key in self.candidates
        }
        return own if self.made_of == self.name else {METHOD: self.made_of, **own}

    def plain(self) -> Method:
        """The base optimizer alone, as this method has it."""
        return Method("plain", "plain", self.base, {key: self.settings[key] for key in base_settings(self.base)})

    def candidates_record(self) -> Candidates:
        """The candidates as a record holds them."""
        return {key: tuple(map(finite, values)) for key, values in self.candidates.items()}

    def with_settings(self, settings: Mapping[str, float | str]) -> Method:
        """The method with other values for some settings, and nothing left to search."""
        return dataclasses.replace(self, settings={**self.settings, **settings}, candidates={})

    def grid(self) -> list[dict[str, float | str]]:
        """Every choice of the candidates."""
        return [
            dict(zip(self.candidates, values, strict=True)) for values in itertools.product(*self.candidates.values())
        ]

    @property
    def distils(self) -> bool:
        """Whether a teacher takes part."""
        return DISTIL in self.made_of.split("+")

    def build(self, model: nn.Module, seed: int = 0, steps: int | None = None, data: Examples | None = None) -> Built:
        """Make the optimizer: the base, wrapped and hooked as the method says.

        Args:
            model: The network to train.
            seed: Seed of the injected noise.
            steps: Steps of the whole training, for what changes over it; None changes nothing.
            data: Training data, for what is put on the network itself; None only checks that.

        Raises:
            ValueError: If a setting is out of its range.
        """
        if ":" in self.made_of:
            made = _own(self.made_of, model, self.settings, {"seed": seed, "steps": steps or 1})
            found = type(made).__name__
            rule = "a function that returns an optimizer"
            require(isinstance(made, Optimizer), f"`methods` {self.made_of}", rule, found, "Change it.")
            return Built(cast("Optimizer", made))
        through = None
        parts = [(part_of(name), self._of_part(name)) for name in self.made_of.split("+")]
        for part, own in parts:
            part.checked(own)
            if part.on_model is not None and data is not None:
                through = part.on_model(model, own, data)
        optimizer = _base(self.base, model, {key: self.settings[key] for key in base_settings(self.base)})
        for part, own in parts:
            optimizer = part.put_on(optimizer, own, seed)
        shape = self.settings.get(RAMP, MODES[RAMP])
        schedule = RhoSchedule(optimizer, str(shape), steps or 1, seed=seed) if shape != MODES[RAMP] else None
        if schedule is not None:
            optimizer.register_step_post_hook(lambda *_: schedule.step())
        return Built(optimizer, schedule, through)

    def _of_part(self, name: str) -> dict[str, Any]:
        return {**{key: self.settings[key] for key in part_of(name).settings}, "select": self.select or None}


def part_of(name: str) -> Part:
    """A core or an addition."""
    return {**cores(), **ADDITIONS}[name]


def _own(spec: str, model: nn.Module, settings: Mapping[str, Any], of_run: Mapping[str, int]) -> Any:
    function = find_factory(spec, "`methods`")
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    kinds = {name: type(value) for name, value in defaults.items() if isinstance(value, int)}  # also true and false
    given = {name: kinds[name](whole(name, value)) if name in kinds else value for name, value in settings.items()}
    return function(model, **given, **{name: value for name, value in of_run.items() if name in defaults})


def base_settings(base: str) -> dict[str, float]:
    """The settings of a base optimizer: its numbers, with our defaults or the class's.

    Raises:
        SetupError: If `torch.optim` has no such optimizer, or one that needs a closure itself.

    Example:
        >>> base_settings("SGD")
        {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0005}
    """
    if isinstance(base, str) and base in BASES:
        return dict(BASES[base])
    known = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, Optimizer)]
    known = [name for name in known if name not in ("Optimizer", "LBFGS", "Muon", "SparseAdam")]
    parameters = inspect.signature(getattr(torch.optim, choose("`base`", base, known))).parameters
    return {
        name: float(p.default)
        for name, p in parameters.items()
        if isinstance(p.default, (int, float)) and not isinstance(p.default, bool)
    }


def _base(base: str, model: nn.Module, settings: Mapping[str, Any]) -> Optimizer:
    if base == "SGD":
        return torch.optim.SGD(param_groups(model), nesterov=settings["momentum"] != 0, **settings)
    made: Optimizer = getattr(torch.optim, base)(param_groups(model), **settings)
    return made
