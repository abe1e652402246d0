"""Lookbehind: several ascents in a row, a descent with the gradient of each, and a step back towards the start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samson._checks import is_number, require, require_whole
from samson.optim._climber import Climber
from samson.optim._directions import Direction, gradient
from samson.optim._groups import rates_are_zero
from samson.optim._mix import stepped_with
from samson.optim._sharding import ProcessGroups, local, over_all, process_groups
from samson.optim.rules import AscentRule, require_ascent

ADAPTIVE = "adaptive"


class Lookbehind(Climber):
    """Climb k times from the weights w, and each time step the fast weights φ with the gradient found there.

        φ′ ← w, φ ← w;   k times:  φ′ ← φ′ + ε(φ′),  φ ← base step from φ with ∇L(φ′);   then  w ← w + α·(φ − w)

    One mini-batch and k + 1 gradients a step, by a closure. With k = 1 and α = 1 this is `SharpnessAware`, bit for
    bit. The base optimizer makes k steps in one, so its momentum moves on k times.

    Args:
        base: The optimizer that makes the steps of the fast weights.
        rule: An ascent rule (`SAM`, `ASAM`, `SAMSON`).
        k: Number of ascents, ≥ 1.
        alpha: α from 0 to 1, how far the weights follow; or "adaptive": for each tensor (cos + 1) / 2, with the
            angle between the first descent step and the whole way.
        model: As for `SharpnessAware`.
        hold: As for `SharpnessAware`.
        measure: As for `SharpnessAware`.
        compiled: As for `SharpnessAware`.

    Raises:
        TypeError: If the rule is no ascent rule, or `base` no fitting optimizer.
        ValueError: If `k` or `alpha` is out of its range; or as for `SharpnessAware`.

    Example:
        >>> from samson import SAMSON, Lookbehind, param_groups
        >>> model, x = nn.Linear(4, 2), torch.randn(8, 4)
        >>> optimizer = Lookbehind(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON(rho=0.1), k=2, alpha=0.5)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(x).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)

    Reference: Mordido, Malviya, Baratin, Chandar 2024, arXiv 2307.16704, algorithm 1.
    """

    def __init__(
        self,
        base: Optimizer,
        rule: AscentRule,
        k: int = 2,
        alpha: float | str = 0.5,
        *,
        model: nn.Module | None = None,
        hold: str = "*",
        measure: bool = False,
        compiled: bool = False,
    ) -> None:
        require_ascent(rule)
        require_whole(1, k=k)
        fits = alpha == ADAPTIVE or (is_number(alpha) and 0 <= float(alpha) <= 1)
        require(fits, "alpha", f"be between 0 and 1, or {ADAPTIVE!r}", alpha)
        self.k, self.alpha = k, alpha
        super().__init__(base, rule, model, hold=hold, measure=measure, compiled=compiled)
        if self._goes_through_range():
            raise ValueError("`through_range` must be False in Lookbehind, which climbs several times. Leave it out.")

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"k": self.k, "alpha": self.alpha}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        If the closure raises, the weights are those from before the step.

        Args:
            closure: Clears the gradients, computes the loss, calls `backward()` and returns the loss. None is
                allowed only with a learning rate of 0, as distributed checkpointing does to make the state.

        Returns:
            The closure's clean loss.

        Raises:
            RuntimeError: Without a closure, or if it leaves no gradient.
        """
        self._refuse_scaled_gradients(closure)
        if closure is None:
            if not rates_are_zero(self.base):
                raise RuntimeError("Lookbehind needs several passes: call `step(closure)`.")
            self.base.step()
            return None
        self._refuse_what_cannot_work()
        run = torch.enable_grad()(closure)
        with self._repeated():
            with self._first_pass():
                loss = run()
            every = [p for group in self.base.param_groups for p in group["params"]]
            parameters = [p for p in every if p.requires_grad or p.grad is not None]
            weights = [local(p) for p in parameters]
            slow = [w.detach().clone() for w in weights]
            try:
                perturbed, first = self._fast_steps(run, parameters, weights, slow)
                self._follow(parameters, weights, slow, first)
            except BaseException:
                with torch.no_grad():
                    torch._foreach_copy_(weights, slow)
                self._weights_changed(self.model)
                raise
        self._weights_changed(self.model)
        self._note_losses(loss, perturbed)
        self._scaler_steps = False
        return loss

    def _fast_steps(
        self, run: Callable[[], Any], parameters: list[Tensor], weights: list[Tensor], slow: list[Tensor]
    ) -> tuple[Any, list[Tensor]]:
        """The k ascents and descents; leaves φ in the weights, gives the last perturbed loss and the first φ."""
        fast = first = slow
        loss: Any = None
        direction: Direction = gradient
        for i in range(self.k):
            parts = self._weights.parts(direction, self.model, compiled=self.compiled)
            self._require_parts(parts, "The closure must call `loss.backward()`.")
            self._ascend(parts, self.model)
            with self._perturbed_pass(self.model):
                loss = run()
                self._require_gradient()
            with torch.no_grad():
                climbed = [w.clone() for w in weights] if i + 1 < self.k else []
                torch._foreach_copy_(weights, fast)
            with stepped_with(self.base, i + 1 < self.k) as gradients:
                self.base.step()
            if i + 1 < self.k:
                direction = gradients.get
                fast = [w.detach().clone() for w in weights]
                first = fast if i == 0 else first
                with torch.no_grad():
                    torch._foreach_copy_(weights, climbed)
        return loss, first if self.k > 1 else [w.detach() for w in weights]

    @torch.no_grad()
    def _follow(self, parameters: list[Tensor], weights: list[Tensor], slow: list[Tensor], first: list[Tensor]) -> None:
        """Move the weights: w ← w + α·(φ − w)."""
        if self.alpha == 1:
            return
        for p, w, s, f in zip(parameters, weights, slow, first, strict=True):
            share: Any = self.alpha
            if share == ADAPTIVE:
                share = _towards(_between(s, f), _between(s, w), process_groups(p))
            w.sub_(_bounded(s)).mul_(share).add_(s)


def _between(start: Tensor, end: Tensor) -> Tensor:
    """A displacement; 0 where an infinite entry (of a mask that is learned) stays what it is."""
    return _bounded(end).sub_(_bounded(start))


def _bounded(values: Tensor) -> Tensor:
    """A copy with the largest numbers in place of infinities: a difference of these would be NaN."""
    return values.nan_to_num(math.nan)


def _towards(step: Tensor, way: Tensor, groups: ProcessGroups) -> Tensor:
    """(cos + 1) / 2 of the angle between two displacements of one tensor; 1 where there is none."""
    step, way = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (step, way))
    products = torch.stack([(a.conj() * b).real.sum() for a, b in ((step, way), (step, step), (way, way))])
    dot, first, second = over_all(products, 1, groups).unbind()
    cosine = dot / (first.sqrt() * second.sqrt())
    return torch.where(cosine.isfinite(), (cosine.clamp(max=1) + 1) / 2, 1.0)
