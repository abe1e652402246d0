"""DenseNet: each layer reads the channels of all layers before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samson.experiments.networks._convolutions import classifier
from samson.experiments.networks._shapes import Shape, require_images

GROWTH = 12
LAYERS = 12


class DenseLayer(nn.Module):
    """Batch norm, a rectifier and a 3 x 3 convolution, whose `GROWTH` channels are put behind those of the input."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, inputs + GROWTH, height, width)."""
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], dim=1)


def densenet40(shape: Shape, outputs: int) -> nn.Module:
    """DenseNet-40 of growth 12 for 32 x 32 images: 1,019,722 parameters for 3 channels and 10 classes.

    Three dense blocks of 12 layers without bottlenecks, between them a 1 x 1 convolution that keeps the channels and
    a pooling.

    Reference: Huang et al. 2017, arXiv 1608.06993, section 3 and table 2 (k = 12, depth 40), without dropout.
    """
    require_images("densenet40", shape, side=4)
    width = 16
    features: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            convolution = nn.Conv2d(width, width, 1, bias=False)
            features += [nn.BatchNorm2d(width), nn.ReLU(), convolution, nn.AvgPool2d(2)]
        features += [DenseLayer(width + layer * GROWTH) for layer in range(LAYERS)]
        width += LAYERS * GROWTH
    return classifier([*features, nn.BatchNorm2d(width), nn.ReLU()], width, outputs)
