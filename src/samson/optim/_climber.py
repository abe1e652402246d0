"""What every optimizer that perturbs weights shares: its rule, the rule's settings in groups, and the climb."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from samson._buffers import Buffers, unchanged
from samson._names import counted
from samson._select import plain_name
from samson.optim._ascent import Ascent, Climb, Part, climb
from samson.optim._chip import Models, each, unknown_share
from samson.optim._clipping import Clipping
from samson.optim._delegation import OptimizerWrapper
from samson.optim._earlier import watched
from samson.optim._groups import check_policy, linked_models, names_by_parameter
from samson.optim._perturbed import Direction, Perturbed
from samson.optim._schedules import RAMP
from samson.optim._sharding import local
from samson.optim.rules import AscentRule, Rule, require_ascent

RULE = "rule"
"""Key in a parameter group under which stands whose settings, such as ρ, it holds."""

NOT_OF_THE_USER = {"samson", "torch", "contextlib"}
"""Packages of which no line is named in a warning, but the line that called them."""


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
        state = {name: getattr(self, name) for name in ("base", "rule", "model", "hold", "measure", "compiled")}
        hooks = self._optimizer_step_post_hooks.values()
        return state | {"clippings": [hook for hook in hooks if isinstance(hook, Clipping)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OptimizerWrapper.__init__(self, state["base"])
        clippings = state.pop("clippings", ())
        for name, value in state.items():
            setattr(self, name, value)
        self._start()
        for clipping in clippings:
            self.register_step_post_hook(clipping)

    def _start(self) -> None:
        self.last_ascent = self.skipped_ascents = None
        self._climb: Climb = climb
        if self.compiled:
            from samson.optim._compiled import compiled_climb

            self._climb = compiled_climb()
        self._warned: set[str] = set()
        self._looked = self._blocks_kept_frozen = False
        self._before: Buffers | None = None
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
        self._weights.require_chip_weights()
        self._weights.require_model()
        for group in groups:
            self._keep_settings(group, self.rule.group_settings() | {RULE: type(self.rule).__name__})
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in trained):
            self._warn_once(
                "half-precision weights absorb most of a small perturbation. Keep the weights in float32 and use "
                "`torch.autocast`."
            )

    def _catch_up(self) -> None:
        """Read the groups again if one came, or a state was loaded, through the base optimizer."""
        if any(group.get(RULE) != type(self.rule).__name__ for group in self.base.param_groups):
            self._read_groups()

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
        present = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        super()._load(state_dict)
        for group, values in zip(self.param_groups, present, strict=True):
            self._keep_settings(group, values)

    def _goes_through_range(self) -> bool:
        """Whether the gradient of any group looks at the perturbation."""
        rules = [self.rule.within(self._weights.settings(group)) for group in self._weights.groups]
        return any(getattr(rule, "through_range", False) for rule in rules)

    def _has_gradient(self) -> bool:
        return any(p.grad is not None for group in self.base.param_groups for p in group["params"])

    def _require_gradient(self) -> None:
        if not self._has_gradient():
            raise RuntimeError("The closure left no gradient in the perturbed pass. It must call `backward()`.")

    def _require_parts(self, parts: list[Part], mend: str) -> None:
        if parts:
            return
        if self._has_gradient():
            which = "those on the chip" if self.rule.on_chip else "those"
            raise RuntimeError(
                f"Gradients are there, but of no weight that {type(self.rule).__name__} moves: {which} are frozen, or "
                "had no part in the loss. Unfreeze them, or move others, by another rule or other groups."
            )
        self._weights.require_model()
        raise RuntimeError(f"No perturbed parameter has a gradient. {mend}")

    @contextmanager
    def _alone(self, words: str, *, kept: bool = False) -> Iterator[None]:
        """A block for a pass: says these words if it adds to gradients from before it, until the first ascent."""
        with watched(self._weights.parameters if self.last_ascent is None else (), kept=kept) as added:
            yield
        if added[:1] == [True]:  # later ones may be of micro-batches
            self._warn_once(words)

    def _first_pass(self) -> AbstractContextManager[None]:
        """A block for the closure's clean pass."""
        return self._alone(
            "the closure adds to gradients from before it, which the second pass will not have. Clear them in it, and "
            "run all micro-batches in it (in Lightning: `ManualAscent`)."
        )

    @_disable_dynamo
    def _clear_gradients(self, model: nn.Module | None) -> None:
        """Clear all gradients of the first pass: those of the base, and of what else belongs to the models.

        What another optimizer of ours holds is left to it: its ascent may be yet to come.
        """
        self.base.zero_grad()
        for known in dict.fromkeys((self.model, model)):
            for p in () if known is None else known.parameters():
                if p.grad is not None and not self._weights.is_held_elsewhere(p):
                    p.grad = None

    def _warn_of_missing_noise(self) -> None:
        """Say once that weights on the chip get no noise, when all optimizers are made, or that few lie there."""
        if self._looked or not self.rule.on_chip:
            return
        self._looked = True
        share, kind = unknown_share([self.model])
        if share > 0.5 and getattr(self.rule, "select", None) is None:
            self._warn_once(
                f"{share:.0%} of the model's weights are in layers of unknown types, such as {kind}, and so not on the "
                "chip. The rule's `select` puts them on it; `samson.noise.describe(model)` lists all."
            )
        if not isinstance(self.rule, AscentRule):
            missing = len(self._weights.left_out())
            if missing:
                self._warn_once(
                    f"the optimizer lacks {counted(missing, 'weight')} of the model on the chip, so there is no noise "
                    "on what it lacks. Make the base from `param_groups(model)`, with frozen weights too, or say by "
                    "the rule's `select` which weights lie on the chip."
                )

    def _refuse_what_cannot_work(self) -> None:
        self._catch_up()
        self._warn_of_missing_noise()
        if parametrize._cache_enabled:
            raise RuntimeError(
                "Inside `parametrize.cached()` a second pass would use weights computed before the perturbation. Leave "
                "that block first."
            )

    def _parts(self, direction: Direction, model: nn.Module | None, *, of_objective: bool = False) -> list[Part]:
        """What there is to move along these directions; see `Perturbed.parts`."""
        rule = require_ascent(self.rule)
        return self._weights.parts(
            rule, direction, model, of_objective=of_objective, budget=self.budget, compiled=self.compiled
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
        self._weights.reshard(model)

    @contextmanager
    def _repeated(self) -> Iterator[None]:
        """A block for the passes of a closure: each begins with the buffers that the first one saw."""
        self._before = self._buffers([self.model], state=True)
        try:
            yield
        finally:
            self._before = None

    @contextmanager
    def _frozen(self, model: nn.Module | None) -> Iterator[None]:
        """A block, of which the first must not write to frozen weights: they would follow the perturbed ones."""
        known = each(dict.fromkeys((self.model, model))) if not self._blocks_kept_frozen else []
        named = [(plain_name(name), p) for one in known for name, p in one.named_parameters() if not p.requires_grad]
        with unchanged(
            [
                (name, local(p))
                for name, p in named
                if fnmatchcase(name, self.hold) and not self._weights.is_held_elsewhere(p)
            ],
            "is frozen, but changed in the perturbed pass, as that of a momentum encoder or an average whose update "
            "is in the forward pass: it would follow perturbed weights. Update it after `step()`, make it a buffer, "
            "which is held, or leave it out of `hold`.",
        ):
            yield
        self._blocks_kept_frozen = True

    @contextmanager
    def _held(self, model: nn.Module | None) -> Iterator[None]:
        """A block in which the buffers of this model and of the known one are held still."""
        if model is None:
            self._warn_once(
                "no model is known, so running statistics of norm layers also see the perturbed pass. Make the base "
                f"optimizer with `samson.param_groups(model)`, or pass `model=` to {type(self).__name__}."
            )
        held = self._buffers(dict.fromkeys((self.model, model)))
        try:
            if self._before is not None:
                self._put_back(self._before)
            yield
        finally:
            self._put_back(held)

    @_disable_dynamo  # bookkeeping; in `Buffers` itself it would bring the compiler into evaluations
    def _buffers(self, models: Iterable[nn.Module | None], *, state: bool = False) -> Buffers:
        return Buffers(each(models), self.hold, state=state)

    @staticmethod
    @_disable_dynamo
    def _put_back(buffers: Buffers) -> None:
        buffers.put_back()

    def _note_losses(self, clean: Any, perturbed: Any) -> None:
        """Put the losses of both passes in `last_ascent`."""
        if self.last_ascent is not None:
            self.last_ascent.clean_loss, self.last_ascent.perturbed_loss = (
                loss.detach() if isinstance(loss, Tensor) else loss for loss in (clean, perturbed)
            )

    @_disable_dynamo
    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            level, frame = 1, sys._getframe()
            while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in NOT_OF_THE_USER:
                level, frame = level + 1, frame.f_back
            warnings.warn(f"{type(self).__name__}: {message}", stacklevel=level)
