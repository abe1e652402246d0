"""Which weights a rule perturbs, and with what: read off an optimizer's groups, and sorted for the climb."""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from samson._checks import require
from samson._layers import is_input_range
from samson.optim._ascent import Part
from samson.optim._chip import Finder, how_to_select
from samson.optim._directions import Direction
from samson.optim._groups import names_by_parameter
from samson.optim._matrices import ChipWeight, views
from samson.optim._memory import Workspace, exclusive
from samson.optim._sharding import ProcessGroups, is_sharded, local, process_groups, refuse_flat_shards, reshard
from samson.optim.rules import AscentRule, Rule, require_ascent

View = Callable[[Tensor], Tensor]
"""How a weight is seen in a parameter, or in this process's part of it."""

_HELD_BY = WeakTensorKeyDictionary()
"""For each parameter the last `Perturbed` that read it, as a weak reference."""


class Source(NamedTuple):
    """Where a weight that is perturbed comes from.

    Args:
        parameter: The parameter that is the weight or holds it.
        scaled: Whether the rule's T applies.
        split_over: The process groups over which it is split.
        view: How the weight is seen in the parameter.
    """

    parameter: Tensor
    scaled: bool
    split_over: ProcessGroups
    view: View


class Perturbed:
    """What a rule perturbs of an optimizer's parameters.

    What is the same in every step is found once, and again where parameters, settings or layers changed.

    Args:
        base: The optimizer.
        rule: The rule; settings in a group count before its own.
        model: The known model, if there is one.

    Raises:
        ValueError: If parameters are parts of flat shards.
    """

    def __init__(self, base: Optimizer, rule: Rule, model: nn.Module | None) -> None:
        self._base, self.rule, self._model = base, rule, model
        self._find = Finder(type(rule).__name__, getattr(rule, "select", None))
        self._on_chip: list[ChipWeight] = []
        self._plans: dict[int, tuple[AscentRule, list[Tensor], list[Source]]] = {}
        self.workspaces: dict[tuple[Any, ...], Workspace] = {}
        self._read()

    def _read(self) -> None:
        refuse_flat_shards(self._model)
        groups = self._base.param_groups
        self.names = names_by_parameter(groups, self._model)
        self.sharded = any(is_sharded(p) for group in groups for p in group["params"])
        for group in groups:
            _HELD_BY.update(dict.fromkeys(group["params"], weakref.ref(self)))

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups that are perturbed."""
        return [group for group in self._base.param_groups if group.get("perturb", True)]

    @property
    def parameters(self) -> list[Tensor]:
        """Those of these groups."""
        return [p for group in self.groups for p in group["params"]]

    def settings(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group as the rule sees it: without the keys that the base optimizer uses for itself."""
        return {key: value for key, value in group.items() if key not in self._base.defaults}

    def is_held_elsewhere(self, p: Tensor) -> bool:
        """Whether another optimizer of ours holds a parameter."""
        return p in _HELD_BY and _HELD_BY[p]() not in (None, self)

    def reshard(self, model: nn.Module | None) -> None:
        """Give up whole weights that layers may hold: they are not those of the groups."""
        if self.sharded:
            reshard(model)

    def chip_weights(self, model: nn.Module | None) -> list[ChipWeight]:
        """Those of the parameters that lie on a chip.

        Args:
            model: A model that they may belong to, beside the known one.
        """
        self.reshard(model)
        return self._find(self.parameters, dict.fromkeys((self._model, model)))

    def left_out(self) -> list[ChipWeight]:
        """Weights of the known model that lie on the chip, and that no optimizer of ours holds."""
        if self._model is None:
            return []
        held = {p for group in self._base.param_groups for p in group["params"]}
        try:
            every = self._find(list(self._model.parameters()), [self._model])
        except ValueError:  # a computed weight, which must be left out
            return []
        return [one for one in every if one.parameter not in held and not self.is_held_elsewhere(one.parameter)]

    def require_model(self) -> None:
        """Refuse a known model that has parameters to train, and none that the optimizer holds.

        Raises:
            ValueError: If that is so.
        """
        if self._model is None:
            return
        self.reshard(self._model)
        own = set(self._model.parameters())
        if any(p.requires_grad for p in own) and own.isdisjoint(
            p for group in self._base.param_groups for p in group["params"]
        ):
            raise ValueError(
                f"`model` must have parameters that the optimizer holds, got {type(self._model).__name__} with none of "
                "them: was the optimizer made before `fully_shard`, or from another copy? Make it afterwards, from "
                "`param_groups(model)`."
            )

    def require_chip_weights(self) -> None:
        """Refuse a rule that moves what lies on a chip where nothing does.

        Raises:
            ValueError: If no parameter lies on a chip, or one that does is computed from others.
        """
        perturbed, select = self.parameters, getattr(self.rule, "select", None)
        if self.rule.on_chip and not self._find(perturbed, [self._model]):
            rule = f"pick a weight that lies on the chip and is perturbed ({len(perturbed)} parameters are)"
            require(select is None, "select", rule, select)
            raise ValueError(
                f"`{type(self.rule).__name__}` needs a weight that lies on a chip, got {len(perturbed)} parameters "
                f"without one. {how_to_select([self._model])}, or take another rule."
            )

    @_disable_dynamo  # bookkeeping, not tensor work; torch.compiler.disable would import the compiler at once
    def parts(
        self,
        direction: Direction,
        model: nn.Module | None,
        *,
        of_objective: bool = False,
        budget: float = math.inf,
        compiled: bool = False,
    ) -> list[Part]:
        """The weights that have a direction, sorted into parts.

        Args:
            direction: Gives the directions.
            model: A model that the perturbed weights may belong to, beside the known one.
            of_objective: Whether they are of what the base minimises, also where a group has `maximize=True`, and not
                of the loss as `backward` saw it.
            budget: As for `Part`.
            compiled: Whether the climb is compiled, which then needs no memory for scales.
        """
        rule = require_ascent(self.rule)
        parts: list[Part] = []
        spaces: dict[tuple[Any, ...], Workspace] = {}
        if rule.on_chip:
            on_chip = self.chip_weights(model)
            if on_chip is not self._on_chip:
                self._on_chip, self._plans = on_chip, {}
        for number, group in enumerate(self.groups):
            settings = self.settings(group)
            of_group, rho = rule.within(settings), rule.radius(settings)
            if group.get("maximize") and not of_objective:
                rho = -rho
            found: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor], list[tuple[Tensor, View]]]] = {}
            for p, scaled, split_over, view in self._plan(number, of_group, group["params"]):
                along = direction(p)
                if along is not None:
                    weight = view(local(p))
                    kind = (scaled, weight.dtype, weight.device, split_over)
                    weights, directions, sources = found.get(kind) or found.setdefault(kind, ([], [], []))
                    weights.append(weight)
                    directions.append(view(local(along)))
                    sources.append((p, view))
            for kind, (weights, directions, sources) in found.items():
                space = self.workspaces.get((number, *kind))
                if space is None or not space.fits(weights):
                    space = Workspace(weights, scaled=kind[0] and not compiled)
                spaces[number, *kind] = space
                wide = torch.promote_types(kind[1], torch.float32)
                steps = [along if along.dtype == wide else along.to(wide) for along in directions]
                parts.append(Part(of_group, rho, kind[0], weights, steps, space, kind[3], budget, sources))
        self.workspaces = spaces  # without those of weights that are elsewhere now, or in another dtype
        alone = iter(exclusive([along for part in parts for along in part.directions]))
        for part in parts:
            part.directions = [next(alone) for _ in part.directions]
        return parts

    def _plan(self, number: int, rule: AscentRule, parameters: list[Tensor]) -> list[Source]:
        """What is the same in every step, made anew where the rule's settings or the parameters changed."""
        known = self._plans.get(number)
        if known is None or len(known[1]) != len(parameters) or not all(map(operator.is_, known[1], parameters)):
            self._read()  # Accelerate puts sharded parameters in the place of those the group was made with
            known = None
        if known is None or known[0] != rule:
            known = self._plans[number] = rule, list(parameters), self._sources(rule, parameters)
        return known[2]

    def _sources(self, rule: AscentRule, parameters: list[Tensor]) -> list[Source]:
        if not rule.on_chip:
            return [
                Source(p, rule.scales_tensor(name, p), process_groups(p), _as_it_is)
                for p in parameters
                if not is_input_range(name := self.names.get(p, ""))
            ]
        own = set(parameters)
        return [
            Source(weight.parameter, True, process_groups(weight.parameter), view)
            for weight in self._on_chip
            if weight.parameter in own
            for view in views(weight, by_output=getattr(rule, "per", "layer") == "channel")
        ]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
