"""Accelerate: the perturbed pass and the closure form for an optimizer that `Accelerator.prepare` has wrapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from samson._batches import is_cast
from samson.integrations import missing
from samson.optim import SharpnessAware

try:
    from accelerate.optimizer import AcceleratedOptimizer
    from accelerate.state import GradientState
    from accelerate.utils import extract_model_from_parallel
except ImportError as error:
    raise missing("accelerate") from error


__all__ = ["perturbed", "sharpness_aware", "step", "unwrapped"]


def sharpness_aware(optimizer: Optimizer | None) -> SharpnessAware:
    """The `SharpnessAware` inside an optimizer that Accelerate may have wrapped.

    Raises:
        TypeError: If there is none.
    """
    inner = _unwrapped(optimizer)
    if not isinstance(inner, SharpnessAware):
        raise TypeError(
            f"`optimizer` must be or wrap a SharpnessAware, got {type(inner).__name__}. Give `Accelerator.prepare` (or "
            "the Trainer) SharpnessAware(base, rule, model=model)."
        )
    return inner


@contextmanager
def perturbed(optimizer: Optimizer, model: nn.Module | None = None) -> Iterator[None]:
    """`SharpnessAware.perturbed` for a prepared optimizer; clip and step after the block.

    With gradient accumulation the block belongs to the last micro-batch and repeats them all, because the climb
    follows the accumulated gradient. In a mode with one pass (`not sharpness_aware(optimizer).needs_first_pass`)
    leave the backward passes outside the block away.

    Args:
        optimizer: What `Accelerator.prepare` returned for a `SharpnessAware`.
        model: As for `SharpnessAware.perturbed`; it may be prepared.

    Raises:
        TypeError: If `optimizer` wraps no `SharpnessAware`.
        RuntimeError: If this micro-batch does not complete a step; or as `SharpnessAware.perturbed` does. The step
            raises if gradients were unscaled (`clip_grad_norm_` does that) before the block.

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> from samson import SAMSON, param_groups
        >>> accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        >>> model = nn.Linear(4, 2)
        >>> optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAMSON(rho=0.5))
        >>> model, optimizer = accelerator.prepare(model, optimizer)
        >>> kept = []
        >>> for batch in torch.randn(4, 8, 4):
        ...     with accelerator.accumulate(model):
        ...         kept.append(batch)
        ...         accelerator.backward(model(batch).square().mean())
        ...         if accelerator.sync_gradients:
        ...             with perturbed(optimizer, model):
        ...                 for x in kept:
        ...                     accelerator.backward(model(x).square().mean())
        ...             kept.clear()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
    """
    inner = sharpness_aware(optimizer)
    _require_whole_step("`perturbed` was entered")
    with inner.perturbed(model):
        yield


def step(optimizer: Optimizer, closure: Callable[[], Any]) -> Any:
    """`step(closure)` for a prepared optimizer of any kind, without accumulation and without a gradient scaler.

    Args:
        optimizer: What `Accelerator.prepare` returned for a `SharpnessAware`, a `Lookbehind` or a plain optimizer.
        closure: Clears the gradients, computes the loss, calls `accelerator.backward` and returns the loss.

    Returns:
        The closure's clean loss. (The prepared optimizer's own `step` returns None.)

    Raises:
        TypeError: If `optimizer` is, or wraps, no optimizer.
        RuntimeError: If a gradient scaler is active, or this micro-batch does not complete a step.
    """
    scaler = getattr(optimizer, "scaler", None)
    if scaler is not None and scaler.is_enabled():
        raise RuntimeError(
            "`closure` cannot be used with a gradient scaler (mixed_precision='fp16'): it would step with gradients "
            "that are still scaled. Write `with perturbed(optimizer, model):` and call `optimizer.step()` after it, or "
            "use mixed_precision='bf16'."
        )
    _require_whole_step("`step` was called with a closure")
    inner = _unwrapped(optimizer)
    if not isinstance(inner, Optimizer):
        raise TypeError(f"`optimizer` must be what `Accelerator.prepare` gave for one, got {inner!r:.80}.")
    return inner.step(closure)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what `Accelerator.prepare` gave, in its own precision: so it belongs on a chip after training.

    `Accelerator.unwrap_model` leaves the cast of mixed precision in the model's `forward`, or takes decorators of the
    model's own away with it.
    """
    found: nn.Module = extract_model_from_parallel(model)
    forward = vars(found).pop("_original_forward", None) if is_cast(found) else None
    if forward is not None:
        found.forward = forward
        if getattr(forward, "__func__", None) is type(found).forward:
            del found.forward  # it is the class's own
    return found


def _unwrapped(optimizer: Optimizer | None) -> Any:
    inner: Any = optimizer
    while isinstance(inner, AcceleratedOptimizer):
        inner = inner.optimizer
    return inner


def _require_whole_step(what: str) -> None:
    if not GradientState().sync_gradients:
        raise RuntimeError(
            f"{what} at a micro-batch that does not complete a step (gradient_accumulation_steps > 1): the climb must "
            "follow the accumulated gradient. Keep the micro-batches and, under `if accelerator.sync_gradients:`, "
            "repeat them all inside `with perturbed(optimizer, model):`."
        )
