"""Residual networks: a block's input is added to what its two convolutions make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from samson.experiments.networks._convolutions import block_sizes, draw_convolutions
from samson.experiments.networks._shapes import Shape, require_images

Shortcut = Callable[[int, int, int], nn.Module]
"""Makes the way around a block that changes the shape, from (inputs, outputs, stride)."""


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A 1 x 1 convolution with batch norm: option B of the paper."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Padding(nn.Module):
    """Every `stride`-th pixel, and zeros for the channels that are new: option A of the paper, without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut, as in He et al. 2016 (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut = projection) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        changes = inputs != outputs or stride != 1
        self.shortcut = shortcut(inputs, outputs, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        hidden = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3 x 3 stem, stages of residual blocks of which all but the first halve the map, and a linear layer.

    Args:
        channels: Channels of an image.
        outputs: Number of classes.
        widths: Channels of each stage; the stem has those of the first.
        depth: Number of blocks of each stage.
        shortcut: The way around blocks that change the shape.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        widths: Sequence[int],
        depth: Sequence[int],
        shortcut: Shortcut = projection,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(
            *(ResidualBlock(*sizes, shortcut=shortcut) for sizes in block_sizes(widths[0], widths, depth))
        )
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, channels, height, width) to logits (batch, outputs)."""
        hidden: Tensor = self.blocks(functional.relu(self.norm(self.stem(x))))
        return cast("Tensor", self.head(hidden.mean(dim=(2, 3))))


def small_resnet(shape: Shape, outputs: int) -> nn.Module:
    """A residual network for 8 x 8 images: a stem and blocks of 16, 32 and 64 channels, about 78,000 parameters.

    Initial weights are torch's own. Reference: sizes of our own, blocks of He et al. 2016, arXiv 1512.03385.
    """
    require_images("small-resnet", shape)
    return ResNet(shape[0], outputs, (16, 32, 64), (1, 1, 1))


def resnet8(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-8 of width 16 for 32 x 32 images: 75,290 parameters for 3 channels and 10 classes.

    Reference: He et al. 2016, arXiv 1512.03385, section 4.2, whose smallest has 20 layers; this one has n = 1.
    """
    return _cifar("resnet8", shape, outputs, 1)


def resnet20(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-20 of width 16 for 32 x 32 images: 269,722 parameters for 3 channels and 10 classes.

    Reference: He et al. 2016, arXiv 1512.03385, section 4.2 and table 6.
    """
    return _cifar("resnet20", shape, outputs, 3)


def resnet18(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-18 with a stem for 32 x 32 images: 11,173,962 parameters for 3 channels and 10 classes.

    Reference: He et al. 2016, arXiv 1512.03385, table 1. For small images the stem is a 3 x 3 convolution of stride 1
    and no pooling follows.
    """
    return _deep("resnet18", shape, outputs, (2, 2, 2, 2))


def resnet34(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-34 with a stem for 32 x 32 images: 21,282,122 parameters for 3 channels and 10 classes.

    Reference: He et al. 2016, arXiv 1512.03385, table 1, with the stem of `resnet18`.
    """
    return _deep("resnet34", shape, outputs, (3, 4, 6, 3))


def _cifar(name: str, shape: Shape, outputs: int, n: int) -> ResNet:
    """A network of 6 n + 2 layers."""
    require_images(name, shape)
    return draw_convolutions(ResNet(shape[0], outputs, (16, 32, 64), (n, n, n), Padding))


def _deep(name: str, shape: Shape, outputs: int, depth: Sequence[int]) -> ResNet:
    require_images(name, shape)
    return draw_convolutions(ResNet(shape[0], outputs, (64, 128, 256, 512), depth))
