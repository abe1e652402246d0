"""An optimizer that wraps another and shares its groups, state and defaults instead of having its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch.optim import Optimizer

P = ParamSpec("P")
T = TypeVar("T")


def _of_base(name: str) -> Any:
    """An attribute that is the base optimizer's own."""
    return property(lambda self: getattr(self.base, name), lambda self, value: setattr(self.base, name, value))


def inside(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Let a method work on the optimizer inside, where Lightning (Fabric too) has put this class on a shell.

    What is set on the shell, such as `rule`, does not reach it.
    """

    @wraps(method)
    def called(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self if "base" in vars(self) else self.optimizer, *args, **kwargs)

    return called


class OptimizerWrapper(Optimizer):
    """A `torch.optim.Optimizer` whose `param_groups`, `state` and `defaults` are the base optimizer's own objects.

    There is one of each at any time, so a scheduler or a checkpoint may hold either optimizer.

    Args:
        base: The optimizer that makes the step.

    Raises:
        TypeError: If `base` is no optimizer, a wrapper itself, one whose step needs a closure, or one that leaves its
            state to another.
    """

    def __init__(self, base: Optimizer) -> None:
        fits = isinstance(base, Optimizer) and hasattr(base, "defaults")  # PostLocalSGDOptimizer has none
        if not fits or isinstance(base, (OptimizerWrapper, torch.optim.LBFGS)):
            raise TypeError(
                "`base` must be a torch optimizer whose step needs no closure (not LBFGS, not a wrapper), got "
                f"{type(base).__name__}. Pass for example `torch.optim.SGD(...)`."
            )
        inner = getattr(base, "_base_optimizer", None) or base  # of timm's Lookahead
        if inner.state is not base.state:
            raise TypeError(
                f"`base` must keep its state itself, and {type(base).__name__} leaves it to a "
                f"{type(inner).__name__}. Wrap that one, and put {type(base).__name__} around: "
                f"{type(base).__name__}(SharpnessAware(inner, rule))."
            )
        self.base = base
        self._scaler_steps = False  # a GradScaler is about to step
        self._groups_read = True  # since the end of `perturbed`, as a GradScaler does to unscale
        # Torch's hooks and profiling; Optimizer.__init__ would make a second copy of the groups.
        super().__setstate__({})

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups."""
        self._groups_read = True
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base.param_groups = value

    state = _of_base("state")
    defaults = _of_base("defaults")

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """False: the scaler unscales, whatever a fused base could do. An enabled GradScaler asks right before it steps.

        That is how the wrapper learns that a scaler is at work.
        """
        self._scaler_steps = True
        return False

    def _refuse_scaled_gradients(self, closure: Callable[[], Any] | None) -> None:
        """Refuse to step with gradients that a GradScaler has not unscaled.

        That it has not is known from `param_groups`, which it would have read since the block. Whoever else reads them
        there, to log the learning rate for example, hides it.

        Raises:
            RuntimeError: If a scaler steps and gives a closure, or unscaled before the second pass.
        """
        at_work, self._scaler_steps = self._scaler_steps, False
        if at_work and (closure is not None or not self._groups_read):
            raise RuntimeError(
                "The gradients of the first pass are unscaled already, so the scaler would step with scaled ones of "
                "the second. Call `scaler.unscale_(optimizer)` only after the `with optimizer.perturbed(model)` "
                "block, and give no closure to `scaler.step`."
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, through the base optimizer."""
        self.base.zero_grad(set_to_none)

    def train(self) -> None:
        """Put a base that has modes (schedule-free ones do) in training mode."""
        getattr(self.base, "train", lambda: None)()

    def eval(self) -> None:
        """Put a base that has modes (schedule-free ones do) in evaluation mode."""
        getattr(self.base, "eval", lambda: None)()

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, in torch's own format."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self.base.state_dict()
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer or of a bare base."""
        state_dict = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._load(state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _load(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
