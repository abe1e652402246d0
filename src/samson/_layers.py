"""The weight matrices that each type of layer holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Size, Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

DIGITAL = (nn.Embedding, nn.EmbeddingBag)
"""Layers whose weights stay digital unless they are asked for: a look-up is no product."""

INPUT_RANGE = "input_range"
"""Name of the parameter under which a layer that is trained through a chip holds the range of its inputs."""


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled or wraps one that is: what is done within is not seen from outside."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def is_input_range(name: str) -> bool:
    """Whether a parameter of that name, in full, is such a range."""
    return name.rpartition(".")[2] == INPUT_RANGE


@dataclass(frozen=True)
class LayerWeight:
    """One weight matrix of a layer.

    Args:
        attribute: Name of the layer's attribute that holds it.
        part: Its name within the attribute, where several matrices are packed into one; else empty.
        rows: Its rows within the attribute, or the number of an expert along the first axis; None for all.
        groups: Where inputs lie along the first axis, the number of groups of channels; else 0.
    """

    attribute: str
    part: str = ""
    rows: slice | int | None = None
    groups: int = 0

    @property
    def name(self) -> str:
        """The attribute's name, and that of the part."""
        return f"{self.attribute}.{self.part}" if self.part else self.attribute

    @property
    def part_name(self) -> str:
        """As a layer of its own: `q` of attention, `ih_l0` of a recurrent layer; the attribute's name elsewhere."""
        return self.part or self.attribute.removeprefix("weight_").removesuffix("_proj_weight")

    def within(self, tensor: Tensor) -> Tensor:
        """This matrix's part of the attribute's tensor, a view."""
        return tensor if self.rows is None else tensor[self.rows]

    def output_first(self, matrix: Tensor) -> Tensor:
        """The matrix with its output channels along the first axis."""
        return exchanged(matrix, self.groups) if self.groups else matrix

    def stored(self, matrix: Tensor) -> Tensor:
        """The inverse of `output_first`."""
        return self.output_first(matrix)


def exchanged(weight: Tensor, groups: int) -> Tensor:
    """The first two axes exchanged within each group of the first one: (in, out / groups, …) as (out, in / groups, …).

    So transposed convolutions are stored. Its own inverse.
    """
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def weights_of(layer: nn.Module) -> list[LayerWeight]:
    """List a layer's own weight matrices, without those of its children; empty for an unknown type.

    The gates of a recurrent layer are one matrix, as they read the same inputs. Queries, keys and values are three,
    also where torch packs them into one parameter. Experts are parameters with three axes of a layer that says how many
    it has (`num_experts`), the outputs of each before its inputs, or behind them if `is_transposed`: one matrix each.
    Biases are no matrices.
    """
    match layer:
        case nn.MultiheadAttention(_qkv_same_embed_dim=True, embed_dim=n):
            found = [LayerWeight("in_proj_weight", p, slice(i * n, (i + 1) * n)) for i, p in enumerate("qkv")]
        case nn.MultiheadAttention():
            found = [LayerWeight(f"{part}_proj_weight") for part in "qkv"]
        case nn.RNNBase():
            found = [LayerWeight(name) for name in layer._flat_weights_names if name.startswith("weight")]
        case nn.RNNCellBase():
            found = [LayerWeight("weight_ih"), LayerWeight("weight_hh")]
        case _ConvTransposeNd():
            found = [LayerWeight("weight", groups=layer.groups)]
        case nn.Embedding() | nn.EmbeddingBag():
            found = [LayerWeight("weight", groups=1)]
        case nn.Linear() | _ConvNd() | nn.Bilinear():
            found = [LayerWeight("weight")]
        case _ if (first := inputs_first(layer)) is not None:
            found = [LayerWeight("weight", groups=int(first))]
        case _:
            found = _experts_of(layer)
    return found


def unknown_weights_of(layer: nn.Module) -> list[LayerWeight]:
    """What may be a weight matrix in a layer of an unknown type: its own parameters with two or more axes."""
    return [LayerWeight(name) for name, axes in _axes_of(layer).items() if len(axes) >= 2]


def _experts_of(layer: nn.Module) -> list[LayerWeight]:
    count = getattr(layer, "num_experts", None)
    packed = [name for name, axes in _axes_of(layer).items() if len(axes) == 3 and axes[0] == count]
    groups = int(bool(getattr(layer, "is_transposed", False)))
    return [LayerWeight(name, str(i), i, groups) for name in packed for i in range(int(count or 0))]


def _axes_of(layer: nn.Module) -> dict[str, Size]:
    """The shape of each of its own parameters that has one already."""
    return {name: p.shape for name, p in layer._parameters.items() if p is not None and not nn.parameter.is_lazy(p)}


_ELSEWHERE = {"transformers.pytorch_utils.Conv1D": True, "torch_geometric.nn.dense.linear.Linear": False}
"""Linear layers of other libraries, and whether they hold inputs first."""


def inputs_first(layer: nn.Module) -> bool | None:
    """Whether a linear layer of another library (GPT-2's, PyTorch Geometric's) stores its weight as (in, out).

    None for any other layer.
    """
    return _ELSEWHERE.get(f"{type(layer).__module__}.{type(layer).__qualname__}")
