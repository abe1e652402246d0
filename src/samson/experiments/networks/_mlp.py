"""A network of linear layers only."""

from __future__ import annotations

import math

from torch import nn

from samson.experiments.networks._shapes import Shape, require_kind


def mlp(shape: Shape, outputs: int) -> nn.Module:
    """Two hidden layers of 256 on the flattened example: 269,322 parameters for a 28 x 28 image and 10 classes.

    Reference: LeCun et al. 1998, Proceedings of the IEEE 86, 2278, section III (two-hidden-layer networks), with
    rectifiers and widths of our own.
    """
    require_kind("mlp", shape, "images", "series", "vectors")
    hidden = (nn.Linear(math.prod(shape), 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, outputs))
