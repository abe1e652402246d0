"""Wide residual networks: few blocks with many channels, where norm and rectifier come before the convolution."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from samson.experiments.networks._convolutions import block_sizes, classifier
from samson.experiments.networks._shapes import Shape, require_images


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch norm and a rectifier, around a shortcut: figure 1(c) of the paper."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        active = functional.relu(self.norm1(x))
        hidden = self.conv2(functional.relu(self.norm2(self.conv1(active))))
        return cast("Tensor", hidden + (x if self.shortcut is None else self.shortcut(active)))


def wrn16_4(shape: Shape, outputs: int) -> nn.Module:
    """WRN-16-4, 4 times as wide as a ResNet for 32 x 32 images: 2,748,890 parameters for 3 channels and 10 classes.

    Reference: Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 1, without dropout.
    """
    return _wide("wrn16-4", shape, outputs, 16, 4)


def wrn28_10(shape: Shape, outputs: int) -> nn.Module:
    """WRN-28-10, 10 times as wide as a ResNet for 32 x 32 images: 36,479,194 parameters for 3 channels and 10 classes.

    Reference: Zagoruyko and Komodakis 2016, arXiv 1605.07146, tables 1 and 4, without dropout.
    """
    return _wide("wrn28-10", shape, outputs, 28, 10)


def _wide(name: str, shape: Shape, outputs: int, layers: int, widening: int) -> nn.Module:
    """A network of 3 stages with (layers - 4) / 6 blocks each."""
    require_images(name, shape)
    widths, n = [widening * width for width in (16, 32, 64)], (layers - 4) // 6
    stem = nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)
    blocks = [WideBlock(*sizes) for sizes in block_sizes(16, widths, (n, n, n))]
    return classifier([stem, *blocks, nn.BatchNorm2d(widths[-1]), nn.ReLU()], widths[-1], outputs)
