"""A vision transformer: patches of an image are the tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from samson.experiments.networks._shapes import Shape, require_images
from samson.experiments.networks._transformer import Block, draw_transformer

PATCH, WIDTH, HEADS, BLOCKS = 4, 192, 3, 6


class VisionTransformer(nn.Module):
    """Patches and a class token with learned positions, blocks with the norm first, and a linear layer.

    Args:
        shape: Shape of an image; height and width are multiples of `PATCH`.
        outputs: Number of classes.
    """

    def __init__(self, shape: Shape, outputs: int) -> None:
        super().__init__()
        channels, height, across = shape
        self.patches = nn.Conv2d(channels, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(WIDTH))
        self.positions = nn.Embedding((height // PATCH) * (across // PATCH) + 1, WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, causal=False) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, outputs)
        draw_transformer(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, channels, height, width) to logits (batch, outputs)."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), 1, -1), patches], dim=1)
        hidden = self.blocks(tokens + self.positions(torch.arange(tokens.shape[1], device=x.device)))
        return cast("Tensor", self.head(self.norm(hidden[:, 0])))


def vit_small_patch4(shape: Shape, outputs: int) -> nn.Module:
    """A vision transformer for 32 x 32 images in patches of 4 x 4: 2,693,578 parameters for 3 channels and 10 classes.

    Six blocks of width 192 with 3 heads, without dropout.

    Reference: Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1, with sizes of our own.
    """
    require_images("vit-small-patch4", shape, side=PATCH, divisible=True)
    return VisionTransformer(shape, outputs)
