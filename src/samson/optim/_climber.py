"""What every optimizer that perturbs weights shares: its rule, names, working memory and the climb."""

from __future__ import annotations

import math
import operator
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from samson._names import counted
from samson.optim._ascent import Ascent, Climb, Part, climb
from samson.optim._buffers import held_buffers
from samson.optim._chip import ChipWeight, Finder, views
from samson.optim._delegation import OptimizerWrapper
from samson.optim._groups import check_policy, linked_models, names_by_parameter
from samson.optim._memory import Workspace, exclusive
from samson.optim._schedules import RAMP
from samson.optim._sharding import ProcessGroups, is_sharded, local, process_groups, refuse_flat_shards, reshard
from samson.optim.rules import AscentRule, Rule

RULE = "rule"
"""Key in a parameter group under which stands whose settings, such as ρ, it holds."""

Direction = Callable[[Tensor], Tensor | None]
"""Gives what a parameter climbs along, to be used up; None leaves it where it is."""

View = Callable[[Tensor], Tensor]
"""How a weight is seen in a parameter, or in this process's part of it."""

_CLIMBERS = WeakTensorKeyDictionary()
"""For each parameter the last optimizer of ours that was given it, as a weak reference."""


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


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class Climber(OptimizerWrapper):
    """The part of a sharpness-aware optimizer that moves weights to w + ε."""

    last_ascent: Ascent | None
    """The last perturbation; None before the first."""

    skipped_ascents: Tensor | None
    """How often the gradient norm was not finite, so that ε was 0: a tensor without axes; None before the first."""

    budget: float = math.inf
    """Largest rise of the loss to first order; see `SharpnessAware`."""

    def __init__(
        self, base: Optimizer, rule: Rule, model: nn.Module | None, *, hold: str, measure: bool, compiled: bool
    ) -> None:
        super().__init__(base)
        if "rho" in base.defaults:
            raise ValueError(
                f"`base` must not use the group key `rho`, which {type(base).__name__} does. Take another optimizer."
            )
        self.rule = rule
        self.hold = hold
        self.measure = measure
        self.compiled = compiled
        if model is None:
            found = linked_models(p for group in base.param_groups for p in group["params"])
            model = nn.ModuleList(found) if len(found) > 1 else next(iter(found), None)
        self.model = model
        for group in base.param_groups:
            self._forget_other_rule(group)  # one that wrapped this base before
        left = [group for group in base.param_groups if RULE in group and group.get("rho") != rule.rho]
        self._start()
        if left:
            self._warn_once(
                f"`base` has rho={float(left[0]['rho']):g} from a {type(rule).__name__} that wrapped it, or whose "
                f"state it loaded. That counts, not the rule's rho={rule.rho:g}: set `group['rho']`, or make the base "
                "anew."
            )

    def __repr__(self) -> str:
        groups = self.base.param_groups
        values = {
            key: dict.fromkeys(f"{float(g[key]):g}" for g in groups if g.get(key) is not None) for key in ("lr", "rho")
        }
        shown = "; ".join(f"{key} {', '.join(islice(found, 8))}" for key, found in values.items() if found)
        count = sum(p.numel() for group in groups for p in group["params"])
        return (
            f"{type(self).__name__}({type(self.base).__name__}, {self.rule!r})\n"
            f"{counted(count, 'weight')} in {counted(len(groups), 'group')}: {shown}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("base", "rule", "model", "hold", "measure", "compiled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OptimizerWrapper.__init__(self, state["base"])
        for name, value in state.items():
            setattr(self, name, value)
        self._start()

    def _start(self) -> None:
        self.last_ascent = self.skipped_ascents = None
        self._workspaces: dict[tuple[Any, ...], Workspace] = {}
        self._climb: Climb = climb
        if self.compiled:
            from samson.optim._compiled import compiled_climb

            self._climb = compiled_climb()
        self._warned: set[str] = set()
        self._read_groups()

    def _read_groups(self) -> None:
        groups = self.base.param_groups
        self._plans: dict[int, tuple[AscentRule, list[Tensor], list[Source]]] = {}
        self._find = Finder(type(self.rule).__name__, getattr(self.rule, "select", None))
        self._on_chip: list[ChipWeight] = []
        self._read_parameters()
        check_policy(self.rule, [self._settings(group) for group in groups], self._names)
        if self.rule.on_chip:
            self._require_chip_weights()
        for group in groups:
            self._keep_settings(group, self.rule.group_settings() | {RULE: type(self.rule).__name__})
        if any(
            p.dtype in (torch.float16, torch.bfloat16) for group in self._perturbed_groups() for p in group["params"]
        ):
            self._warn_once(
                "half-precision weights absorb most of a small perturbation. Keep the weights in float32 and use "
                "`torch.autocast`."
            )

    def _require_chip_weights(self) -> None:
        perturbed = self._perturbed()
        if not self._find(perturbed, [self.model]):
            raise ValueError(
                f"`{type(self.rule).__name__}` needs a weight that lies on a chip, got {len(perturbed)} parameters "
                "without one. Give it a model with linear, convolution or recurrent layers, or take another rule."
            )

    def _read_parameters(self) -> None:
        refuse_flat_shards(self.model)
        groups = self.base.param_groups
        self._names = names_by_parameter(groups, self.model)
        self._sharded = any(is_sharded(p) for group in groups for p in group["params"])
        for group in groups:
            _CLIMBERS.update(dict.fromkeys(group["params"], weakref.ref(self)))

    def _catch_up(self) -> None:
        """Read the groups again if one came, or a state was loaded, through the base optimizer."""
        if any(group.get(RULE) != type(self.rule).__name__ for group in self.base.param_groups):
            self._read_groups()

    def _settings(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group as the rule sees it: without the keys that the base optimizer uses for itself."""
        return {key: value for key, value in group.items() if key not in self.base.defaults}

    def _keep_settings(self, group: dict[str, Any], present: dict[str, Any]) -> None:
        """Give a group the settings that it lacks, or all where it holds those of another rule."""
        if other := self._forget_other_rule(group):
            self._warn_once(
                f"the loaded state is of {other}, whose settings mean something else: {type(self.rule).__name__} keeps "
                f"its own, such as rho={present['rho']}."
            )
        for key, value in present.items():
            group.setdefault(key, value)

    def _forget_other_rule(self, group: dict[str, Any]) -> str | None:
        """Take the settings of another rule out of a group; gives that rule's name."""
        other: str | None = group.get(RULE)
        if other in (None, type(self.rule).__name__):
            return None
        own = {RULE, RAMP, *self.rule.group_settings(), *(f.name for f in fields(self.rule))}
        for key in own - {*self.base.defaults}:
            group.pop(key, None)
        return other

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; it may bring settings of the rule, and `perturb`.

        In an optimizer with names, those that the group lacks are taken from the model.
        """
        self.rule.within(self._settings(param_group))  # checked before the group is there
        given = param_group["params"]
        given = [given] if isinstance(given, Tensor) else list(given)
        if "param_names" in self.base.param_groups[0] and all(isinstance(p, Tensor) for p in given):
            names = names_by_parameter([param_group | {"params": given}], self.model)
            if not all(p in names for p in given):
                raise ValueError(
                    "`param_group` must have `param_names`, as the groups that are there, or parameters of the known "
                    f"model, got {len(given)} of which some have no name. Pass `model=` to {type(self).__name__}, or "
                    "add the groups that `samson.param_groups` gives."
                )
            param_group["param_names"] = [names[p] for p in given]
        param_group["params"] = given
        super().add_param_group(param_group)
        try:
            self._read_groups()
        except Exception:  # whatever refuses the group: it must not stay
            del self.base.param_groups[-1]
            raise

    def _load(self, state_dict: dict[str, Any]) -> None:
        """A setting that the state lacks, or that is of another rule, stays as it is."""
        present = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        super()._load(state_dict)
        for group, values in zip(self.param_groups, present, strict=True):
            self._keep_settings(group, values)

    def _goes_through_range(self) -> bool:
        """Whether the gradient of any group looks at the perturbation."""
        rules = [self.rule.within(self._settings(group)) for group in self._perturbed_groups()]
        return any(getattr(rule, "through_range", False) for rule in rules)

    def _perturbed_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.base.param_groups if group.get("perturb", True)]

    def _perturbed(self) -> list[Tensor]:
        return [p for group in self._perturbed_groups() for p in group["params"]]

    def _has_gradient(self) -> bool:
        return any(p.grad is not None for group in self.base.param_groups for p in group["params"])

    def _require_gradient(self) -> None:
        if not self._has_gradient():
            raise RuntimeError("The closure left no gradient in the perturbed pass. It must call `backward()`.")

    @_disable_dynamo
    def _clear_gradients(self, model: nn.Module | None) -> None:
        """Clear all gradients of the first pass: those of the base, and of what else belongs to the models.

        What another optimizer of ours holds is left to it: its ascent may be yet to come.
        """
        self.base.zero_grad()
        for known in dict.fromkeys((self.model, model)):
            for p in () if known is None else known.parameters():
                if p.grad is not None and (p not in _CLIMBERS or _CLIMBERS[p]() in (None, self)):
                    p.grad = None

    def _refuse_what_cannot_work(self) -> None:
        self._catch_up()
        if parametrize._cache_enabled:
            raise RuntimeError(
                "Inside `parametrize.cached()` a second pass would use weights computed before the perturbation. Leave "
                "that block first."
            )

    def _ascend(self, parts: list[Part], model: nn.Module | None) -> None:
        """Move the weights of the parts; their directions are used up."""
        norm, epsilon_norm = self._climb(parts, self.measure)
        for part in parts:
            part.directions.clear()  # or the gradients would lie in memory until the second pass is over
        bad = norm.isfinite().logical_not()
        self.skipped_ascents = bad.long() if self.skipped_ascents is None else self.skipped_ascents + bad
        self.last_ascent = Ascent(norm, epsilon_norm)
        self._weights_changed(model)

    def _weights_changed(self, model: nn.Module | None) -> None:
        torch.clear_autocast_cache()
        if self._sharded:
            reshard(model)

    def _chip_weights(self, model: nn.Module | None) -> list[ChipWeight]:
        """What the rule perturbs, if that is only what lies on a chip."""
        if self._sharded:
            reshard(model)  # or layers may hold gathered weights, which are not those of the groups
        return self._find(self._perturbed(), dict.fromkeys((self.model, model)))

    @_disable_dynamo  # bookkeeping, not tensor work; torch.compiler.disable would import the compiler at once
    def _parts(
        self, rule: AscentRule, direction: Direction, model: nn.Module | None, of_objective: bool = False
    ) -> list[Part]:
        """The weights that have a direction, sorted into parts.

        Args:
            rule: The rule.
            direction: Gives the directions.
            model: A model that the perturbed weights may belong to, beside the known one.
            of_objective: Whether they are of what the base minimises, also where a group has `maximize=True`, and not
                of the loss as `backward` saw it.
        """
        parts: list[Part] = []
        spaces: dict[tuple[Any, ...], Workspace] = {}
        if rule.on_chip:
            on_chip = self._chip_weights(model)
            if on_chip is not self._on_chip:
                self._on_chip, self._plans = on_chip, {}
        for number, group in enumerate(self._perturbed_groups()):
            settings = self._settings(group)
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
                space = self._workspaces.get((number, *kind))
                if space is None or not space.fits(weights):
                    space = Workspace(weights, scaled=kind[0] and not self.compiled)
                spaces[number, *kind] = space
                wide = torch.promote_types(kind[1], torch.float32)
                steps = [along if along.dtype == wide else along.to(wide) for along in directions]
                parts.append(Part(of_group, rho, kind[0], weights, steps, space, kind[3], self.budget, sources))
        self._workspaces = spaces  # without those of weights that are elsewhere now, or in another dtype
        alone = iter(exclusive([along for part in parts for along in part.directions]))
        for part in parts:
            part.directions = [next(alone) for _ in part.directions]
        return parts

    def _plan(self, number: int, rule: AscentRule, parameters: list[Tensor]) -> list[Source]:
        """What is the same in every step, made anew where the rule's settings or the parameters changed."""
        known = self._plans.get(number)
        if known is None or len(known[1]) != len(parameters) or not all(map(operator.is_, known[1], parameters)):
            self._read_parameters()  # Accelerate puts sharded parameters in the place of those the group was made with
            known = None
        if known is None or known[0] != rule:
            known = self._plans[number] = rule, list(parameters), self._sources(rule, parameters)
        return known[2]

    def _sources(self, rule: AscentRule, parameters: list[Tensor]) -> list[Source]:
        if not rule.on_chip:
            return [
                Source(p, rule.scales_tensor(self._names.get(p, ""), p), process_groups(p), _as_it_is)
                for p in parameters
            ]
        own = set(parameters)
        return [
            Source(weight.parameter, True, process_groups(weight.parameter), view)
            for weight in self._on_chip
            if weight.parameter in own
            for view in views(weight, by_output=getattr(rule, "per", "layer") == "channel")
        ]

    def _held(self, model: nn.Module | None) -> AbstractContextManager[None]:
        """A block in which the buffers of this model and of the known one are held still."""
        if model is None:
            self._warn_once(
                "no model is known, so running statistics of norm layers also see the perturbed pass. Make the base "
                f"optimizer with `samson.param_groups(model)`, or pass `model=` to {type(self).__name__}."
            )
        return held_buffers(dict.fromkeys((self.model, model)), self.hold)

    def _note_losses(self, clean: Any, perturbed: Any) -> None:
        """Put the losses of both passes in `last_ascent`."""
        if self.last_ascent is not None:
            self.last_ascent.clean_loss, self.last_ascent.perturbed_loss = (
                loss.detach() if isinstance(loss, Tensor) else loss for loss in (clean, perturbed)
            )

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(f"{type(self).__name__}: {message}", stacklevel=4)


def gradient(p: Tensor) -> Tensor | None:
    """A parameter's gradient, if it has one.

    Raises:
        RuntimeError: If it is sparse.
    """
    return not_sparse(p.grad)


def not_sparse(grad: Tensor | None) -> Tensor | None:
    """A gradient as it is.

    Raises:
        RuntimeError: If it is sparse.
    """
    if grad is not None and grad.layout != torch.strided:
        raise RuntimeError(
            "A sparse gradient cannot be perturbed. Use `sparse=False`, or put the embedding in a parameter group with "
            "`perturb=False`."
        )
    return grad
