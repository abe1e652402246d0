"""Tensors such as running statistics, as they were when a model has run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from samson._select import plain_name


class Buffers:
    """The buffers of models, as they are now.

    That is running statistics, vectors of a spectral norm, codebooks that follow averages, observers of ranges. They
    are saved and copied back. No other attribute of a layer is touched, so momentum stays right, batches are counted
    once and a compiled model does not recompile.

    Args:
        models: The models, also wrapped or compiled.
        pattern: Which buffers, by their names in the model without the prefixes of wrappers, as in `fnmatch`.
        norms: Whether those of torch's own norm layers are among them, which no layer reads while it writes them.

    Raises:
        ValueError: If the models have buffers and the pattern meets none; "" is none on purpose.
    """

    @_disable_dynamo  # bookkeeping, as in all of this module; torch.compiler.disable would import the compiler at once
    def __init__(self, models: Iterable[nn.Module], pattern: str = "*", *, norms: bool = True) -> None:
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
        live = [one for one in found.values() if norms or type(one[0]).__module__ not in _NORMS]
        self._saved = [(*one, one[2].clone() if _is_writable(one[2]) else None) for one in live]

    @_disable_dynamo
    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the values, and be the tensors, that they were."""
        for module, name, buffer, value in self._saved:
            if module._buffers.get(name) is not buffer:  # a layer may exchange it instead of writing into it
                module._buffers[name] = buffer
            if value is not None:
                buffer.copy_(value)


_NORMS = {"torch.nn.modules.batchnorm", "torch.nn.modules.instancenorm"}


@contextmanager
def held_buffers(models: Iterable[nn.Module], pattern: str = "*") -> Iterator[None]:
    """Put buffers back at exit, whatever forward passes did to them (see `Buffers`)."""
    buffers = Buffers(models, pattern)
    try:
        yield
    finally:
        buffers.put_back()


@contextmanager
def unchanged(named: Mapping[str, Tensor], words: str) -> Iterator[None]:
    """A block that leaves tensors alone, by their sums; quantised ones are not looked at.

    Raises:
        RuntimeError: At its end, with the name of one that changed and these words.
    """
    before = {name: (tensor, _total(tensor)) for name, tensor in named.items() if _has_sum(tensor)}
    yield
    for name, (tensor, total) in before.items():
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
    return tensor.detach().nan_to_num().sum(dtype=torch.promote_types(tensor.dtype, torch.float32))


@_disable_dynamo
def _has_sum(tensor: Tensor) -> bool:
    plain = type(tensor.data) is Tensor and not (tensor.is_meta or nn.parameter.is_lazy(tensor))
    return plain and tensor.is_floating_point() and tensor.itemsize > 1


def _is_writable(buffer: Tensor) -> bool:
    """Whether a layer may write into it: not if it has no shape yet, is expanded, or was made in inference mode."""
    if nn.parameter.is_lazy(buffer) or buffer.is_inference():
        return False
    own = buffer.to_local() if hasattr(buffer, "to_local") else buffer  # the part of a sharded one that is here
    return buffer.layout != torch.strided or torch._debug_has_internal_overlap(own) != 1
