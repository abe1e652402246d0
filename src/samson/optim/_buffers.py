"""Buffers such as running statistics, held still while a model runs with perturbed weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn


@contextmanager
def held_buffers(models: Iterable[nn.Module | None], pattern: str) -> Iterator[None]:
    """Put buffers back at exit, whatever forward passes did to them.

    That is running statistics, vectors of a spectral norm, codebooks that follow averages, observers of ranges. They
    are saved and copied back. No other attribute of a layer is touched, so momentum stays right, batches are counted
    once and a compiled model does not recompile.

    Args:
        models: The models, also wrapped or compiled; None is none.
        pattern: Which buffers, by their names in the model, as in `fnmatch`.
    """
    found: dict[tuple[int, str], tuple[nn.Module, str, Tensor]] = {}
    for model in models:
        for path, module in () if model is None else model.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and fnmatchcase(f"{path}.{name}".lstrip("."), pattern):
                    found[id(module), name] = module, name, buffer
    live = list(found.values())
    saved = [buffer.clone() for _, _, buffer in live]
    try:
        yield
    finally:
        with torch.no_grad():
            for (module, name, buffer), value in zip(live, saved, strict=True):
                if module._buffers.get(name) is not buffer:  # a layer may exchange it instead of writing into it
                    module._buffers[name] = buffer
                buffer.copy_(value)
