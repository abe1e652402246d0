"""`SharpnessAware`: any optimizer, stepping with the gradient that a rule's perturbed weights give."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson.optim.ascent import climb, share
from samson.optim.delegation import OptimizerWrapper
from samson.optim.groups import check_policy, linked_model, names_by_parameter
from samson.optim.injection import NoiseInjection
from samson.optim.norm_statistics import frozen_statistics
from samson.optim.rules import Rule


class SharpnessAware(OptimizerWrapper):
    """Wrap an optimizer so that each step uses the gradient at perturbed weights.

    There are two ways of use. `step(closure)` runs the closure twice (once under a one-pass rule such as
    `NoiseInjection`) and returns the clean loss. Or run `backward()` once, then again inside
    `with optimizer.perturbed(model):`, then call `step()`. Both passes see the same mini-batch; dropout draws new
    masks in the second.

    `param_groups`, `state` and `defaults` are the base optimizer's own objects, so schedulers and checkpoints may
    hold either. A group may carry its own `rho`, and `perturb=False` leaves a group out of the ascent and its norm.
    The weights are restored from copies, bitwise, also when the closure raises.

    Args:
        base: The optimizer that makes the step.
        rule: An ascent rule (`SAM`, `ASAM`, `SAMSON`) or `NoiseInjection`.
        model: Needed only if `base` was not made from `param_groups(model)`: gives the parameters' names and the
            norm statistics to hold still. It may be wrapped or compiled.

    Raises:
        TypeError: If `base` is no optimizer, or one that needs a closure itself.
        ValueError: If a rule that scales by name has no names or would scale no tensor, if a group's `rho` is
            negative, or if the base optimizer has a `rho` of its own.

    Example:
        >>> from samson import SAMSON, param_groups
        >>> model = nn.Linear(4, 2)
        >>> base = torch.optim.SGD(param_groups(model), lr=0.1, momentum=0.9)
        >>> optimizer = SharpnessAware(base, SAMSON(rho=0.5))
        >>> x = torch.randn(8, 4)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)

    Reference: Foret et al. 2021, arXiv 2010.01412, algorithm 1.
    """

    def __init__(self, base: Optimizer, rule: Rule | NoiseInjection, *, model: nn.Module | None = None) -> None:
        super().__init__(base)
        if "rho" in base.defaults:
            raise ValueError(
                f"`base` must not use the group key `rho`, which {type(base).__name__} does. Take another optimizer."
            )
        if not isinstance(rule, (Rule, NoiseInjection)):
            raise TypeError(f"`rule` must be a rule such as SAMSON(rho=0.5), got {rule!r}.")
        parameters = [p for group in self.param_groups for p in group["params"]]
        self._start(rule, linked_model(parameters) if model is None else model)

    def __getstate__(self) -> dict[str, Any]:
        return {"base": self.base, "rule": self.rule, "model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OptimizerWrapper.__init__(self, state["base"])
        self._start(state["rule"], state["model"])

    def _start(self, rule: Rule | NoiseInjection, model: nn.Module | None) -> None:
        self.rule = rule
        self.model = model
        self._kept: list[Tensor] = []
        self._inside = self._perturbed_since_step = False
        self._warned: set[str] = set()
        self._read_groups()

    def _read_groups(self) -> None:
        for group in self.param_groups:
            for key, value in self.rule.group_settings().items():
                group.setdefault(key, value)
        self._names = names_by_parameter(self.param_groups, self.model)
        if isinstance(self.rule, Rule):
            check_policy(self.rule, self.param_groups, self._names)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; it may bring its own `rho` and `perturb`."""
        if isinstance(self.rule, Rule):
            self.rule.within(param_group)  # checked before the group is there
        super().add_param_group(param_group)
        self._read_groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Args:
            closure: Clears the gradients, computes the loss, calls `backward()` and returns the loss. Without it
                this is the base optimizer's step, to be called after `perturbed`.

        Returns:
            The closure's clean loss (the perturbed one under a one-pass rule), or None without a closure.

        Raises:
            RuntimeError: If called inside `perturbed`, or if the closure leaves no gradient.
        """
        if self._inside:
            raise RuntimeError("`step` was called inside `perturbed`. Leave the `with` block first.")
        loss = None
        if closure is None:
            self._warn_if_plain()
        else:
            run = torch.enable_grad()(closure)
            if not self.rule.one_pass:
                loss = run()
            with self.perturbed():
                second = run()
            loss = second if self.rule.one_pass else loss
        self._perturbed_since_step = False
        self.base.step()
        return loss

    @contextmanager
    def perturbed(self, model: nn.Module | None = None) -> Iterator[None]:
        """Perturb the weights inside the block, and put back the very same bits at its end.

        On entering, the gradients of the first pass give the ascent direction and are cleared. Running statistics
        of norm layers are the same after the block as before it. Under a one-pass rule the block holds the only
        backward pass, so gradients and statistics are left to it.

        Args:
            model: The model whose norm statistics are held still; by default the one known from the groups.

        Raises:
            RuntimeError: If no perturbed parameter has a gradient, one is sparse, or blocks are nested.
        """
        if self._inside:
            raise RuntimeError("`perturbed` is already active. Blocks cannot be nested.")
        groups = [group for group in self.param_groups if group.get("perturb", True)]
        weights = [p for group in groups for p in group["params"] if self.rule.moves(p)]
        with nullcontext() if self.rule.one_pass else frozen_statistics(self._statistics_of(model)):
            self._keep(weights)
            self._inside = True
            try:
                self._displace(groups, weights)
                torch.clear_autocast_cache()
                yield
                self._perturbed_since_step = True
            finally:
                self._inside = False
                with torch.no_grad():
                    if weights:
                        torch._foreach_copy_(weights, self._kept)
                torch.clear_autocast_cache()

    def _displace(self, groups: list[dict[str, Any]], weights: list[Tensor]) -> None:
        if isinstance(self.rule, NoiseInjection):
            self.rule.displace(weights, step=self.param_groups[0]["injections"])
            for group in self.param_groups:
                group["injections"] += 1
            return
        if not weights:
            raise RuntimeError(
                "No perturbed parameter has a gradient. Call `loss.backward()` before `perturbed`; a closure must call "
                "it too."
            )
        climb([share(self.rule, group, self._names) for group in groups])
        self.zero_grad()

    @torch.no_grad()
    def _keep(self, weights: list[Tensor]) -> None:
        """Copy the weights, into the copies of the last step where they fit."""
        if [_layout(w) for w in weights] != [_layout(k) for k in self._kept]:
            self._kept = [w.detach().clone() for w in weights]
        elif weights:
            torch._foreach_copy_(self._kept, weights)

    def _statistics_of(self, model: nn.Module | None) -> nn.Module | None:
        model = self.model if model is None else model
        if model is None:
            self._warn_once(
                "no model is known, so running statistics of norm layers also see the perturbed pass. Make the base "
                "optimizer with `samson.param_groups(model)`, or pass `model=` to SharpnessAware."
            )
        return model

    def _warn_if_plain(self) -> None:
        if not self._perturbed_since_step and any(float(group.get("lr", 1.0)) != 0 for group in self.param_groups):
            self._warn_once("no perturbation was made: pass a closure or use `perturbed`.")

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(f"SharpnessAware: {message}", stacklevel=3)


def _layout(t: Tensor) -> tuple[object, ...]:
    return (t.shape, t.stride(), t.dtype, t.device)
