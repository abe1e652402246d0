"""Blocks of a transformer whose every weight matrix is a linear layer, so that each can lie on a chip."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention of `heads` heads, with queries, keys and values from one linear layer.

    Args:
        width: Width of a token, a multiple of `heads`.
        heads: Number of heads.
        causal: Whether a token reads only itself and those before it.

    Reference: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        # (batch, length, 3 · width) to three of (batch, heads, length, width / heads)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return cast("Tensor", self.out(read.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Attention, then two linear layers with a GELU between, each after a layer norm and around a shortcut.

    Args:
        width: Width of a token; within the two linear layers it is four times that.
        heads: Number of heads.
        causal: Whether a token reads only itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        x = x + self.attention(self.norm1(x))
        return cast("Tensor", x + self.narrow(functional.gelu(self.widen(self.norm2(x)))))


def draw_transformer(network: nn.Module) -> None:
    """Draw linear layers and embeddings anew: normal with a standard deviation of 0.02, biases at zero."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
