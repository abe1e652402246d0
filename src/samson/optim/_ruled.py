"""An optimizer with a rule: the rule's settings in the groups, and what comes back from copies and states."""

from __future__ import annotations

import sys
import warnings
from dataclasses import fields
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from samson._names import counted
from samson.optim._chip import Models, each
from samson.optim._clipping import Clipping
from samson.optim._delegation import OptimizerWrapper
from samson.optim._groups import link, linked_models, names_by_parameter
from samson.optim._perturbed import Perturbed
from samson.optim._scales import check_policy, unscaled
from samson.optim._schedules import RAMP
from samson.optim.rules import Rule

RULE = "rule"
"""Key in a parameter group under which stands whose settings, such as ρ, it holds."""

NOT_OF_THE_USER = {"samson", "torch", "contextlib"}
"""Packages of which no line is named in a warning, but the line that called them."""


class RuledOptimizer(OptimizerWrapper):
    """An optimizer whose groups hold the settings of a rule beside its name, also after copies and loaded states.

    Args:
        base: The optimizer that makes the step.
        rule: The rule; settings that a group has count before its own.
        model: The known model; None takes those from which `param_groups` took the parameters.

    Raises:
        TypeError: If `base` is no fitting optimizer.
        ValueError: If the base uses `rho` itself, or the rule does not fit the parameters.
    """

    def __init__(self, base: Optimizer, rule: Rule, model: nn.Module | None) -> None:
        super().__init__(base)
        if "rho" in base.defaults:
            raise ValueError(
                f"`base` must not use the group key `rho`, which {type(base).__name__} does. Take another optimizer."
            )
        self.rule = rule
        if model is None:
            found = linked_models(base.param_groups)
            model = Models(found) if len(found) > 1 else next(iter(found), None)
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
        parameters = [p for group in groups for p in group["params"]]
        count, still = (sum(p.numel() for p in parameters if p.requires_grad is moves) for moves in (True, False))
        frozen = f" ({still:,} frozen)" if still else ""
        return (
            f"{type(self).__name__}({type(self.base).__name__}, {self.rule!r})\n"
            f"{counted(count, 'weight')}{frozen} in {counted(len(groups), 'group')}: {shown}"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ("base", "rule", "model")}
        return state | {"clippings": _clippings(self), "base_clippings": _clippings(self.base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OptimizerWrapper.__init__(self, state["base"])
        clippings = {self: state.pop("clippings", ()), self.base: state.pop("base_clippings", ())}
        for name, value in state.items():
            setattr(self, name, value)
        self._start()
        for model in each([self.model]):
            link(model)
        for optimizer, hooks in clippings.items():
            for hook in hooks:
                if hook not in _clippings(optimizer):  # of the base that a shallow copy shares
                    optimizer.register_step_post_hook(hook)

    def _start(self) -> None:
        """What is made anew in a copy, too."""
        self._warned: set[str] = set()
        self._read_groups()

    def _read_groups(self) -> None:
        groups = self.base.param_groups
        self._weights = Perturbed(self.base, self.rule, self.model)
        trained = [p for p in self._weights.parameters if p.requires_grad]
        kept = set(trained or self._weights.parameters)  # all, if they are yet to be unfrozen
        settings = [self._weights.settings(group) for group in groups]
        for group in settings:
            group["params"] = [p for p in group["params"] if p in kept]
        if nameless := check_policy(self.rule, settings, self._weights.names):
            self._warn_once(
                f"{counted(nameless, 'parameter')} of {len(trained)} have no name, so {type(self.rule).__name__} moves "
                "them as SAM would. Pass a `model=` that holds them all, such as nn.ModuleList([model, head]), or give "
                "them a group of their own with policy='matrices' or perturb=False."
            )
        if plain := unscaled(self.rule, settings, self._weights.names, self.model):
            self._warn_once(
                f"{type(self.rule).__name__} moves {counted(len(plain), 'parameter')} of chip layers as SAM would, "
                f"such as {plain[0]!r}: policy='authors' picks names with \"weight\". Take policy='matrices'."
            )
        self._weights.require_chip_weights()
        self._weights.require_model()
        for group in groups:
            self._keep_settings(group, self.rule.group_settings() | {RULE: type(self.rule).__name__})
        self._last_groups = [*groups]
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in trained):
            self._warn_once(
                "half-precision weights absorb most of a small perturbation. Keep the weights in float32 and use "
                "`torch.autocast`."
            )

    def _catch_up(self) -> None:
        """Read the groups again if the rule is another, or a group or a state came through the base optimizer."""
        is_new = self._weights.rule is not self.rule
        if is_new or any(group.get(RULE) != type(self.rule).__name__ for group in self.base.param_groups):
            self._keep_known()
            self._read_groups()

    def _keep_known(self) -> None:
        """Give groups that a loaded state has made anew the settings that it lacks."""
        for group, known in zip(self.base.param_groups, self._last_groups, strict=False):
            if group is not known and group["params"] is known["params"]:  # torch keeps the list of parameters
                self._keep_settings(group, {key: value for key, value in known.items() if key != "params"})
        self._last_groups = [*self.base.param_groups]

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
        self.rule.within(self._weights.settings(param_group))  # checked before the group is there
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
        super()._load(state_dict)
        self._keep_known()

    @_disable_dynamo
    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            level, frame = 1, sys._getframe()
            while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in NOT_OF_THE_USER:
                level, frame = level + 1, frame.f_back
            warnings.warn(f"{type(self).__name__}: {message}", stacklevel=level)


def _clippings(optimizer: Optimizer) -> list[Clipping]:
    """What clips after each step of an optimizer; torch's copies leave hooks out."""
    return [hook for hook in optimizer._optimizer_step_post_hooks.values() if isinstance(hook, Clipping)]
