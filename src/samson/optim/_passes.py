"""What the passes of a step leave as it was: gradients from before them, buffers, and weights that are frozen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from samson._buffers import Buffers, unchanged
from samson._interrupts import uninterrupted
from samson._select import plain_name
from samson.optim._sharding import local


class Passes:
    """Buffers and frozen weights over the passes of one step.

    `models` are those that run in a pass, and `hold` is the pattern for names in them, as for `SharpnessAware`.
    """

    def __init__(self) -> None:
        self._before: Buffers | None = None
        self._kept_frozen = False

    @uninterrupted
    def repeated(self, models: Collection[nn.Module], hold: str) -> Iterator[None]:
        """A block in which each pass in a block of `held` begins with the buffers of now."""
        self._before = _buffers(models, hold, state=True)
        try:
            yield
        finally:
            self._before = None

    @contextmanager
    def held(self, models: Collection[nn.Module], hold: str) -> Iterator[None]:
        """A block at whose end the buffers are as at its beginning."""
        held = _buffers(models, hold)
        try:
            if self._before is not None:
                _put_back(self._before)
            yield
        finally:
            _put_back(held)

    @contextmanager
    def frozen(
        self, models: Collection[nn.Module], hold: str, is_held_elsewhere: Callable[[Tensor], bool]
    ) -> Iterator[None]:
        """A block, of which the first must not write to frozen weights: they would follow the perturbed ones.

        What another optimizer of ours holds is left to it.
        """
        named = [
            (plain_name(name), p)
            for model in (() if self._kept_frozen else models)
            for name, p in model.named_parameters()
            if not p.requires_grad
        ]
        with unchanged(
            [(name, local(p)) for name, p in named if fnmatchcase(name, hold) and not is_held_elsewhere(p)],
            "is frozen, but changed in the perturbed pass, as that of a momentum encoder or an average whose update "
            "is in the forward pass: it would follow perturbed weights. Update it after `step()`, make it a buffer, "
            "which is held, or leave it out of `hold`.",
        ):
            yield
        self._kept_frozen = True


@_disable_dynamo  # bookkeeping; in `Buffers` itself it would bring the compiler into evaluations
def _buffers(models: Collection[nn.Module], hold: str, *, state: bool = False) -> Buffers:
    return Buffers(models, hold, state=state)


@_disable_dynamo
def _put_back(buffers: Buffers) -> None:
    buffers.put_back()


@_disable_dynamo
def clear_gradients(base: Optimizer, models: Iterable[nn.Module], is_held_elsewhere: Callable[[Tensor], bool]) -> None:
    """Clear all gradients of a first pass: those of the base, and of what else belongs to the models.

    What another optimizer of ours holds is left to it: its ascent may be yet to come.
    """
    base.zero_grad()
    for model in models:
        for p in model.parameters():
            if p.grad is not None and not is_held_elsewhere(p):
                p.grad = None


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
