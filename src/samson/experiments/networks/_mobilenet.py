"""MobileNetV2: narrow maps with shortcuts, between them wide ones that a convolution reads channel by channel."""

from __future__ import annotations

from torch import Tensor, nn

from samson.experiments.networks._convolutions import classifier, conv_norm_relu
from samson.experiments.networks._shapes import Shape, require_images

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each stage, as published."""


class InvertedResidual(nn.Module):
    """Widen with a 1 x 1 convolution, filter each channel with a 3 x 3 one, narrow with a linear 1 x 1 one.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output; with as many as inputs, and stride 1, there is a shortcut.
        stride: Stride of the 3 x 3 convolution.
        expansion: Channels between, in multiples of `inputs`; with 1 the first convolution is left out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * inputs
        self.layers = nn.Sequential(
            conv_norm_relu(inputs, wide, size=1, relu=nn.ReLU6) if expansion > 1 else nn.Identity(),
            conv_norm_relu(wide, wide, stride=stride, groups=wide, relu=nn.ReLU6),
            conv_norm_relu(wide, outputs, size=1, relu=nn.Identity),
        )
        self.is_residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        hidden: Tensor = self.layers(x)
        return x + hidden if self.is_residual else hidden


def mobilenetv2(shape: Shape, outputs: int) -> nn.Module:
    """MobileNetV2 with strides for 32 x 32 images: 2,236,682 parameters for 3 channels and 10 classes.

    Reference: Sandler et al. 2018, arXiv 1801.04381, table 2. Two strides of 2 are 1 here, that of the stem and that
    of the stage of 24 channels, so that a 32 x 32 image ends as a 4 x 4 map. Without dropout.
    """
    return _mobilenet("mobilenetv2", shape, outputs, 1.0)


def mobilenetv2_narrow(shape: Shape, outputs: int) -> nn.Module:
    """MobileNetV2 at width multiplier 0.5 for 32 x 32 images: 700,490 parameters for 3 channels and 10 classes.

    Reference: as `mobilenetv2`, and section 6.1: the last convolution is as wide as ever. Channels are rounded to the
    nearest multiple of 8, halves up.
    """
    return _mobilenet("mobilenetv2-narrow", shape, outputs, 0.5)


def mobilenetv2_tiny(shape: Shape, outputs: int) -> nn.Module:
    """MobileNetV2 at width multiplier 0.35, for few processor cores: 399,338 parameters for 3 channels and 10 classes.

    Reference: as `mobilenetv2-narrow`; the narrowest in the table beside the authors' code. Only the stride of the stem
    is 1, so that a 32 x 32 image ends as a 2 x 2 map; layers with large maps take most of a step's time.
    """
    return _mobilenet("mobilenetv2-tiny", shape, outputs, 0.35, small=True)


def _mobilenet(name: str, shape: Shape, outputs: int, multiplier: float, *, small: bool = False) -> nn.Module:
    """Make one; with small maps, the stage of 24 channels has its published stride."""
    require_images(name, shape)
    width, last = _rounded(32 * multiplier), 1280
    features: list[nn.Module] = [conv_norm_relu(shape[0], width, relu=nn.ReLU6)]
    for expansion, channels, blocks, stride in STAGES:
        first = 1 if channels == 24 and not small else stride
        for block in range(blocks):
            inputs, width = width, _rounded(channels * multiplier)
            features.append(InvertedResidual(inputs, width, 1 if block else first, expansion))
    return classifier([*features, conv_norm_relu(width, last, size=1, relu=nn.ReLU6)], last, outputs)


def _rounded(channels: float) -> int:
    return max(8, 8 * int(channels / 8 + 0.5))
