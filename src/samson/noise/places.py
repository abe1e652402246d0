"""Where a layer takes a weight from, and how a chip's weight is put there and taken out again bitwise.

No hooks: a compiled model does not notice hooks that come later, and fused paths of attention pass them by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Place(ABC):
    """One weight of one layer, or of several layers that share it.

    Args:
        users: Layer and attribute that holds the weight, one pair for each layer on the chip.
        note: Why the weight is not simply written, for `describe`; empty if it is.

    Attributes:
        modules: The layers, which may not lie on two chips at once.
        attribute: Name of the first layer's attribute.
    """

    def __init__(self, users: Sequence[tuple[nn.Module, str]], note: str = "") -> None:
        self.users, self.note = list(users), note
        self.modules, self.attribute = [module for module, _ in users], users[0][1]

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The weight with which the layer computes in evaluation mode, detached."""

    @abstractmethod
    def holding(self, value: Tensor) -> AbstractContextManager[None]:
        """Let the layer compute with another weight until the block ends."""


class Stored(Place):
    """A parameter that only layers on the chip use: the value is written into it."""

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        return _parameter(self.modules[0], self.attribute).detach()

    @contextmanager
    def holding(self, value: Tensor) -> Iterator[None]:
        """Write the value, and the parameter's own bits at the end."""
        parameter = self.weight
        clean = parameter.clone()
        try:
            parameter.copy_(value)
            yield
        finally:
            parameter.copy_(clean)


class Alone(Place):
    """A parameter that digital layers use as well: only the layers on the chip get another one."""

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        return _parameter(*self.users[0]).detach()

    @contextmanager
    def holding(self, value: Tensor) -> Iterator[None]:
        """Give the layers a parameter with the value; they get back the same object as before."""
        kept = [(module, name, _parameter(module, name)) for module, name in self.users]
        own = _like(kept[0][2], value)
        try:
            for module, name, _ in kept:
                setattr(module, name, own)
            yield
        finally:
            for module, name, parameter in kept:
                setattr(module, name, parameter)


class Computed(Place):
    """A weight computed at each forward pass (`torch.nn.utils.parametrize`): the chip's is one more step, the last.

    The parametrisation and its parameters stay as they are. Inside the block they get no gradient.
    """

    @property
    def weight(self) -> Tensor:
        """The weight as computed in evaluation mode, so that spectral norms and the like keep their state."""
        steps = self._steps
        training = [module for module in steps.modules() if module.training]
        try:
            steps.eval()
            with torch.no_grad():
                return cast("Tensor", steps()).detach()
        finally:
            for module in training:
                module.training = True

    @contextmanager
    def holding(self, value: Tensor) -> Iterator[None]:
        """Append the step, and take it away at the end.

        Raises:
            RuntimeError: Inside `parametrize.cached()`, where layers would go on with the cached weight.
        """
        if parametrize._cache_enabled:
            raise RuntimeError(
                "A chip cannot be entered inside `torch.nn.utils.parametrize.cached()`: layers would go on with the "
                "cached weights. Enter `cached()` inside the chip's block."
            )
        steps = self._steps
        key = str(len(steps))
        steps.append(_ChipWeight(value))
        try:
            yield
        finally:
            del steps._modules[key]  # `del steps[-1]` makes a new dictionary: a compilation more

    @property
    def _steps(self) -> nn.ModuleList:
        return cast("nn.ModuleList", cast("nn.ModuleDict", self.modules[0].parametrizations)[self.attribute])


class _ChipWeight(nn.Module):
    """A step of a parametrisation that forgets what was computed before."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(self, computed: Tensor) -> Tensor:
        return cast("Tensor", self.value)


class Masked(Place):
    """A pruned weight (`torch.nn.utils.prune`), computed as original × mask before each forward pass.

    The chip's value is given as the original with a mask of ones: devices programmed to zero have noise too.
    """

    @property
    def weight(self) -> Tensor:
        """Original × mask."""
        original, mask = self._inputs()
        return original.detach() * mask.to(original.dtype)

    @contextmanager
    def holding(self, value: Tensor) -> Iterator[None]:
        """Exchange original, mask and product; the layer gets back the same objects as before."""
        module, name = self.modules[0], self.attribute
        original, mask = self._inputs()
        kept = {name: getattr(module, name), f"{name}_mask": mask, f"{name}_orig": original}
        own = _like(original, value)
        try:
            setattr(module, f"{name}_orig", own)
            setattr(module, f"{name}_mask", torch.ones_like(mask))
            setattr(module, name, own.detach())  # for what reads the weight without running the layer: attention
            yield
        finally:
            for key, tensor in kept.items():
                setattr(module, key, tensor)

    def _inputs(self) -> tuple[nn.Parameter, Tensor]:
        module = self.modules[0]
        return _parameter(module, f"{self.attribute}_orig"), cast("Tensor", module._buffers[f"{self.attribute}_mask"])


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    return cast("nn.Parameter", module._parameters[name])


def _like(parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    """A new parameter with a value, which a compiled model cannot tell from the old one."""
    return nn.Parameter(torch.empty_like(parameter).copy_(value), requires_grad=parameter.requires_grad)
