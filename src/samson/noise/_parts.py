"""The parts of layers that compute with several weight matrices in one call: each as a linear layer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from samson._layers import LayerWeight, weights_of

WHOLE = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
"""Layers whose kernels take all their weights together and call no layer for each."""


class Part(nn.Module):
    """A weight matrix of such a layer as a linear layer; weight and bias stay where they are.

    Args:
        whole: The layer, which is no child of this one.
        matrix: Which of its weights.
    """

    def __init__(self, whole: nn.Module, matrix: LayerWeight) -> None:
        super().__init__()
        self._of = (whole,)
        self.matrix, self.name = matrix, matrix.part_name
        self.calls = 1
        """How often a pass calls it."""

    @property
    def whole(self) -> nn.Module:
        """The layer of which it is a part."""
        return self._of[0]

    @property
    def weight(self) -> Tensor:
        """The matrix as it is now."""
        return self.matrix.within(cast("Tensor", getattr(self.whole, self.matrix.attribute)))

    @property
    def bias(self) -> Tensor | None:
        """What is added to its outputs."""
        if isinstance(self.whole, nn.MultiheadAttention):
            biases = self.whole.in_proj_bias
            return None if biases is None else biases.chunk(3)["qkv".index(self.name)]
        return getattr(self.whole, self.matrix.attribute.replace("weight", "bias"), None)

    def forward(self, inputs: Tensor) -> Tensor:
        """The linear layer."""
        return F.linear(inputs, self.weight, self.bias)


def parts_of(whole: nn.Module) -> dict[str, Part]:
    """A layer's parts by name, `q`, `k` and `v` or as `ih_l0`: its children where it has them, else new ones."""
    if not isinstance(whole, WHOLE):
        return {}
    matrices = {matrix.part_name: matrix for matrix in weights_of(whole)}
    return {name: cast("Part", whole._modules.get(name)) or Part(whole, matrix) for name, matrix in matrices.items()}
