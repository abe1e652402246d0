"""A ResNet-18 for small images, and a network on the torch tiles of aihwkit."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 as it is used for CIFAR-10: its first convolution is 3 x 3 with stride 1, without pooling."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [_convolution(3, 64, 3, 1), nn.ReLU()]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def on_torch_tiles(model: nn.Module, time_s: float) -> tuple[nn.Module, Callable[[], None]] | None:
    """A copy on aihwkit's torch tiles with perfect inputs and outputs, and what makes it another chip at a time.

    The tiles are otherwise as they come: PCM with programming noise, drift and read noise, and global drift
    compensation.

    Returns:
        None where aihwkit is not installed.
    """
    if find_spec("aihwkit") is None:
        return None
    configs: Any = importlib.import_module("aihwkit.simulator.configs")
    inference: Any = importlib.import_module("aihwkit.inference.utils")
    configuration = configs.TorchInferenceRPUConfig()
    configuration.forward.is_perfect = True
    convert: Any = importlib.import_module("aihwkit.nn.conversion").convert_to_analog
    analog: nn.Module = convert(copy.deepcopy(model), configuration).eval()

    def new_chip() -> None:
        inference.program_analog_weights(analog, None)
        inference.drift_analog_weights(analog, time_s)

    return analog, new_chip


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
