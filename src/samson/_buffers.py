"""Tensors such as running statistics, as they were when a model has run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from samson._select import plain_name

_NORMS = {"torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm"}
"""Modules of torch's own layers that read no statistics while they write them."""


class Buffers:
    """The buffers of models, as they are now.

    That is running statistics, vectors of a spectral norm, codebooks that follow averages, observers of ranges. They
    are saved and copied back. No other attribute of a layer is touched, so momentum stays right, batches are counted
    once and a compiled model does not recompile.

    Args:
        models: The models, also wrapped or compiled.
        pattern: Which buffers, by their names in the model without the prefixes of wrappers, as in `fnmatch`.
        state: Whether only what layers may read and write while they train: numbers outside of torch's own norm layers
            (which only write), but no flag or count, and no view of a weight.

    Raises:
        ValueError: If the models have buffers and the pattern meets none; "" is none on purpose.
    """

    def __init__(self, models: Collection[nn.Module], pattern: str = "*", *, state: bool = False) -> None:
        names: list[str] = []
        found: dict[tuple[int, str], tuple[nn.Module, str, Tensor]] = {}
        for model in models:
            for path, module in model.named_modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        names.append(plain_name(f"{path}.{name}"))
                        if fnmatchcase(names[-1], pattern):
                            found[id(module), name] = module, name, buffer
        if names and not found and pattern:
            raise ValueError(
                f"`hold` must match the name of a buffer, got {pattern!r}, which none of {len(names)} has, such as "
                f'{names[0]!r}. Take a pattern of such names, "*" for all, or "" for none.'
            )
        live = [*found.values()]
        if state:
            live = [one for one in live if _is_read(one[0], one[2])]
            weights = {_memory(p) for model in models if live for p in model.parameters()} - {0}
            live = [one for one in live if _memory(one[2]) not in weights]
        self._saved = [(*one, one[2].clone() if _is_writable(one[2]) else None) for one in live]

    @torch.no_grad()
    def put_back(self, *, exchanged: bool = True) -> None:
        """Give the buffers the values, and be the tensors, that they were.

        Args:
            exchanged: Whether also those that a layer exchanged for another tensor instead of writing into them.
        """
        for module, name, buffer, value in self._saved:
            if name not in module._buffers or module._buffers[name] is not buffer:  # a scripted module's have no `get`
                if not exchanged:
                    continue
                module._buffers[name] = buffer
            if value is not None and not _is_same(buffer, value):
                if buffer.shape != value.shape:  # some observers have no size before their first input
                    buffer.resize_(value.shape)
                buffer.data.copy_(value)  # or a graph from before, such as of batch norm, would refuse to run backward


def _is_same(buffer: Tensor, value: Tensor) -> bool:
    """Whether a buffer is known to be unchanged: it may lie where nobody may write, as in a mapped file."""
    cheap = buffer.device.type == "cpu" and is_in_memory(buffer) and not buffer.is_quantized
    return cheap and torch.equal(buffer, value)


def _is_read(module: nn.Module, buffer: Tensor) -> bool:
    return type(module).__module__ not in _NORMS and (buffer.is_floating_point() or buffer.is_complex())


def _memory(tensor: Tensor) -> int:
    """Where a tensor lies; 0 if it has no memory of its own."""
    own = getattr(tensor, "_local_tensor", tensor)  # of a sharded one
    return own.untyped_storage().data_ptr() if is_in_memory(own) else 0


@contextmanager
def held_buffers(models: Collection[nn.Module], *, exchanged: bool = True) -> Iterator[None]:
    """Put buffers back at exit, whatever forward passes did to them (see `Buffers` and its `put_back`)."""
    buffers = Buffers(models)
    try:
        yield
    finally:
        buffers.put_back(exchanged=exchanged)


@contextmanager
def unchanged(named: Iterable[tuple[str, Tensor]], words: str) -> Iterator[None]:
    """A block that leaves tensors alone, by their sums; quantised ones are not looked at.

    Raises:
        RuntimeError: At its end, with the name of one that changed and these words.
    """
    before = [(name, tensor, _total(tensor)) for name, tensor in named if _has_sum(tensor)]
    yield
    for name, tensor, total in before:
        if not _total(tensor).equal(total):
            raise RuntimeError(f"`{name}` {words}")


@contextmanager
def restored(tensors: list[Tensor]) -> Iterator[None]:
    """A block at whose end tensors have the very bits that they had."""
    copies = [t.detach().clone() for t in tensors]
    try:
        yield
    finally:
        if tensors:
            with torch.no_grad():
                torch._foreach_copy_(tensors, copies)


@_disable_dynamo
def _total(tensor: Tensor) -> Tensor:
    return tensor.detach().nan_to_num(0, 0, 0).sum(dtype=torch.promote_types(tensor.dtype, torch.float32))


@_disable_dynamo
def _has_sum(tensor: Tensor) -> bool:
    return is_in_memory(tensor) and tensor.is_floating_point() and tensor.itemsize > 1


def is_in_memory(tensor: Tensor) -> bool:
    """Whether it is a tensor in memory, neither lazy nor sparse nor of a class of its own."""
    strange = nn.parameter.is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided
    return not strange and type(tensor.data) is Tensor


def _is_writable(buffer: Tensor) -> bool:
    """Whether a layer may write into it: not if it has no shape yet, is expanded, or was made in inference mode.

    A quantised embedding neither is written nor can be copied.
    """
    if nn.parameter.is_lazy(buffer) or buffer.is_inference():
        return False
    if buffer.is_quantized and buffer.qscheme() is torch.per_channel_affine_float_qparams:
        return False
    own = buffer.to_local() if hasattr(buffer, "to_local") else buffer  # the part of a sharded one that is here
    return buffer.layout != torch.strided or torch._debug_has_internal_overlap(own) != 1
