"""Count what a piece of torch code moves: dispatched calls that do work, and the elements they read and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_ONLY_WRITTEN = ("copy_", "_foreach_copy_", "zero_", "fill_", "_foreach_zero_")
"""Calls that do not read what they overwrite."""

_ONLY_READ = {"_fused_sgd_": "grads"}
"""Arguments that a schema marks as changed, but that stay as they are unless gradients are scaled."""


class Traffic(TorchDispatchMode):
    """Counts, while active, the calls of operators and the elements that they read and write.

    A call reads its arguments and writes its results, or the arguments that it changes in place. Views move nothing
    and count in `views` alone. Calls inside a kernel, or inside compiled code, are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.views = self.read = self.written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call and count it."""
        result = func(*args, **(kwargs or {}))
        schema, name = func._schema, func._schema.name.removeprefix("aten::")
        if any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns):
            self.views += 1
            return result
        self.calls[name] += 1
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | (kwargs or {})
        changed = 0
        for argument in schema.arguments:
            size = _elements(given.get(argument.name))
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes and _ONLY_READ.get(name) != argument.name:
                changed += size
                self.read += 0 if name in _ONLY_WRITTEN or argument.name == "out" else size
            else:
                self.read += size
        self.written += changed or _elements(result)
        return result

    @property
    def words(self) -> int:
        """Elements read and written."""
        return self.read + self.written


def traffic_of(run: Callable[[], Any]) -> Traffic:
    """Run a function and count."""
    with Traffic() as counted:
        run()
    return counted


def compiled_words(run: Callable[[], Any]) -> float:
    """The words that code moves which is compiled by inductor in this call, by the compiler's own account.

    Args:
        run: Compiles something of float32, and does nothing compiled before.
    """
    import torch._inductor.config as inductor
    from torch._inductor.dependencies import StarDep

    moved: list[int] = []

    def account(nodes: list[Any]) -> list[Any]:
        for node in nodes:
            deps = node.read_writes
            named = {d.name for d in [*deps.reads, *deps.writes] if not isinstance(d, StarDep)}  # not mere order
            accesses = node.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
            moved.append(sum(size for name, size in accesses.items() if name in named))
        return nodes

    with inductor.patch(_post_fusion_custom_pass=account, fx_graph_cache=False):
        run()
    if not moved:
        raise RuntimeError("nothing was compiled in this call")
    return sum(moved) / torch.float32.itemsize


def _elements(value: Any) -> int:
    return sum(t.numel() for t in tree_flatten(value)[0] if isinstance(t, Tensor))
