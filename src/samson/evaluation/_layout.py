"""How the data are put through a model: in which batches and memory order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from samson._batches import BATCH_SIZE, Examples, batches_of, is_pair
from samson._checks import require_whole
from samson.evaluation._scoring import device_of

CONVOLUTION_BATCH = 50
"""Examples in a batch of a convolutional network on a CPU, whose activations then stay in its caches."""


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
