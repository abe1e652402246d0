"""How much of a model's computing lies on a chip: multiply-adds, counted while a batch runs through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from samson._batches import Batch, Examples, batches_of
from samson._layers import is_compiled
from samson._modes import evaluation_mode
from samson._select import Select
from samson.noise._chip import deploy
from samson.noise._gaussian import Gaussian

_ATEN = torch.ops.aten
_SPARSE = torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc
_LOOK_UPS = (
    *(_ATEN.embedding, _ATEN._embedding_bag, _ATEN._embedding_bag_forward_only),
    *(_ATEN.index, _ATEN.index_select, _ATEN.gather),
)
_ATTENTION = (
    *(_ATEN._scaled_dot_product_flash_attention, _ATEN._scaled_dot_product_flash_attention_for_cpu),
    *(_ATEN._scaled_dot_product_efficient_attention, _ATEN._scaled_dot_product_cudnn_attention),
)
_RECURRENT: dict[Any, Callable[[Any], list[Tensor]]] = {
    _ATEN.mkldnn_rnn_layer: lambda args: list(args[1:3]),
    _ATEN._cudnn_rnn: lambda args: [weight for weight in args[1] if weight.ndim == 2],
}
"""Recurrent layers in one operation, and their matrices, each of which is used once a step."""
_UNLISTED: dict[Any, Callable[[Any], int]] = {
    _ATEN.mv: lambda args: args[0].numel(),
    _ATEN.addmv: lambda args: args[1].numel(),
    _ATEN._trilinear: lambda args: len(args[0]) * args[1].numel(),
    _ATEN._int_mm: lambda args: len(args[0]) * args[1].numel(),
    getattr(_ATEN, "_grouped_mm", None): lambda args: args[0].numel() * args[1].shape[-1],
    **dict.fromkeys(_ATTENTION, lambda args: args[0].shape[:-1].numel() * _each_query(*args[1:3])),
}
"""Products that torch does not count: a matrix with one vector, bilinear layers, whole numbers, experts (since torch
2.8), and attention whose queries have more heads than keys and values (torch 2.6)."""


@dataclass(frozen=True)
class Products:
    """Multiply-adds of a batch.

    Args:
        on_chip: Number of those with weights on the chip.
        total: Number of all, > 0.
    """

    on_chip: int
    total: int

    @property
    def share(self) -> float:
        """The fraction on the chip, from 0 to 1."""
        return self.on_chip / self.total


@torch.no_grad()
def multiply_adds(
    model: nn.Module, batches: Examples, select: Select = None, *, forward: Callable[..., Any] | None = None
) -> Products | None:
    """Count the multiply-adds of a model, and those that are products with weights on the chip.

    Products of matrices, convolutions and attention count; sums, look-ups and what is done to single numbers do not,
    nor do products of sparse matrices, which are sums over neighbours, or what a parametrisation computes. What a layer
    makes of its weight before the product, of the same shape (rounded, scaled, masked), is that weight.

    Args:
        model: Any model; it runs once, in evaluation mode; weights and modes come back as they were.
        batches: Data, of which the first batch is run; targets are left out.
        select: Which layers lie on the chip (see `on_chip`).
        forward: What is called instead of the model.

    Returns:
        Both numbers, for the whole batch; None for a model that is compiled or sharded, in which products are not seen,
        that makes none, or where a weight on the chip is multiplied in another shape (padded, joined) alone, and where
        torch cannot count (`torch.cond`, `flex_attention`, nested tensors).

    Raises:
        ValueError: If nothing would lie on the chip (see `on_chip`), or there is no batch.

    Example:
        >>> multiply_adds(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 6)), [torch.ones(4, 2)], "0")
        Products(on_chip=24, total=96)
    """
    sharded = any(hasattr(parameter, "_local_tensor") for parameter in model.parameters())
    if sharded or any(map(is_compiled, model.modules())):
        return None
    chip = deploy(model, Gaussian(0.0), select=select, keep=False)
    first = next(iter(batches_of(batches)), None)
    if first is None:
        raise ValueError("`batches` must hold at least one batch, got none.")
    batch = Batch.of(first).to(chip.tensors[0].weight.device)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its products are not seen
    run = model if forward is None else forward
    compiles = "torch._dynamo" in sys.modules  # to import it takes seconds
    try:
        with evaluation_mode(model), chip.at(), parametrize.cached():
            for module in filter(parametrize.is_parametrized, model.modules()):
                for name in cast("nn.ModuleDict", module.parametrizations):
                    with suppress(Exception):  # of a layer that may have no part in the pass
                        getattr(module, name)  # computed once, before the count
            counting = _Counting()
            for t in chip.tensors:
                if t.weight.numel():
                    whole = getattr(t.place.modules[0], t.place.attribute)
                    weight = counting.weight_in(whole) or counting.hold(whole, _Weight())
                    weight.share += t.weight.numel() / whole.numel()
            counted = False
            with suppress(RuntimeError):
                with torch.compiler.set_stance("force_eager") if compiles else nullcontext(), counting:
                    run(*batch.inputs, **batch.keywords)
                counted = True
            if not counted:
                if not compiles and "torch._dynamo" in sys.modules:
                    torch._dynamo.reset()  # loaded while this was counted, it would refuse such operations from now on
                run(*batch.inputs, **batch.keywords)  # the model's own errors are heard
                return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    if not counting.all or any(weight.lost and not weight.multiplied for weight in counting.weights):
        return None
    return Products(round(counting.on_chip), round(counting.all))


@dataclass(eq=False)
class _Weight:
    """What is known of a weight.

    Args:
        share: How much of it lies on the chip, from 0 to 1.
        multiplied: Whether it was in a product.
        lost: Whether something was made of it that may be multiplied in its place.
    """

    share: float = 0.0
    multiplied: bool = False
    lost: bool = False


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds: all, and those with weights that it was told to hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_chip, self.all, self.weights = 0.0, 0.0, set[_Weight]()
        # By storage, which recurrent layers share on a GPU; another tensor may be laid where one was freed.
        self._held: dict[int, list[tuple[range, _Weight, StorageWeakRef]]] = {}

    def hold(self, tensor: Tensor, weight: _Weight) -> _Weight:
        """Take a tensor, with all its views, for that weight."""
        length = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        span = range(tensor.data_ptr(), tensor.data_ptr() + length * tensor.element_size())
        own = span, weight, StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # untyped in torch
        self._held.setdefault(_storage(tensor), []).append(own)
        self.weights.add(weight)
        return weight

    def weight_in(self, leaf: Any) -> _Weight | None:
        """The weight that a tensor is."""
        held = self._held.get(_storage(leaf), ()) if _has_memory(leaf) else ()
        at = leaf.data_ptr() if held else 0
        there = ((weight, memory) for span, weight, memory in held if at in span)
        return next((weight for weight, memory in there if not memory.expired()), None)  # type: ignore[no-untyped-call]  # untyped in torch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and count."""
        kwargs = kwargs or {}
        if not types:  # tensors of torch alone: in inference mode a layer arrives whole, and is taken apart
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        operation = func._overloadpacket
        if any(isinstance(leaf, Tensor) and leaf.layout in _SPARSE for leaf in tree_leaves(args)):
            self._follow(tree_leaves(args), tree_leaves(out), masked=False)
        elif operation in _RECURRENT:
            vectors = args[0].shape[:-1].numel()
            for matrix in _RECURRENT[operation](args):
                self._add(vectors * matrix.numel(), [matrix])
        elif operation in _UNLISTED:
            self._add(_UNLISTED[operation](args), tree_leaves(args))
        elif operation in flop_registry:
            self._add(flop_registry[operation](*args, **kwargs, out_val=out) / 2, tree_leaves(args))
        elif operation in _LOOK_UPS:
            for tensor in tree_leaves(args):
                if (weight := self.weight_in(tensor)) and tensor.ndim > 2:  # experts, to be multiplied
                    self.hold(out, weight)
        else:
            self._follow(tree_leaves(args), tree_leaves(out), operation is _ATEN.mul)
        return out

    def _add(self, products: float, tensors: list[Any]) -> None:
        found = [weight for weight in map(self.weight_in, tensors) if weight]
        for weight in found:
            weight.multiplied = True
        self.all += products
        self.on_chip += products * max((weight.share for weight in found), default=0.0)

    def _follow(self, given: list[Any], made: list[Any], masked: bool) -> None:
        """Take what is made of a weight alone, of its shape, for that weight, as a view of it is anyway.

        A mask, by which it is multiplied, leaves it the weight.
        """
        others = [t for t in filter(_has_memory, given) if t.is_floating_point() and not self.weight_in(t)]
        for tensor in given:
            if weight := self.weight_in(tensor):
                if any(t.numel() > tensor.numel() for t in others):
                    continue  # a sum with activations, which stays digital
                mixed = not masked and any(t.shape == tensor.shape for t in others)
                for one in [] if mixed else filter(_has_memory, made):
                    if one.shape == tensor.shape and not self.weight_in(one):
                        self.hold(one, weight)
                weight.lost |= not any(map(self.weight_in, made))


def _each_query(keys: Tensor, values: Tensor) -> int:
    return keys.shape[-2] * (keys.shape[-1] + values.shape[-1])


def _has_memory(leaf: Any) -> TypeGuard[Tensor]:
    """Whether it is a dense tensor that wraps no other."""
    strided = isinstance(leaf, Tensor) and leaf.layout is torch.strided
    return strided and type(leaf).__torch_dispatch__ is Tensor.__torch_dispatch__


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
