"""How the data are put through a model: the batch size and memory order in which it runs fastest here."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from samson.evaluation.data import BATCH, Data, as_batches, is_pair
from samson.evaluation.scoring import device_of
from samson.noise.calibration import evaluation_mode

CPU_SIZES = (25, 50, 100, 200)
GPU_SIZES = (256, 1024, 4096)
ROUNDS = 2


@dataclass(frozen=True)
class Layout:
    """How examples are put through a model. Results are the same bit for bit only for the same layout.

    Args:
        batch_size: Examples in a batch; None where the data come in batches already.
        channels_last: Whether 4-d inputs are put in channels-last order.
    """

    batch_size: int | None = BATCH
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"`batch_size` must be ≥ 1, or None for data in batches, got {self.batch_size!r}.")

    def batches(self, data: Data) -> Iterable[Any]:
        """The data in batches; whole tensors are put in order once, not again for every chip."""
        if self.channels_last and is_pair(data):
            inputs, targets = cast("tuple[Tensor, Tensor]", data)
            data = inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs, targets
        return as_batches(data, self.batch_size or BATCH)


_FOUND: dict[object, Layout] = {}
"""What was found in this process, by the shapes of model and data."""


def find_layout(model: nn.Module, data: Data) -> Layout:
    """Find the fastest layout for a pair of whole tensors; data in batches stay as they come.

    It is timed once for each shape and memory order of the model, shape of the input, device and number of threads
    (`layout_key`), with 2,400 examples at most on a CPU, and kept for the life of the process. Since timings vary,
    another process may find another; give it `layout=` then, or `executor=Kept(folder)`.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
    """
    if not is_pair(data):
        return Layout(batch_size=None)
    key = layout_key(model, data)
    if key not in _FOUND:
        device, sizes = device_of(model), _sizes(model)
        _FOUND[key] = _timed(model, cast("tuple[Tensor, Tensor]", data)[0][: max(sizes)].to(device), sizes)
    return _FOUND[key]


def layout_key(model: nn.Module, data: Data) -> Hashable:
    """What a layout is found for: models, and data of whole tensors, with the same key have the same."""
    sample = cast("tuple[Tensor, Tensor]", data)[0][: max(_sizes(model))]
    return (
        tuple((name, tuple(p.shape), p.stride(), p.dtype) for name, p in model.named_parameters()),
        tuple(type(module) for module in model.modules()),
        (tuple(sample.shape), sample.dtype, device_of(model), torch.get_num_threads()),
    )


def _sizes(model: nn.Module) -> tuple[int, ...]:
    return CPU_SIZES if device_of(model).type == "cpu" else GPU_SIZES


@torch.no_grad()
def _timed(model: nn.Module, sample: Tensor, sizes: Sequence[int]) -> Layout:
    sizes = [size for size in sizes if size <= len(sample)] or [len(sample)]

    def seconds(layout: Layout) -> float:
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        batches = [part.contiguous(memory_format=order) for part in torch.split(sample, cast("int", layout.batch_size))]
        start = time.perf_counter()
        for batch in batches:
            model(batch)
        if sample.is_cuda:
            torch.cuda.synchronize(sample.device)
        return time.perf_counter() - start

    with evaluation_mode(model):
        orders = (True, False) if sample.ndim == 4 else (False,)
        order = _fastest([Layout(sizes[len(sizes) // 2], order) for order in orders], seconds).channels_last
        return _fastest([Layout(size, order) for size in sizes], seconds)


def _fastest(layouts: Sequence[Layout], seconds: Callable[[Layout], float]) -> Layout:
    """The layout with the shortest timing; they take turns, so that a busy moment of the machine does not decide."""
    timings = [[seconds(layout) for layout in layouts] for _ in range(ROUNDS)]
    shortest = dict(zip(layouts, map(min, *timings), strict=True))
    return min(shortest, key=lambda layout: shortest[layout])
