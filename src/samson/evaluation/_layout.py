"""How the data are put through a model: in which batches and memory order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from samson._batches import BATCH_SIZE, Examples, batches_of, is_pair, require_module
from samson._checks import require_whole
from samson._modes import evaluation_mode
from samson.evaluation._scoring import device_of

CONVOLUTION_BATCH = 50
"""Examples in a batch of a convolutional network on a CPU, whose activations then stay in its caches."""
CPU_SIZES = (25, 50, 100, 200)
GPU_SIZES = (256, 1024, 4096)
ROUNDS = 2


@dataclass(frozen=True)
class Layout:
    """How examples are put through a model. Results are the same bit for bit only for the same layout.

    Args:
        batch_size: Examples in a batch; None where the data come in batches already.
        channels_last: Whether 4-d inputs are put in channels-last order.

    Raises:
        ValueError: If `batch_size` is no whole number, or below 1.
    """

    batch_size: int | None = BATCH_SIZE
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            require_whole(1, batch_size=self.batch_size)

    @classmethod
    def of(cls, model: nn.Module, data: Examples) -> Layout:
        """The default for a model, which no timing decides: every process has the same.

        Data in batches stay as they come. Whole tensors are cut into batches of 256; for convolutions on a CPU of 50,
        in channels-last order, which is fastest there for many networks.
        """
        if not is_pair(data):
            return cls(None)
        convolves = any(isinstance(module, _ConvNd) for module in model.modules())
        if convolves and device_of(model).type == "cpu":
            return cls(CONVOLUTION_BATCH, channels_last=data[0].ndim == 4)
        return cls()

    def batches(self, data: Examples) -> Iterable[Any]:
        """The data in batches; whole tensors are put in order once, not again for every chip."""
        if self.channels_last and is_pair(data) and data[0].ndim == 4:
            data = data[0].contiguous(memory_format=torch.channels_last), data[1]
        return batches_of(data, self.batch_size or BATCH_SIZE)


def find_layout(model: nn.Module, data: Examples) -> Layout:
    """Find the fastest layout for a pair of whole tensors, by timing; data in batches stay as they come.

    It takes a few passes over 200 examples (on a CPU). Since timings vary, another process may find another layout, and
    results then differ in their last digits: find one once, and hand it to every evaluation as `layout=`.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.

    Example:
        >>> find_layout(nn.Linear(4, 3), (torch.randn(64, 4), torch.randint(3, (64,)))).channels_last
        False
    """
    require_module(model)
    batches_of(data)  # whatever is wrong with them
    if not is_pair(data):
        return Layout(None)
    device = device_of(model)
    sizes: tuple[int, ...] = CPU_SIZES if device.type == "cpu" else GPU_SIZES
    sample = data[0][: max(sizes)].to(device)
    sizes = tuple(size for size in sizes if size <= len(sample)) or (len(sample),)

    def seconds(layout: Layout) -> float:
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        parts = torch.split(sample, layout.batch_size or len(sample))
        batches = [part.to(memory_format=order, copy=True) for part in parts]  # which a model may write into
        start = time.perf_counter()
        for batch in batches:
            model(batch)
        if sample.is_cuda:
            torch.cuda.synchronize(sample.device)
        return time.perf_counter() - start

    with torch.no_grad(), evaluation_mode(model):
        orders = (True, False) if sample.ndim == 4 else (False,)
        best = _fastest([Layout(sizes[len(sizes) // 2], order) for order in orders], seconds)
        return _fastest([replace(best, batch_size=size) for size in sizes], seconds)


def _fastest(layouts: Sequence[Layout], seconds: Callable[[Layout], float]) -> Layout:
    """The layout with the shortest timing; they take turns, so that a busy moment of the machine does not decide."""
    timings = [[seconds(layout) for layout in layouts] for _ in range(ROUNDS)]
    shortest = dict(zip(layouts, map(min, *timings), strict=True))
    return min(shortest, key=lambda layout: shortest[layout])
