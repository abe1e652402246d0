"""Networks of the comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut, as in He et al. 2016 (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        hidden = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A residual network for 8 x 8 images: a stem and blocks of 16, 32 and 64 channels, about 78,000 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, stride=1), ResidualBlock(16, 32, stride=2), ResidualBlock(32, 64, stride=2)
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 1, 8, 8) to logits (batch, classes)."""
        hidden: Tensor = self.blocks(functional.relu(self.norm(self.stem(x))))
        return cast("Tensor", self.head(hidden.mean(dim=(2, 3))))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"small-resnet": SmallResNet}
"""Networks by name, made from a number of classes."""


def build_network(name: str, classes: int, seed: int) -> nn.Module:
    """Make a network with its initial weights drawn from a seed; global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](classes)
