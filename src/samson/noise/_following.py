"""Where the outputs of layers go: which of them nothing but given layers read, channel by channel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from samson._interrupts import uninterrupted
from samson._select import plain_name
from samson.noise._forward import computes_as_torch
from samson.noise._operations import Operation, operation_of
from samson.noise._random import working_dtype
from samson.noise._watching import require_numbers

_ELEMENTWISE = {
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "to", "float", "half", "bfloat16", "double"),
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "contiguous", "clone", "detach"),
}
"""Functions f of each number with f(s·x) = s·f(x) for s > 0."""
_RESHAPES = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"}
_POOLS = {f"{kind}_pool{d}d": d for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for d in (1, 2, 3)}
"""Functions with f(s·x) = s·f(x), and over how many of the last axes they go."""
_QUESTIONS = {"__get__", "size", "dim", "numel", "stride", "__len__", "is_contiguous", "is_floating_point"}
"""Functions that tell nothing of a tensor's numbers where they give no tensor."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """Weights with a scale for each channel of what comes out.

    Args:
        name: The weight's name.
        weight: The weight; of one axis where there is no operation.
        bias: What is added to each channel.
        operation: Of a linear or convolution layer, which has a scale for each channel of what comes in as well.
        axis: The channels' axis of input and output.
    """

    name: str
    weight: Tensor
    bias: Tensor | None = None
    operation: Operation | None = None
    axis: int = -1

    def axis_of(self, tensor: Tensor) -> int:
        """The channels' axis of an input or output, from the end."""
        return self.axis if self.axis < 0 else self.axis - tensor.ndim


class Following(TorchFunctionMode):
    """Follow outputs, as objects, through the functions of torch while a model runs; use inside `hooked`.

    A known layer is a norm, linear or convolution layer of torch that computes as torch's, with a plain weight and bias
    that nothing else holds, and without hooks. Besides, weights of one axis are followed where they multiply anything
    along its last axis.

    Args:
        model: The model.
        may_read: The layers to which outputs may go.

    Attributes:
        largest: The largest |x| of each channel that the layers read, by whose output it is.
    """

    def __init__(self, model: nn.Module, may_read: set[nn.Module]) -> None:
        super().__init__()
        self.layers, factors = _scaled(model)
        self.largest: dict[Scaled, Tensor] = {}
        every = (*self.layers.values(), *factors)
        self._holders = {_memory(p): one for one in every for p in (one.weight, one.bias) if p is not None}
        self._may_read = {self.layers[module] for module in may_read if module in self.layers}
        self._made: Any = WeakTensorKeyDictionary()  # whose output a tensor is, and its axis of channels
        self._sources: dict[Scaled, set[Scaled | None]] = {}
        self._lost: set[Scaled | None] = set()  # whose output something else takes
        self._touched: set[Scaled] = set()  # whose weight or bias something else takes
        self._within = False

    @property
    def readers(self) -> dict[Scaled, list[Scaled]]:
        """By whose output it is, the layers that read it, if they read nothing else and nothing else reads it."""
        bad = {None, *self._lost, *self._touched}
        for reader, sources in self._sources.items():
            bad |= sources if len(sources) > 1 or reader in self._touched else set()
        found: dict[Scaled, list[Scaled]] = {}
        for reader, [source, *_] in self._sources.items():
            if source is not None and source in self.largest and source not in bad:
                found.setdefault(source, []).append(reader)
        return found

    @uninterrupted
    def hooked(self) -> Iterator[None]:
        """Let the known layers tell when they are called, until the block ends."""
        with ExitStack() as stack:
            for module in self.layers:
                stack.enter_context(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                stack.enter_context(module.register_forward_hook(self._leave, with_kwargs=True))
            yield

    def returned(self, outputs: Sequence[Tensor]) -> None:
        """Tensors that leave the model."""
        self._lost |= {self._made[one][0] for one in outputs if one in self._made}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if not self._within and (name not in _QUESTIONS or tensors_in(result)):
            taken = tensors_in((args, kwargs))
            for one in taken:
                self._take(name, one, result, alone=len({id(other) for other in taken}) == 1)
        return result

    def _take(self, name: str, one: Tensor, result: Any, *, alone: bool) -> None:
        """A function outside of known layers takes a tensor."""
        if (made := self._made.get(one)) is not None:
            axis = _axis_after(name, one, result, made[1]) if alone else None
            if axis is None:
                self._lost.add(made[0])
            else:
                self._made[result] = made[0], axis
        if (holder := self._holders.get(_memory(one))) is not None:
            along_last = one.ndim == 1 and isinstance(result, Tensor) and result.shape[-1:] == one.shape
            if name == "mul" and one is holder.weight and along_last and not alone:
                self._made[result] = holder, -1
            else:
                self._touched.add(holder)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._within, layer = True, self.layers[module]
        [inputs, *_] = (*args, *keywords.values())
        source, axis = self._made.get(inputs) or (None, None)
        reads = layer in self._may_read and axis == layer.axis_of(inputs)
        self._sources.setdefault(layer, set()).add(source if reads else None)
        if not reads:
            self._lost.add(source)
        elif source is not None and inputs.numel():
            require_numbers(layer.name.removesuffix(".weight"), inputs)
            largest = inputs.abs().movedim(axis, 0).flatten(1).amax(dim=1).to(working_dtype(inputs))
            self.largest[source] = torch.maximum(largest, self.largest.get(source, largest))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
        self._within, layer = False, self.layers[module]
        self._made[output] = layer, layer.axis_of(output)


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts of anything."""
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]


def _axis_after(name: str, one: Tensor, result: Any, axis: int) -> int | None:
    """The axis of channels in what a function makes of a tensor; None if channels or their scales are lost."""
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return None
    if name in _ELEMENTWISE or -axis > _POOLS.get(name, math.inf) or (name in _RESHAPES and result.shape == one.shape):
        return axis
    channels = one.shape[axis:]
    kept = name in _RESHAPES and channels.numel() == channels[0] and result.shape[-1:] == channels[:1]
    return -1 if kept else None


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _scaled(model: nn.Module) -> tuple[dict[nn.Module, Scaled], list[Scaled]]:
    """The known layers, and weights of one axis that may be found to multiply activations."""
    tensors = (t for module in model.modules() for t in (*module._parameters.values(), *module._buffers.values()))
    held = Counter(_memory(tensor) for tensor in tensors if tensor is not None)
    layers, factors = {}, []
    for path, module in model.named_modules():
        own = {name: p for name, p in module._parameters.items() if p is not None and held[_memory(p)] == 1}
        weight, axis = own.get("weight"), _axis_of(module)
        computed = parametrize.is_parametrized(module)  # and to look at a weight would compute it
        plain = not computed and all(own.get(name) is getattr(module, name, None) for name in ("weight", "bias"))
        hooks = module._forward_hooks or module._forward_pre_hooks
        if weight is not None and axis and plain and not hooks and computes_as_torch(module):
            name = plain_name(f"{path}.weight")
            layers[module] = Scaled(name, weight, own.get("bias"), operation_of(module), axis)
        else:
            factors += [Scaled(plain_name(f"{path}.{name}"), p) for name, p in own.items() if p.ndim == 1]
    return layers, factors


def _axis_of(module: nn.Module) -> int | None:
    """The axis of channels of a layer's input and output; None for an unknown layer."""
    match module:
        case nn.LayerNorm() | nn.RMSNorm():
            return -1 if len(module.normalized_shape) == 1 else None
        case _BatchNorm() | nn.GroupNorm():
            return 1
    operation = operation_of(module)
    return None if operation is None else -1 - len(operation.kernel)
