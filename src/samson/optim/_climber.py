"""What every optimizer that perturbs weights shares: the climb, and what is around a pass at perturbed weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from samson._interrupts import interruptible, uninterrupted
from samson._names import counted
from samson.optim._ascent import Ascent, Climb, Part, climb
from samson.optim._chip import each, unknown_share
from samson.optim._compiled import compiled_climb
from samson.optim._passes import Passes, clear_gradients, watched
from samson.optim._ruled import RuledOptimizer
from samson.optim.rules import AscentRule, Rule


class Climber(RuledOptimizer):
    """The part of a sharpness-aware optimizer that moves weights to w + ε.

    Args:
        base: This and the others as for `SharpnessAware`.
    """

    last_ascent: Ascent | None
    """The last perturbation; None before the first."""

    skipped_ascents: Tensor | None
    """How often the gradient norm was not finite, so that ε was 0: a tensor without axes; None before the first."""

    def __init__(
        self, base: Optimizer, rule: Rule, model: nn.Module | None, *, hold: str, measure: bool, compiled: bool
    ) -> None:
        self.hold, self.measure, self.compiled = hold, measure, compiled  # before `_start`
        super().__init__(base, rule, model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"hold": self.hold, "measure": self.measure, "compiled": self.compiled}

    def _start(self) -> None:
        self.last_ascent = self.skipped_ascents = None
        self._climb: Climb = compiled_climb() if self.compiled else climb
        self._looked = False
        self._passes = Passes()
        super()._start()

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

    @interruptible
    def _ascend(self, parts: list[Part], model: nn.Module | None) -> None:
        """Move the weights of the parts; their directions are used up."""
        norm, epsilon_norm = self._climb(parts, self.measure)
        for part in parts:
            part.directions.clear()  # or the gradients would lie in memory until the second pass is over
        bad = norm.isfinite().logical_not()
        self.skipped_ascents = bad.long() if self.skipped_ascents is None else self.skipped_ascents.to(bad.device) + bad
        self.last_ascent = Ascent(norm, epsilon_norm)
        self._weights_changed(model)

    def _weights_changed(self, model: nn.Module | None) -> None:
        torch.clear_autocast_cache()
        self._weights.reshard(model)

    def _repeated(self) -> AbstractContextManager[None]:
        """A block for the passes of a closure: each begins with the buffers that the first one saw."""
        return self._passes.repeated(self._known(None), self.hold)

    @uninterrupted
    def _perturbed_pass(self, model: nn.Module | None, *, is_second: bool = True) -> Iterator[None]:
        """A block for passes at perturbed weights, which leave buffers and frozen weights as they are.

        Args:
            model: A model that runs in it, beside the known one.
            is_second: Whether a pass came before it, whose gradients are cleared and whose buffers stay.
        """
        known = self._known(model)
        held: AbstractContextManager[None] = nullcontext()
        if is_second:
            if model is None:
                self._warn_once(
                    "no model is known, so running statistics of norm layers also see the perturbed pass. Make the "
                    f"base optimizer with `samson.param_groups(model)`, or pass `model=` to {type(self).__name__}."
                )
            held = self._passes.held(known, self.hold)
        elsewhere = self._weights.is_held_elsewhere
        with held, self._passes.frozen(known, self.hold, elsewhere):
            if is_second:
                clear_gradients(self.base, known, elsewhere)
            yield

    @_disable_dynamo
    def _known(self, model: nn.Module | None) -> list[nn.Module]:
        """The known models, and this one."""
        return each(dict.fromkeys((self.model, model)))

    def _note_losses(self, clean: Any, perturbed: Any) -> None:
        """Put the losses of both passes in `last_ascent`."""
        if self.last_ascent is not None:
            self.last_ascent.clean_loss, self.last_ascent.perturbed_loss = (
                loss.detach() if isinstance(loss, Tensor) else loss for loss in (clean, perturbed)
            )
