"""Gradients from before a pass, to which it adds unless they are cleared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from samson.optim._sharding import local


def with_gradient(parameters: Iterable[Tensor]) -> Tensor | None:
    """The first parameter with a gradient that is not 0; to read that waits for a device."""
    return next((p for p in parameters if p.requires_grad and _is_there(p.grad)), None)


@contextmanager
def watched(p: Tensor | None) -> Iterator[list[bool]]:
    """A block in which passes come: of each, the list says whether it added to a gradient that was there.

    Args:
        p: The parameter that is looked at; None leaves the list empty. `torch.autograd.grad` adds to none.
    """
    there, added = [False], list[bool]()
    handles = []
    if p is not None:
        handles.append(p.register_hook(lambda _: there.append(_is_there(p.grad))))  # type: ignore[no-untyped-call]
        handles.append(p.register_post_accumulate_grad_hook(lambda _: added.append(there[-1])))  # type: ignore[no-untyped-call]
    try:
        yield added
    finally:
        for handle in handles:
            handle.remove()


def _is_there(grad: Tensor | None) -> bool:
    return grad is not None and (grad.layout != torch.strided or bool(local(grad).any()))
