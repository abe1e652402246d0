"""Whether a layer computes with its weight as it is: the weight that a chip would hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from samson._layers import inputs_first

_KNOWN = (
    *(nn.Linear, _ConvNd, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
    *(nn.Embedding, nn.EmbeddingBag),
)
_METHODS = ("forward", "_conv_forward")
_PRODUCTS = {
    *("linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("multi_head_attention_forward", "_native_multi_head_attention", "embedding", "embedding_bag"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
}
_CASTS = {"to", "float", "half", "bfloat16", "double", "type", "type_as", "contiguous", "clone"}


def computes_as_torch(layer: nn.Module) -> bool:
    """Whether a layer's output is that of torch's own class, or that of a linear layer of another library."""
    if inputs_first(layer) is not None:
        return True
    base = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.modules"))
    same = all(getattr(type(layer), name, None) is getattr(base, name, None) for name in _METHODS)
    return same and not any(name in vars(layer) for name in _METHODS)


def computes_with(layer: nn.Module, attribute: str) -> bool:
    """Whether a layer multiplies its inputs by a weight as it is, and does nothing else with it.

    A copy of a layer that is of torch's type but with a `forward` of its own is run on one small input, in evaluation
    mode. The weight, its views and casts may go into products alone: what standardises or quantises it is found. A
    layer that cannot be run so counts as one that changes it.
    """
    if not isinstance(layer, _KNOWN) or computes_as_torch(layer):
        return True
    computed = {id(value): value for value in vars(layer).values() if isinstance(value, Tensor)}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), parametrize.cached():
            twin: Any = copy.deepcopy(layer, computed).eval()
            weight = getattr(twin, attribute)
            inputs = _small_inputs(twin, weight)
            with _Watch(weight, getattr(layer, attribute)) as watch:
                twin.forward(*inputs)
    except Exception:  # whatever a layer of one's own may raise
        return False
    return watch.used and not watch.changed


class _Watch(TorchFunctionMode):
    """Follow a weight through the functions of torch."""

    def __init__(self, *weight: Tensor) -> None:
        super().__init__()
        self.known, self.used, self.changed = list(weight), False, False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        taken = [one for one in tree_leaves((args, kwargs)) if any(one is known for known in self.known)]
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if taken and made:
            name, memory = func.__name__, taken[0].untyped_storage().data_ptr()
            views = all(one.untyped_storage().data_ptr() == memory for one in made)
            in_place = name.endswith("_") and not name.endswith("__")
            if name in _PRODUCTS:
                self.used = True
            elif name in _CASTS or (views and not in_place):
                self.known += made
            else:
                self.changed = True
        return result


def _small_inputs(layer: nn.Module, weight: Tensor) -> tuple[Tensor, ...]:
    """One small input of a layer of a known type."""
    shapes: list[tuple[int, ...]]
    match layer:
        case nn.MultiheadAttention():
            shapes = [(1, 1, layer.embed_dim), (1, 1, layer.kdim), (1, 1, layer.vdim)]
        case nn.RNNBase():
            shapes = [(1, 1, layer.input_size)]
        case nn.RNNCellBase():
            shapes = [(1, layer.input_size)]
        case _ConvNd():
            sizes = (d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
            shapes = [(1, layer.in_channels, *sizes)]
        case nn.Bilinear():
            shapes = [(1, layer.in1_features), (1, layer.in2_features)]
        case nn.Embedding() | nn.EmbeddingBag():
            return (torch.zeros(1, 1, dtype=torch.long, device=weight.device),)
        case _:  # nn.Linear
            shapes = [(1, weight.shape[-1])]
    return tuple(weight.new_ones(shape) for shape in shapes)
