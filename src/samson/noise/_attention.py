"""Attention whose projections hooks reach: four linear layers around a core without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from samson._layers import weights_of

PARTS = "qkv"


class Projection(nn.Module):
    """The queries, keys or values of an attention layer as a linear layer; weight and bias stay where they are.

    Args:
        attention: The layer, which is no child of this one.
        part: "q", "k" or "v".
    """

    def __init__(self, attention: nn.MultiheadAttention, part: str) -> None:
        super().__init__()
        self._of = (attention,)
        self.part, self.matrix = part, weights_of(attention)[PARTS.index(part)]

    @property
    def attention(self) -> nn.MultiheadAttention:
        """The layer whose projection it is."""
        return self._of[0]

    @property
    def weight(self) -> Tensor:
        """Its part of the attention's weight as that is now."""
        return self.matrix.within(cast("Tensor", getattr(self.attention, self.matrix.attribute)))

    @property
    def bias(self) -> Tensor | None:
        """Its part of the attention's bias."""
        biases = self.attention.in_proj_bias
        return None if biases is None else biases.chunk(len(PARTS))[PARTS.index(self.part)]

    def forward(self, inputs: Tensor) -> Tensor:
        """The linear layer."""
        return F.linear(inputs, self.weight, self.bias)


def projections_of(attention: nn.MultiheadAttention) -> list[Projection]:
    """The projections of an attention layer's inputs: its children where it has them already, else new ones."""
    known = attention._modules
    return [cast("Projection", known[part]) if part in known else Projection(attention, part) for part in PARTS]


def attend(
    layer: nn.MultiheadAttention, args: tuple[Any, ...], keywords: Mapping[str, Any], output: object
) -> tuple[Tensor, Tensor | None]:
    """As a forward hook: what attention gives if it computes by its children `q`, `k`, `v` and `out_proj`.

    Torch's own kernels take all weights together and call no layer. Here they have the identity for every weight.
    """
    return _attend(layer, *args, **keywords)


def _attend(
    layer: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The arguments are those of torch's own `forward`."""
    inputs = [part(x) for part, x in zip(projections_of(layer), (query, key, value), strict=True)]
    swapped = layer.batch_first and query.ndim == 3
    q, k, v = (x.transpose(0, 1) for x in inputs) if swapped else inputs
    same = torch.eye(layer.embed_dim, dtype=q.dtype, device=q.device)
    heads, weights = F.multi_head_attention_forward(
        *(q, k, v, layer.embed_dim, layer.num_heads, None, None),
        *(layer.bias_k, layer.bias_v, layer.add_zero_attn, layer.dropout, same, None),
        training=layer.training,
        key_padding_mask=key_padding_mask,
        need_weights=need_weights,
        attn_mask=attn_mask,
        use_separate_proj_weight=True,
        q_proj_weight=same,
        k_proj_weight=same,
        v_proj_weight=same,
        average_attn_weights=average_attn_weights,
        is_causal=is_causal,
    )
    return layer.out_proj(heads.transpose(0, 1) if swapped else heads), weights


def with_projections(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[nn.MultiheadAttention]:
    """The attention layers of which one of these layers is a part."""
    some = [layer.attention if isinstance(layer, Projection) else layer for layer in layers.values()]
    chosen = {id(layer) for layer in some}
    every = [layer for layer in model.modules() if isinstance(layer, nn.MultiheadAttention)]
    return [layer for layer in every if not chosen.isdisjoint((id(layer), id(layer.out_proj)))]


def add_projections(attention: nn.MultiheadAttention, layers: Mapping[str, nn.Module]) -> list[str]:
    """Make its projections children of an attention layer, these where they are given; gives the names of new ones."""
    given = {one.part: one for one in layers.values() if isinstance(one, Projection) and one.attention is attention}
    new = [part for part in PARTS if part not in attention._modules]
    for part in new:
        projection = given.get(part) or Projection(attention, part)
        attention.add_module(part, projection.train(attention.training))
    return new


@contextmanager
def unpacked(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[dict[str, nn.Module]]:
    """Let attention of which one of these layers is a part compute by its projections, until the block ends.

    Encoders above such layers keep padded inputs as they are meanwhile: no layer takes torch's nested tensors.

    Yields:
        The layers, with the projections that attention has now.
    """
    attentions = with_projections(model, layers)
    hooked = {*layers.values(), *attentions}
    with ExitStack() as stack:
        for encoder in [module for module in model.modules() if isinstance(module, nn.TransformerEncoder)]:
            if encoder.use_nested_tensor and not hooked.isdisjoint(encoder.modules()):
                stack.callback(setattr, encoder, "use_nested_tensor", True)
                encoder.use_nested_tensor = False
                stack.enter_context(encoder.register_forward_hook(_as_packed, prepend=True, with_kwargs=True))
        for attention in attentions:
            for part in add_projections(attention, layers):
                stack.callback(attention._modules.pop, part)
            stack.enter_context(attention.register_forward_hook(attend, prepend=True, with_kwargs=True))
        yield {
            name: cast("nn.Module", layer.attention._modules[layer.part]) if isinstance(layer, Projection) else layer
            for name, layer in layers.items()
        }


def _as_packed(encoder: nn.TransformerEncoder, args: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> Any:
    """As a forward hook: at padded places what an encoder gives where torch packs its inputs, zeros before its norm."""
    given = {**dict(zip(("src", "mask", "src_key_padding_mask"), args, strict=False)), **keywords}
    inputs, padded, first = given.get("src"), given.get("src_key_padding_mask"), cast("nn.Module", encoder.layers[0])
    if not isinstance(inputs, Tensor) or padded is None:
        return output
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (inputs, *first.parameters()))
    off = first.training or learns or torch.is_autocast_enabled() or not torch.backends.mha.get_fastpath_enabled()
    if off or given.get("mask") is not None or inputs.ndim != 3 or not isinstance(output, Tensor):
        return output
    padded = padded.bool()
    if padded.logical_not().long().diff(dim=1).gt(0).any():  # not at the end alone
        return output
    zeros = torch.zeros_like(output)
    return torch.where(padded.unsqueeze(-1), zeros if encoder.norm is None else encoder.norm(zeros), output)
