"""Where a layer takes a weight from, and how a chip's weight is put there and taken out again bitwise.

No hooks: a compiled model does not notice hooks that come later, and fused paths of attention pass them by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samson._modes import evaluation_mode
from samson.noise._random import exactly


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
    def weight(self) -> Tensor:
        """The weight with which the layer computes in evaluation mode, detached: here the parameter."""
        return _parameter(*self.users[0]).detach()

    @abstractmethod
    def holding(self, value: Tensor) -> AbstractContextManager[None]:
        """Let the layer compute with another weight until the block ends."""


class Stored(Place):
    """A parameter that only layers on the chip use: the value is written into it."""

    @contextmanager
    def holding(self, value: Tensor) -> Iterator[None]:
        """Write the value, and the parameter's own bits at the end."""
        clean = self.weight.clone()
        try:
            self.weight.copy_(value)
            del value
            yield
        finally:
            self.weight.copy_(clean)  # the block may have moved the model


class Alone(Place):
    """A parameter that digital layers use as well: only the layers on the chip get another one."""

    def holding(self, value: Tensor) -> AbstractContextManager[None]:
        """Give the layers a parameter with the value."""
        own = _like(_parameter(*self.users[0]), value)
        return _exchanged((module, name, own) for module, name in self.users)


class Computed(Place):
    """A weight computed at each forward pass (`torch.nn.utils.parametrize`): the chip's is one more step, the last.

    The parametrisation and its parameters stay as they are. Inside the block they get no gradient.
    """

    @property
    def weight(self) -> Tensor:
        """The weight as computed in evaluation mode, so that spectral norms and the like keep their state."""
        steps = self._steps
        device = next(chain(steps.parameters(), steps.buffers())).device
        with evaluation_mode(steps), torch.no_grad(), exactly(device):
            return cast("Tensor", steps()).detach()

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
        key, step = str(len(steps)), _ChipWeight(value)
        try:
            steps.append(step)
            yield
        finally:
            steps._modules.pop(key, None)  # `del steps[-1]` makes a new dictionary: a compilation more

    @property
    def _steps(self) -> nn.ModuleList:
        module, name = self.modules[0], self.attribute
        if not parametrize.is_parametrized(module, name):
            raise _changed(module, name)
        return cast("nn.ModuleList", cast("nn.ModuleDict", module.parametrizations)[name])


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

    def holding(self, value: Tensor) -> AbstractContextManager[None]:
        """Exchange original, mask and product; attention reads the product without running the layer."""
        module, name = self.modules[0], self.attribute
        original, mask = self._inputs()
        own = _like(original, value)
        new = {f"{name}_orig": own, f"{name}_mask": torch.ones_like(mask), name: own.detach()}
        return _exchanged((module, key, tensor) for key, tensor in new.items())

    def _inputs(self) -> tuple[nn.Parameter, Tensor]:
        module = self.modules[0]
        return _parameter(module, f"{self.attribute}_orig"), cast("Tensor", module._buffers[f"{self.attribute}_mask"])


@contextmanager
def _exchanged(new: Iterable[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Give attributes of modules other tensors until the block ends; then they get back the same objects as before.

    Where the block has moved the model, these are moved as well.
    """
    new = list(new)
    old = [(module, name, getattr(module, name)) for module, name, _ in new]
    try:
        for module, name, tensor in new:
            setattr(module, name, tensor)
        yield
    finally:
        for module, name, tensor in old:
            now = getattr(module, name)
            if (now.device, now.dtype) != (tensor.device, tensor.dtype):
                tensor.data = tensor.data.to(now)
            setattr(module, name, tensor)


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    found = module._parameters.get(name)
    if found is None:
        raise _changed(module, name.removesuffix("_orig"))
    return found


def _changed(module: nn.Module, name: str) -> RuntimeError:
    kind = type(module).__name__.removeprefix("Parametrized")
    return RuntimeError(
        f"`{name}` of this {kind} was pruned, parametrised or made plain after `deploy`. Deploy the model as it is now."
    )


def _like(parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    """A new parameter with a value, which a compiled model cannot tell from the old one."""
    return nn.Parameter(torch.empty_like(parameter).copy_(value), requires_grad=parameter.requires_grad)
