"""VGG: pairs of 3 x 3 convolutions with a pooling between them, and no shortcuts."""

from __future__ import annotations

from torch import nn

from samson.experiments.networks._convolutions import classifier, conv_norm_relu
from samson.experiments.networks._shapes import Shape, require_images


def vgg13(shape: Shape, outputs: int) -> nn.Module:
    """VGG-13 with batch norm for 28 x 28 or 32 x 32 images: 9,413,066 parameters for 3 channels and 10 classes.

    Reference: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1 column B. For small images the fifth pooling is
    the mean over the map, and one linear layer on its 512 channels is in the place of three. Batch norm is added.
    """
    return _vgg("vgg13", shape, outputs, (64, 128, 256, 512, 512))


def vgg13_narrow(shape: Shape, outputs: int) -> nn.Module:
    """VGG-13 with batch norm and a quarter of the channels: 590,714 parameters for 3 channels and 10 classes.

    Reference: as `vgg13`, with widths of our own.
    """
    return _vgg("vgg13-narrow", shape, outputs, (16, 32, 64, 128, 128))


def _vgg(name: str, shape: Shape, outputs: int, widths: tuple[int, ...]) -> nn.Module:
    require_images(name, shape, side=16)
    features: list[nn.Module] = []
    for inputs, width in zip((shape[0], *widths), widths, strict=False):
        features += [conv_norm_relu(inputs, width), conv_norm_relu(width, width), nn.MaxPool2d(2)]
    return classifier(features[:-1], widths[-1], outputs)
