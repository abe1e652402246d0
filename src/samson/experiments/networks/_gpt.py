"""A decoder-only transformer: it says at each token what the next one will be."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from samson.experiments.networks._shapes import Shape, require_kind
from samson.experiments.networks._transformer import Block, draw_transformer


class GPT(nn.Module):
    """Tokens with learned positions, causal blocks with the norm first, and a head that shares no weights.

    What a block adds to its shortcut starts smaller by √(2 · blocks), as in GPT-2.

    Args:
        context: Largest number of tokens.
        vocabulary: Number of different tokens.
        width: Width of a token.
        heads: Number of heads.
        blocks: Number of blocks.
    """

    def __init__(self, context: int, vocabulary: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        made = [Block(width, heads, causal=True) for _ in range(blocks)]
        self.blocks = nn.Sequential(*made)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        draw_transformer(self)
        with torch.no_grad():
            for block in made:
                for layer in (block.attention.out, block.narrow):
                    layer.weight /= math.sqrt(2 * blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map token numbers (batch, length ≤ context), int64, to logits (batch, length, vocabulary)."""
        hidden = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        return cast("Tensor", self.head(self.norm(self.blocks(hidden))))


def gpt_small(shape: Shape, outputs: int) -> nn.Module:
    """A decoder-only transformer of 4 blocks of width 128: 891,648 parameters for 256 tokens of 256 kinds.

    Four heads, without dropout. The example's length is the context, the outputs are the vocabulary.

    Reference: Radford et al. 2019, Language models are unsupervised multitask learners, section 2.3, after Radford et
    al. 2018; sizes of our own, GELU not approximated, embedding and head not tied.
    """
    require_kind("gpt-small", shape, "tokens")
    return GPT(shape[0], outputs, width=128, heads=4, blocks=4)


def gpt_tiny(shape: Shape, outputs: int) -> nn.Module:
    """A decoder-only transformer of 2 blocks of width 64: 149,248 parameters for 256 tokens of 256 kinds.

    Reference: as `gpt-small`, with sizes of our own.
    """
    require_kind("gpt-tiny", shape, "tokens")
    return GPT(shape[0], outputs, width=64, heads=4, blocks=2)
