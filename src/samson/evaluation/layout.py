"""How the data are put through a model: in which batches, memory order and precision, and compiled or as written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from types import FunctionType
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from samson.evaluation.data import BATCH, Data, as_batches, is_pair
from samson.evaluation.scoring import device_of
from samson.noise.calibration import evaluation_mode
from samson.noise.names import suggestion

Autocast = Literal["bfloat16", "float16"]

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
        compiled: Whether the model is run by `torch.compile`, which compiles once for each of the first 8 shapes of a
            batch, for tens of seconds, and needs a compiler. The model itself stays as it is.

    Raises:
        ValueError: If an argument is out of range.
    """

    batch_size: int | None = BATCH
    channels_last: bool = False
    autocast: Autocast | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"`batch_size` must be ≥ 1, or None for data in batches, got {self.batch_size!r}.")
        known = get_args(Autocast)
        if self.autocast is not None and self.autocast not in known:
            raise ValueError(
                f"`autocast` must be a lower precision, or None, got {self.autocast!r}. "
                f"{suggestion(str(self.autocast), known)}"
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
        """What to call instead of the model.

        Outputs in less than float32 that `autocast` has made are given in float32: a loss or a mean of scores would
        round again what is measured.
        """
        call = _compiled(_shape(model)) if self.compiled else _call

        def run(*inputs: Any, **keywords: Any) -> Any:
            with self.lowered(model), _hooks_noticed() if self.compiled else nullcontext():
                output = call(model, *inputs, **keywords)
            return output if self.autocast is None else tree_map(_raised, output)

        return run

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


def _call(model: nn.Module, *inputs: Any, **keywords: Any) -> Any:
    return model(*inputs, **keywords)


@cache
def _compiled(shape: object) -> Callable[..., Any]:
    """`_call` for models of one shape, which share what is compiled; no model is kept alive by it.

    Each shape has code of its own, since torch stops compiling a function after 8 times. Sizes of batches are never
    taken together: which code computes a batch would then depend on what was computed before.
    """
    own = FunctionType(_call.__code__.replace(), globals())
    compiled: Callable[..., Any] = torch.compile(own, dynamic=False)
    return compiled


def _hooks_noticed() -> AbstractContextManager[object]:
    """A block in which what is compiled is compiled anew for a model with other hooks; torch's default ignores them."""
    import torch._dynamo.config as dynamo

    block: AbstractContextManager[object] = dynamo.patch(skip_nnmodule_hook_guards=False)
    return block


def _raised(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in (torch.bfloat16, torch.float16) else leaf


def _shape(model: nn.Module) -> tuple[object, ...]:
    """What must be the same for what was found or compiled to be used again."""
    return (
        tuple((name, tuple(p.shape), p.stride(), p.dtype) for name, p in model.named_parameters()),
        tuple(type(module) for module in model.modules()),
    )


def unaltered(layout: Layout | None) -> Layout:
    """A layout for derivatives: by default in batches of 256, the same on every machine.

    Raises:
        ValueError: If it is not plain.
    """
    layout = layout or Layout()
    if not layout.is_plain:
        raise ValueError(
            "`layout` must leave the model in its own precision and not compiled for a loss surface, got "
            f"{layout}. Use layout.plain."
        )
    return layout


_FOUND: dict[object, Layout] = {}
"""What was found in this process, by the shapes of model and data and the precision."""


def find_layout(model: nn.Module, data: Data, *, autocast: Autocast | None = None, compiled: bool = False) -> Layout:
    """Find the fastest layout for a pair of whole tensors; data in batches stay as they come.

    It is timed once for each shape and memory order of the model, shape of the input, precision, device and number of
    threads, with 2,400 examples at most on a CPU, and kept for the life of the process. Since timings vary, another
    process may find another; give it `layout=` then. For a compiled forward the same layout is taken as for one that is
    not: each that is tried would have to be compiled.

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
    inputs = cast("tuple[Tensor, Tensor]", data)[0]
    device = device_of(model)
    sizes: tuple[int, ...] = CPU_SIZES if device.type == "cpu" else GPU_SIZES
    sample = inputs[: max(sizes)]
    key = (*_shape(model), (tuple(sample.shape), sample.dtype, device, torch.get_num_threads()), autocast)
    if key not in _FOUND:
        _FOUND[key] = _timed(model, sample.to(device), sizes, replace(mode, compiled=False))
    return replace(_FOUND[key], compiled=compiled)


@torch.no_grad()
def _timed(model: nn.Module, sample: Tensor, sizes: Sequence[int], mode: Layout) -> Layout:
    forward = mode.forward(model)
    sizes = [size for size in sizes if size <= len(sample)] or [len(sample)]

    def seconds(layout: Layout) -> float:
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        batches = [part.contiguous(memory_format=order) for part in torch.split(sample, cast("int", layout.batch_size))]
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
