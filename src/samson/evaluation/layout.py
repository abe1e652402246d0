"""How the data are put through a model: in which batches, memory order and precision, and compiled or as written."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from samson.evaluation.compiling import call, compiled_call, shape_of, shapes_of, strictly
from samson.evaluation.data import BATCH, Data, as_batches, is_pair
from samson.evaluation.scoring import device_of
from samson.noise.calibration import evaluation_mode
from samson._names import suggestion

PRECISIONS = ("bfloat16", "float16")
"""Lower precisions in which a model can be run."""
CPU_SIZES = (25, 50, 100, 200)
GPU_SIZES = (256, 1024, 4096)
ROUNDS = 2


@dataclass(frozen=True)
class Layout:
    """How examples are put through a model. Results are the same bit for bit only for the same layout.

    The two that make it not plain are faster on much hardware and change the outputs: what they do to the answer is
    measured (see `Check`).

    Args:
        batch_size: Examples in a batch; None where the data come in batches already.
        channels_last: Whether 4-d inputs are put in channels-last order.
        autocast: The lower precision of `torch.autocast` in which the model runs, "bfloat16" or "float16"; None leaves
            it as it is. Metrics see its outputs in float32. Weights of float64 are not lowered, by torch's rule.
        compiled: Whether the model is run by `torch.compile`, which compiles once for each shape of a batch, for
            seconds to tens of seconds, and needs a compiler. The model itself stays as it is.

    Raises:
        ValueError: If an argument is out of range.
    """

    batch_size: int | None = BATCH
    channels_last: bool = False
    autocast: str | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"`batch_size` must be ≥ 1, or None for data in batches, got {self.batch_size!r}.")
        if self.autocast is not None and self.autocast not in PRECISIONS:
            raise ValueError(
                f"`autocast` must be a lower precision, or None, got {self.autocast!r}. "
                f"{suggestion(str(self.autocast), PRECISIONS)}"
            )

    @property
    def is_plain(self) -> bool:
        """Whether the model runs as it is: in its own precision, not compiled."""
        return self.autocast is None and not self.compiled

    @property
    def plain(self) -> Layout:
        """The same batches, with the model as it is."""
        return replace(self, autocast=None, compiled=False)

    def forward(self, model: nn.Module) -> Callable[..., Any]:
        """What to call instead of the model."""
        shape = shape_of(model) if self.compiled else None

        def run(*inputs: Any, **keywords: Any) -> Any:
            own = compiled_call(shape, shapes_of(inputs, keywords)) if self.compiled else call
            with self.lowered(model), strictly() if self.compiled else nullcontext():
                output = own(model, *inputs, **keywords)
            return self.raised(output)

        return run

    def raised(self, output: Any) -> Any:
        """Outputs in less than float32 that `autocast` has made, in float32: a loss would round them again."""
        return output if self.autocast is None else tree_map(_raised, output)

    def lowered(self, model: nn.Module) -> AbstractContextManager[object]:
        """A block in the precision of `autocast`; casts of weights are not kept beyond it."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device_of(model).type, dtype=getattr(torch, self.autocast))

    def batches(self, data: Data) -> Iterable[Any]:
        """The data in batches; whole tensors are put in order once, not again for every chip."""
        if self.channels_last and is_pair(data):
            inputs, targets = cast("tuple[Tensor, Tensor]", data)
            data = inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs, targets
        return as_batches(data, self.batch_size or BATCH)


def _raised(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in (torch.bfloat16, torch.float16) else leaf


_FOUND: dict[object, Layout] = {}
"""What was found in this process, by `layout_key`."""


def find_layout(model: nn.Module, data: Data, *, autocast: str | None = None, compiled: bool = False) -> Layout:
    """Find the fastest layout for a pair of whole tensors; data in batches stay as they come.

    It is timed once for each `layout_key`, with 2,400 examples at most on a CPU, and kept for the life of the process.
    Since timings vary, another process may find another; give it `layout=` then, or `executor=Kept(folder)`. For a
    compiled forward the same layout is taken as for one that is not: each that is tried would have to be compiled.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
        autocast: As for `Layout`.
        compiled: As for `Layout`.

    Raises:
        ValueError: If `autocast` is unknown.

    Example:
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> find_layout(nn.Linear(4, 3), data, autocast="bfloat16").autocast
        'bfloat16'
    """
    mode = Layout(None, autocast=autocast, compiled=compiled)
    if not is_pair(data):
        return mode
    key = layout_key(model, data, autocast)
    if key not in _FOUND:
        device, sizes = device_of(model), _sizes(model)
        sample = cast("tuple[Tensor, Tensor]", data)[0][: max(sizes)].to(device)
        _FOUND[key] = _timed(model, sample, sizes, replace(mode, compiled=False))
    return replace(_FOUND[key], compiled=compiled)


def layout_key(model: nn.Module, data: Data, autocast: str | None = None) -> Hashable:
    """What a layout is found for: shapes and memory order of model and whole tensors, precision, device and threads."""
    sample = cast("tuple[Tensor, Tensor]", data)[0][: max(_sizes(model))]
    of_data = tuple(sample.shape), sample.dtype, device_of(model), torch.get_num_threads()
    return *shape_of(model), of_data, autocast


def _sizes(model: nn.Module) -> tuple[int, ...]:
    return CPU_SIZES if device_of(model).type == "cpu" else GPU_SIZES


@torch.no_grad()
def _timed(model: nn.Module, sample: Tensor, sizes: Sequence[int], mode: Layout) -> Layout:
    forward = mode.forward(model)
    sizes = [size for size in sizes if size <= len(sample)] or [len(sample)]

    def seconds(layout: Layout) -> float:
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        parts = torch.split(sample, cast("int", layout.batch_size))
        batches = [part.to(memory_format=order, copy=True) for part in parts]  # which a model may write into
        start = time.perf_counter()
        for batch in batches:
            forward(batch)
        if sample.is_cuda:
            torch.cuda.synchronize(sample.device)
        return time.perf_counter() - start

    with evaluation_mode(model):
        orders = (True, False) if sample.ndim == 4 else (False,)
        middle = sizes[len(sizes) // 2]
        order = _fastest(
            [replace(mode, batch_size=middle, channels_last=order) for order in orders], seconds
        ).channels_last
        return _fastest([replace(mode, batch_size=size, channels_last=order) for size in sizes], seconds)


def _fastest(layouts: Sequence[Layout], seconds: Callable[[Layout], float]) -> Layout:
    """The layout with the shortest timing; they take turns, so that a busy moment of the machine does not decide."""
    timings = [[seconds(layout) for layout in layouts] for _ in range(ROUNDS)]
    shortest = dict(zip(layouts, map(min, *timings), strict=True))
    return min(shortest, key=lambda layout: shortest[layout])
