"""A model run by `torch.compile`: compiled once for all models of one shape, and for each size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def shape_of(model: nn.Module) -> tuple[object, ...]:
    """What must be the same for what was found or compiled to be used again."""
    return (
        tuple((name, tuple(p.shape), p.stride(), p.dtype) for name, p in model.named_parameters()),
        tuple(type(module) for module in model.modules()),
    )


def call(model: nn.Module, *inputs: Any, **keywords: Any) -> Any:
    """A forward pass as it is written."""
    return model(*inputs, **keywords)


def shapes_of(*inputs: Any) -> tuple[object, ...]:
    """Shapes, strides and types of the tensors in a batch."""
    return tuple((tuple(t.shape), t.stride(), t.dtype) for t in tree_leaves(inputs) if isinstance(t, Tensor))


@cache
def compiled_call(model: object, inputs: object) -> Callable[..., Any]:
    """`call` for models and batches of one shape, which share what is compiled; no model is kept alive by it.

    Each pair of shapes has code of its own: torch stops compiling a function after 8 times and then runs it as it is
    written, and which code computes a batch must not depend on what was computed before. For the same reason sizes of
    batches are never taken together.

    Args:
        model: What `shape_of` gives.
        inputs: What `shapes_of` gives.
    """
    own = FunctionType(call.__code__.replace(), globals())
    compiled: Callable[..., Any] = torch.compile(own, dynamic=False)
    return compiled


def strictly() -> AbstractContextManager[object]:
    """A block in which a model with other hooks is compiled anew, and what torch stops compiling is an error.

    Torch's default ignores hooks that come or go, and runs as written what it has compiled 8 times.
    """
    import torch._dynamo.config as dynamo  # slow to import

    limit = next(n for n in ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit") if hasattr(dynamo, n))
    block: AbstractContextManager[object] = dynamo.patch({"skip_nnmodule_hook_guards": False, limit: True})
    return block
