"""An optimizer that wraps another and shares its groups, state and defaults instead of having its own."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from samson.optim.scaler import ScalerWatch


class OptimizerWrapper(Optimizer):
    """A `torch.optim.Optimizer` whose `param_groups`, `state` and `defaults` are the base optimizer's own objects.

    There is one of each at any time, so a scheduler or a checkpoint may hold either optimizer.

    Args:
        base: The optimizer that makes the step.

    Raises:
        TypeError: If `base` is no optimizer, a wrapper itself, or one whose step needs a closure.
    """

    def __init__(self, base: Optimizer) -> None:
        if not isinstance(base, Optimizer) or isinstance(base, (OptimizerWrapper, torch.optim.LBFGS)):
            raise TypeError(
                "`base` must be a torch optimizer whose step needs no closure (not LBFGS, not a wrapper), got "
                f"{type(base).__name__}. Pass for example `torch.optim.SGD(...)`."
            )
        self.base = base
        self._scaler_watch = ScalerWatch()
        # Torch's hooks and profiling; Optimizer.__init__ would make a second copy of the groups.
        super().__setstate__({})

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups."""
        self._scaler_watch.groups_are_read()
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        self.base.state = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's defaults."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base.defaults = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, through the base optimizer."""
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state, in torch's own format."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer or of a bare base; a setting that a bare one lacks keeps its value."""
        present = [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]
        self.base.load_state_dict(state_dict)
        for group, values in zip(self.param_groups, present, strict=True):
            for key, value in values.items():
                group.setdefault(key, value)
