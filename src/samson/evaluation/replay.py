"""Two passes through a model that differ only from some time on: what comes before is computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_map

from samson.evaluation.recording import Recording, ReplayError, leaves, memory

Forward = Callable[..., Any]


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Record the one pass through a model that is made inside the block.

    Raises:
        ReplayError: In the pass, if it computes with sparse or nested tensors.
    """
    recording = Recording()

    def wrap(module: nn.Module, forward: Forward) -> Forward:
        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            call = recording.opened(module)
            output = forward(*args, **kwargs)
            recording.closed(call, output)
            return output

        return run

    with _forwards(set(model.modules()), wrap), recording:
        yield recording


@contextmanager
def replayed(model: nn.Module, recording: Recording, until: float) -> Iterator[None]:
    """Answer calls from a recording, in the one pass through a model that is made inside the block.

    Every call that returned before a time of the recording is answered by its output, a whole module at once where it
    can be; all else runs. Outputs that the recorded pass overwrote are answered by copies, and one that this pass
    overwrites all the same is not used again. The caller vouches that the pass does not differ from the recorded one
    before that time.

    Args:
        model: The model that was recorded, on the same batch.
        recording: The recording.
        until: The time (see `Recording.first_use`).

    Raises:
        ReplayError: In the pass, if it calls modules in another order.
    """
    position = 0
    calls = [call for call in recording.calls if call.start < until]
    lent: list[tuple[Tensor, int]] = []

    def wrap(module: nn.Module, forward: Forward) -> Forward:
        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal position
            if position < len(calls):
                call = calls[position]
                if call.module is not module:
                    raise ReplayError(f"A {type(module).__name__} is called where the recording has another module.")
                if call.is_reusable and call.end < until:
                    position = call.after
                    if call.is_overwritten or torch.is_inference_mode_enabled():
                        return copy.deepcopy(call.output)
                    lent.extend((tensor, tensor._version) for tensor in leaves(call.output))
                    return tree_map(lambda leaf: leaf, call.output)
                position += 1
            return forward(*args, **kwargs)

        return run

    with _forwards({call.module for call in calls}, wrap):
        yield
    spoiled = memory(tensor for tensor, version in lent if tensor._version != version)
    for call in recording.calls if spoiled else []:
        call.is_reusable &= not call.storages & spoiled


def hindrance(model: nn.Module) -> str | None:
    """Why nothing can be reused in passes through a model, if so."""
    shared = torch.nn.modules.module
    if shared._global_forward_hooks or shared._global_forward_pre_hooks:
        return "there are hooks on all modules"
    for path, module in model.named_modules():
        found = _hindrance(module)
        if found:
            return f"{f'`{path}`' if path else 'the model'} {found}"
    odd = next((name for name, p in model.named_parameters() if type(p) not in (nn.Parameter, Tensor)), None)
    return f"`{odd}` is no ordinary parameter" if odd else None


def _hindrance(module: nn.Module) -> str | None:
    if module._forward_hooks or module._forward_pre_hooks:
        return "has forward hooks"
    if module._compiled_call_impl is not None or "_orig_mod" in module._modules:
        return "is compiled"
    if isinstance(module, (torch.jit.ScriptModule, nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return f"is a {type(module).__name__}"
    if isinstance(module, ParametrizationList):
        return "computes a weight"
    return "has had its forward replaced" if "forward" in vars(module) else None


@contextmanager
def _forwards(modules: Iterable[nn.Module], wrap: Callable[[nn.Module, Forward], Forward]) -> Iterator[None]:
    """Wrap the forward of modules: hooks could not answer for a module, and turn off torch's fused layers."""
    modules = list(modules)
    try:
        for module in modules:
            vars(module)["forward"] = wrap(module, module.forward)
        yield
    finally:
        for module in modules:
            vars(module).pop("forward", None)
