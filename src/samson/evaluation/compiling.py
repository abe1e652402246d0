"""A model run by `torch.compile`: compiled once for all models of one shape, and for each size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import nn


def shape_of(model: nn.Module) -> tuple[object, ...]:
    """What must be the same for what was found or compiled to be used again."""
    return (
        tuple((name, tuple(p.shape), p.stride(), p.dtype) for name, p in model.named_parameters()),
        tuple(type(module) for module in model.modules()),
    )


def call(model: nn.Module, *inputs: Any, **keywords: Any) -> Any:
    """A forward pass as it is written."""
    return model(*inputs, **keywords)


@cache
def compiled_call(shape: object) -> Callable[..., Any]:
    """`call` for models of one shape (`shape_of`), which share what is compiled; no model is kept alive by it.

    Each shape has code of its own, since torch stops compiling a function after 8 times. Sizes of batches are never
    taken together: which code computes a batch would then depend on what was computed before.
    """
    own = FunctionType(call.__code__.replace(), globals())
    compiled: Callable[..., Any] = torch.compile(own, dynamic=False)
    return compiled


def hooks_noticed() -> AbstractContextManager[object]:
    """A block in which what is compiled is compiled anew for a model with other hooks; torch's default ignores them."""
    import torch._dynamo.config as dynamo  # slow to import

    block: AbstractContextManager[object] = dynamo.patch(skip_nnmodule_hook_guards=False)
    return block
