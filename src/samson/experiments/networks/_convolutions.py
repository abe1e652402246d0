"""What networks for images have in common: blocks of a convolution, the way to a classifier, the initial weights."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def conv_norm_relu(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, relu: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """A convolution, batch norm and a rectifier: (batch, inputs, height, width) to (batch, outputs, ⌈· / stride⌉)."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), relu())


def block_sizes(inputs: int, widths: Sequence[int], depth: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Give (inputs, outputs, stride) of each block of a residual network; every stage but the first halves the map.

    Args:
        inputs: Channels of the stem.
        widths: Channels of each stage.
        depth: Number of blocks of each stage.

    Example:
        >>> list(block_sizes(16, (16, 32), (1, 2)))
        [(16, 16, 1), (16, 32, 2), (32, 32, 1)]
    """
    for stage, (width, blocks) in enumerate(zip(widths, depth, strict=True)):
        for block in range(blocks):
            yield inputs, width, 2 if stage and not block else 1
            inputs = width


def classifier(features: Iterable[nn.Module], width: int, outputs: int) -> nn.Sequential:
    """Put features of `width` channels, their mean over the map and one linear layer behind each other."""
    parts = {
        "features": nn.Sequential(*features),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": nn.Linear(width, outputs),
    }
    return draw_convolutions(nn.Sequential(OrderedDict(parts)))


def draw_convolutions(network: Network) -> Network:
    """Draw every convolution anew: normal with variance 2 / fan-out, where a group counts its own outputs only.

    Reference: He et al. 2015, arXiv 1502.01852, equation 14.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * math.prod(layer.kernel_size) / layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    return network
