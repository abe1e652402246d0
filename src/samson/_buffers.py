"""Tensors such as running statistics, as they were when a model has run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from samson._select import plain_name


@contextmanager
def held_buffers(models: Iterable[nn.Module], pattern: str = "*") -> Iterator[None]:
    """Put buffers back at exit, whatever forward passes did to them.

    That is running statistics, vectors of a spectral norm, codebooks that follow averages, observers of ranges. They
    are saved and copied back. No other attribute of a layer is touched, so momentum stays right, batches are counted
    once and a compiled model does not recompile.

    Args:
        models: The models, also wrapped or compiled.
        pattern: Which buffers, by their names in the model without the prefixes of wrappers, as in `fnmatch`.

    Raises:
        ValueError: If the models have buffers and the pattern meets none; "" is none on purpose.
    """
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
    live = list(found.values())
    saved = [buffer.clone() if _is_writable(buffer) else None for _, _, buffer in live]
    try:
        yield
    finally:
        with torch.no_grad():
            for (module, name, buffer), value in zip(live, saved, strict=True):
                if module._buffers.get(name) is not buffer:  # a layer may exchange it instead of writing into it
                    module._buffers[name] = buffer
                if value is not None:
                    buffer.copy_(value)


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


def _is_writable(buffer: Tensor) -> bool:
    """Whether a layer may write into it: not if it has no shape yet, is expanded, or was made in inference mode."""
    if nn.parameter.is_lazy(buffer) or buffer.is_inference():
        return False
    own = buffer.to_local() if hasattr(buffer, "to_local") else buffer  # the part of a sharded one that is here
    return buffer.layout != torch.strided or torch._debug_has_internal_overlap(own) != 1
