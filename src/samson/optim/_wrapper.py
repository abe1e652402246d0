"""`SharpnessAware`: any optimizer, stepping with the gradient that a rule's perturbed weights give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson._buffers import restored
from samson._checks import require, require_number
from samson._interrupts import uninterrupted
from samson.optim import _reuse as reuse
from samson.optim._ascent import Ascent, Part
from samson.optim._climber import Climber
from samson.optim._delegation import inside
from samson.optim._directions import DIRECTIONS, PREVIOUS, prepare, remember, require_momentum, require_state
from samson.optim._groups import rates_are_zero
from samson.optim._mix import clean_gradients, mix, stepped_with
from samson.optim._modes import Modes, require_replicas
from samson.optim._range_gradient import add_range_gradients
from samson.optim._sharding import local
from samson.optim.rules import NoiseInjection, Rule

STEPS = "sharpness_steps"
"""Key in a parameter group under which steps are counted, where a mode needs it."""


class SharpnessAware(Climber):
    """Wrap an optimizer so that each step uses the gradient at perturbed weights.

    There are two ways of use. `step(closure)` runs the closure twice and returns the clean loss. Or run `backward()`
    once, then again inside `with optimizer.perturbed(model):`, then call `step()`. Both passes must see the same
    mini-batch, and what the loss draws (latents, noise, times) the same draws; dropout draws new masks in the second.

    Cheaper and mixed modes are settings and combine freely:

    - `ascent="previous"` or `"momentum"` climbs along the last step's gradient, or the base's momentum: one pass.
    - `every=k` perturbs each k-th step only. `reuse=α` then adds to the steps between what the last perturbation
      changed: g + α·‖g‖/‖g_v‖·g_v, with g_v the part of the perturbed gradient at right angles to the clean one.
    - `mix=λ` steps with λ·g(w + ε) + (1 − λ)·g(w).

    A mode with one pass (also `NoiseInjection`) runs the closure once, perturbed: that pass updates norm statistics
    and its loss is returned. In the explicit form `with optimizer.perturbed(model):` then holds the only backward
    pass. With `every=k`, write `if optimizer.climbs:` before the block.

    `param_groups`, `state` and `defaults` are the base optimizer's own objects, so schedulers and checkpoints may
    hold either. A group may carry its own settings of the rule (`rho`, `eta`, `p`, `policy`), and `perturb=False`
    leaves a group out of the ascent and its norm. The weights are restored from copies, bitwise, also when the
    closure raises. A gradient norm that is not finite gives no perturbation and is counted in `skipped_ascents`.

    Args:
        base: The optimizer that makes the step.
        rule: An ascent rule (`SAM`, `ASAM`, `SAMSON`, `RangeSAM`) or `NoiseInjection`.
        model: Needed if `base` was not made from `param_groups(model)`, or if the closure runs other networks too
            (both of a GAN: `nn.ModuleDict`): gives the parameters' names and the buffers to hold still. It may be
            wrapped or compiled. The names in a `select` are those of this model, else of the one that `param_groups`
            was given; several such keep their own names.
        hold: Which of the model's buffers keep the state that the first pass left, by a pattern for their names as in
            `fnmatch`: running statistics, vectors of a spectral norm, codebooks, observers; by default all of them,
            none with "". Each pass of a closure begins with the numbers among them that the first one saw.
        ascent: Where the direction comes from: "gradient" (of a first pass), "previous" or "momentum".
        every: Perturb each k-th step, k ≥ 1.
        reuse: α ≥ 0 for the steps between.
        mix: λ from 0 to 1, the weight of the perturbed gradient.
        own_ascent: Whether each process climbs along its own gradient, without communication in the first pass;
            in the closure form, with `model` wrapped in DistributedDataParallel. In the explicit form, run forward
            and backward of the first pass under the model's `no_sync()`, and leave `mix` and `reuse` alone: they
            would step with a gradient that each process has for itself.
        budget: Largest rise of the loss to first order, ρ·‖T∘g‖₂ ≤ budget, in units of the loss that `backward` saw
            (with a GradScaler, the scaled one): where the gradient is steep, ρ is smaller. The host waits for nothing.
            With ascent="previous" g is the last step's gradient as the base used it (clipped, unscaled), so that the
            loss at hand may rise by more; "momentum" is no gradient and has no budget.
        measure: Whether ‖ε‖ is measured for `last_ascent`; costs a pass over the scaled weights.
        compiled: Whether the climb is compiled, which takes a while at the first step and then moves fewer bytes.

    Raises:
        TypeError: If `base` is no optimizer, or one that needs a closure itself.
        ValueError: If a setting is out of its range, if a rule that scales by name meets a trained parameter without
            one, if it would scale no tensor, or if the base optimizer has a `rho` of its own; if it holds none of the
            known model's parameters; if `NoiseInjection` or `RangeSAM` finds no weight that lies on a chip, or one that
            a layer computes.

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

    Reference: Foret et al. 2021, arXiv 2010.01412, algorithm 1. `reuse`: Liu et al. 2022 (LookSAM), arXiv 2203.02714,
    with one norm over the whole network. `budget`: Wang et al. 2026 (LE-SAM), arXiv 2605.10183, with ρ as the largest
    radius. `mix` with `NoiseInjection`: Li et al. 2024, arXiv 2404.00357 [from memory].
    """

    def __init__(
        self,
        base: Optimizer,
        rule: Rule,
        *,
        model: nn.Module | None = None,
        hold: str = "*",
        ascent: str = "gradient",
        every: int = 1,
        reuse: float = 0.0,
        mix: float = 1.0,
        own_ascent: bool = False,
        budget: float = math.inf,
        measure: bool = False,
        compiled: bool = False,
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"`rule` must be a rule such as SAMSON(rho=0.5), got {rule!r}.")
        self.modes = Modes(isinstance(rule, NoiseInjection), ascent, every, reuse, mix, own_ascent)
        require_number("budget", budget)
        require(budget > 0, "budget", "be > 0", budget)
        require(budget == math.inf or not self.modes.injects, "budget", "be left out with NoiseInjection", budget)
        require(budget == math.inf or ascent != "momentum", "budget", "be left out with ascent='momentum'", budget)
        self.budget = budget
        super().__init__(base, rule, model, hold=hold, measure=measure, compiled=compiled)
        if ascent == "momentum":
            require_momentum(base)
        if own_ascent and self._goes_through_range():
            raise ValueError(
                "`own_ascent` must be False with through_range=True, whose gradient looks at the perturbation: each "
                "process would step with another. Leave one out."
            )
        if own_ascent:
            require_replicas(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"modes": self.modes, "budget": self.budget}

    def _start(self) -> None:
        self._inside = self._perturbed_since_step = self._left_gradient = self._awaits_step = False
        self._across: dict[Tensor, Tensor] = {}
        super()._start()

    def _read_groups(self) -> None:
        super()._read_groups()
        if self.modes.every > 1:
            for group in self.base.param_groups:
                group.setdefault(STEPS, 0)
        if self.modes.kept:
            prepare(self.base, self.modes.kept)

    @property
    def climbs(self) -> bool:
        """Whether the step at hand perturbs; False on the steps that `every` leaves plain."""
        self._catch_up()
        return self.modes.every == 1 or bool(self.base.param_groups[0].get(STEPS, 0) % self.modes.every == 0)

    @property
    def needs_first_pass(self) -> bool:
        """Whether a perturbed step needs a clean backward pass before the perturbed one."""
        return not self.modes.one_pass or self.modes.mix < 1

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Args:
            closure: Clears the gradients, computes the loss, calls `backward()` and returns the loss. Without it
                this is the base optimizer's step, to be called after `perturbed`.

        Returns:
            The closure's clean loss (the perturbed one in a mode with one pass), or None without a closure.

        Raises:
            RuntimeError: If called inside `perturbed`, or with a closure by a GradScaler, if a GradScaler unscaled
                before `perturbed`, or if that block or the closure leaves no gradient.
        """
        if self._inside:
            raise RuntimeError("`step` was called inside `perturbed`. Leave the `with` block first.")
        if closure is not None and self._awaits_step:
            raise RuntimeError(
                "The gradients of a `perturbed` block await `step()` without a closure, but one came. Lightning's "
                "optimizers bring an empty one in manual optimization: use `step(closure)` there, without a block."
            )
        self._awaits_step = False
        self._refuse_scaled_gradients(closure)
        loss, counts = None, True
        if closure is None:
            self._catch_up()
            counts = self._perturbed_since_step or not rates_are_zero(self.base)
            if counts and self.climbs and not self._perturbed_since_step:
                self._warn_once("no perturbation was made: pass a closure or use `perturbed`.")
            if self._perturbed_since_step and not (self._left_gradient and self._has_gradient()):
                raise RuntimeError(
                    "No parameter has a gradient from the `perturbed` block. Run forward and `backward()` inside it, "
                    "or assign gradients of your own there, and clear none after it."
                )
        else:
            self._refuse_what_cannot_work()
            try:
                loss = self._run(torch.enable_grad()(closure))
            finally:
                self._awaits_step = False
        self._step_base()
        for group in self.base.param_groups if self.modes.every > 1 and counts else ():
            group[STEPS] += 1
        if self.model is not None:
            self._weights.reshard(self.model)  # also after a step that does not climb
        self._perturbed_since_step = self._awaits_step = False
        self._scaler_steps = False  # a trainer's clipping may have asked in the closure
        return loss

    def _step_base(self) -> None:
        """The base's step, and what the steps to come need of it."""
        if self.modes.reuse and not self.climbs:
            reuse.add(self.base, self.modes.reuse)
        with stepped_with(self.base, self.modes.ascent == "previous", over=PREVIOUS) as gradients:
            self.base.step()
        if self.modes.ascent == "previous":
            remember(self.base, gradients)
        if self.modes.ascent == "momentum" and self._has_gradient():
            require_state(self.base)
        if self.modes.reuse and self._perturbed_since_step:
            reuse.remember(self.base, self._across)
            self._across = {}
        elif self.modes.reuse and self.climbs:
            reuse.begin(self.base)

    @inside
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, through the base optimizer, and give up a step that they were for."""
        self._awaits_step = False
        super().zero_grad(set_to_none)

    def _run(self, closure: Callable[[], Any]) -> Any:
        """Both passes, or the one that the mode has; gives the loss to return."""
        if not self.climbs:
            return closure()
        clean = None
        with self._repeated() if self.needs_first_pass else nullcontext():
            if self.needs_first_pass:
                apart = self.model.no_sync() if self.modes.own_ascent else nullcontext()  # type: ignore[union-attr, operator]
                with apart, self._first_pass():
                    clean = closure()
            with self.perturbed():
                perturbed = closure()
                self._require_gradient()
        self._note_losses(clean, perturbed)
        return perturbed if clean is None else clean

    @inside
    @uninterrupted
    def perturbed(self, model: nn.Module | None = None) -> Iterator[None]:
        """Perturb the weights inside the block, and put back the very same bits at its end.

        On entering, the gradients of the first pass give the ascent direction and are cleared, also those of the
        model's parameters that another optimizer steps. Buffers such as running statistics (see `hold`) are the same
        after the block as before it. In a mode with one pass the block holds the only backward pass, so gradients and
        statistics are left to it.

        Args:
            model: The model whose buffers are held still, with that known from the groups.

        Raises:
            RuntimeError: If no perturbed parameter has a gradient, one is sparse, the step at hand does not climb,
                blocks are nested, or the gradients of one await their `step()`.
            ValueError: If `hold` matches no buffer of a model that has some, or none of the known model's parameters
                are in the optimizer.
        """
        if self._inside:
            raise RuntimeError("`perturbed` is already active. Blocks cannot be nested.")
        if not self.climbs:
            raise RuntimeError("This step is not to be perturbed. Write `if optimizer.climbs:` before the block.")
        if self._awaits_step and not self._scaler_steps:  # a scaler may have left the step out
            raise RuntimeError(
                "`perturbed` was entered again before `step()`, which would drop the gradients of the last block. "
                "Repeat all micro-batches inside one block, then step; or give the step up with "
                "`optimizer.zero_grad()`."
            )
        self._refuse_what_cannot_work()
        model, rule = self.model if model is None else model, self.rule
        clean = clean_gradients(self.base) if self.modes.keeps_clean_gradient else {}
        alone = nullcontext() if self.needs_first_pass else self._only_pass()
        moved = self._injected(rule, model) if isinstance(rule, NoiseInjection) else self._climbed(model)
        with alone, moved as parts, self._perturbed_pass(model, is_second=self.needs_first_pass):
            self._inside = True
            try:
                yield
                add_range_gradients(parts)
                if self.modes.reuse:
                    self._across = reuse.across(self.base, clean if self.modes.mix == 1 else {**clean})
                if self.modes.mix < 1:
                    mix(self.base, self.modes.mix, clean)
                self._perturbed_since_step = True
                # A gradient from after the block may be of any weights.
                self._left_gradient = self._awaits_step = self._has_gradient()
                self._scaler_steps = self._groups_read = False  # a scaler has yet to unscale the new gradients
            finally:
                self._inside = False

    def _only_pass(self) -> AbstractContextManager[None]:
        """A block for the backward pass of a mode that has one."""
        mode = "NoiseInjection" if self.modes.injects else f"ascent={self.modes.ascent!r}"
        return self._alone(
            f"{mode} has one pass: the block holds the only backward, but gradients from before it are there. "
            "Leave the first pass away (`if optimizer.needs_first_pass:`), or call `optimizer.zero_grad()`.",
            kept=True,
        )

    @contextmanager
    def _climbed(self, model: nn.Module | None) -> Iterator[list[Part]]:
        ascent = self.modes.ascent
        parts = self._weights.parts(
            DIRECTIONS[ascent](self.base),
            model,
            of_objective=ascent == "momentum",
            budget=self.budget,
            compiled=self.compiled,
        )
        if not self.modes.one_pass:
            self._require_parts(
                parts,
                "Call `loss.backward()` before `perturbed`; a closure must call it too. (With FSDP, gradients without "
                "synchronisation stay away.)",
            )
        try:
            if parts:
                self._ascend(parts, model)
            else:  # the first step along a direction that is yet to come
                self.last_ascent = Ascent()
            yield parts
        finally:
            for part in parts:
                part.workspace.restore(part.weights)
            self._weights_changed(model)

    @contextmanager
    def _injected(self, rule: NoiseInjection, model: nn.Module | None) -> Iterator[list[Part]]:
        weights = self._weights.chip_weights(model)
        shares = {p: rule.radius(group) for group in self._weights.groups for p in group["params"]}
        try:
            with restored([local(p) for p in dict.fromkeys(weight.parameter for weight in weights)]):
                rule.displace(weights, shares, step=self.base.param_groups[0]["injections"])
                for group in self.base.param_groups:
                    group["injections"] += 1
                self.last_ascent = Ascent()
                self._weights_changed(model)
                yield []
        finally:
            self._weights_changed(model)
