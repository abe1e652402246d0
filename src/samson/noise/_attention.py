"""Attention that computes by its parts: four linear layers around a core without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from samson.noise._parts import parts_of


def attend(
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
    """What attention gives if it computes by its parts; the arguments are those of torch's own `forward`.

    Torch's own kernels take all weights together. Here they have the identity for every weight.
    """
    inputs = [part(x) for part, x in zip(parts_of(layer).values(), (query, key, value), strict=True)]
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


def as_packed(encoder: nn.TransformerEncoder, args: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> Any:
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
