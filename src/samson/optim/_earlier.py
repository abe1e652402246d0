"""Gradients from before a pass, to which it adds unless they are cleared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from samson.optim._sharding import local


@contextmanager
def watched(parameters: Iterable[Tensor], *, kept: bool = False) -> Iterator[list[bool]]:
    """A block in which passes come: of each, the list says whether it added to a gradient that was there.

    The first parameter is looked at whose gradient is not 0 now, which waits for a device; without one the list is
    empty. `torch.autograd.grad` adds to none.

    Args:
        parameters: What is trained.
        kept: Whether a gradient that is still there at the end of a block without a pass of that parameter counts too:
            of one that takes no part, or added to by hand.
    """
    p = next((p for p in parameters if p.requires_grad and _is_there(p.grad)), None)
    before = None if p is None else p.grad
    there, added = list[bool](), list[bool]()
    handles = []
    if p is not None:
        handles.append(p.register_hook(lambda _: there.append(_is_there(p.grad))))  # type: ignore[no-untyped-call]
        handles.append(
            p.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda _: added.append(there[-1] if there else p.grad is before)  # FSDP2 calls this hook alone
            )
        )
    try:
        yield added
        if kept and p is not None and not added and p.grad is before:
            added.append(_is_there(before))
    finally:
        for handle in handles:
            handle.remove()


def _is_there(grad: Tensor | None) -> bool:
    return grad is not None and (grad.layout != torch.strided or bool(local(grad).any()))
