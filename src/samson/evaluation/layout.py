"""How the data are put through a model: the batch size and memory order in which it runs fastest here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from samson.evaluation.data import BATCH, Data, as_batches, is_pair
from samson.noise.calibration import evaluation_mode

CPU_SIZES = (25, 50, 100, 200)
GPU_SIZES = (256, 1024, 4096)


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
        """The data in batches."""
        return as_batches(data, self.batch_size or BATCH)


_FOUND: dict[object, Layout] = {}
"""What was found in this process, by the shapes of model and data."""


def find_layout(model: nn.Module, data: Data) -> Layout:
    """Find the fastest layout for a pair of whole tensors; data in batches stay as they come.

    It is timed once for each shape of model and input, device and number of threads, over about 2,000 examples, and
    kept for the life of the process. Since timings vary, another process may find another; give it `layout=` then.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
    """
    if not is_pair(data):
        return Layout(batch_size=None)
    inputs = cast("tuple[Tensor, Tensor]", data)[0]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    key = (
        tuple((name, tuple(p.shape), p.dtype) for name, p in model.named_parameters()),
        tuple(type(module) for module in model.modules()),
        (tuple(inputs.shape[1:]), inputs.dtype, device, torch.get_num_threads()),
    )
    if key not in _FOUND:
        _FOUND[key] = _timed(model, inputs, device)
    return _FOUND[key]


@torch.no_grad()
def _timed(model: nn.Module, inputs: Tensor, device: torch.device) -> Layout:
    known: tuple[int, ...] = CPU_SIZES if device.type == "cpu" else GPU_SIZES
    sample = inputs[: max(known)].to(device)
    sizes = tuple(size for size in known if size <= len(sample)) or (len(sample),)

    def seconds(layout: Layout) -> float:
        order = torch.channels_last if layout.channels_last else torch.contiguous_format
        batches = [part.contiguous(memory_format=order) for part in torch.split(sample, cast("int", layout.batch_size))]
        best = float("inf")
        for _ in range(2):
            start = time.perf_counter()
            for batch in batches:
                model(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
        return best

    with evaluation_mode(model):
        orders = (False, True) if sample.ndim == 4 else (False,)
        last = min(orders, key=lambda order: seconds(Layout(sizes[len(sizes) // 2], order)))
        return min((Layout(size, last) for size in sizes), key=seconds)
