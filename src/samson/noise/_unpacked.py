"""Attention and recurrent layers that compute by their parts, which hooks reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_map

from samson.noise._parts import WHOLE, Part, parts_of
from samson.noise._recurrent import recur, recur_once


def by_parts(layer: nn.Module, args: tuple[Any, ...], keywords: Mapping[str, Any], output: object) -> Any:
    """As a forward hook: what a layer gives if it computes by its parts."""
    if isinstance(layer, nn.MultiheadAttention):
        return _attend(layer, *args, **keywords)
    given = {**dict(zip(("input", "hx"), args, strict=False)), **keywords}
    compute: Any = recur if isinstance(layer, nn.RNNBase) else recur_once
    found = compute(layer, given["input"], given.get("hx"))
    return tree_map(lambda new, old: new if old is None else new.to(old.data.dtype), found, output)  # as under autocast


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
    """What attention gives: four linear layers around torch's own kernels, which have the identity for every weight.

    The arguments are those of torch's own `forward`.
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


def wholes_of(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The layers of a model of which one of these is a part."""
    chosen = {id(layer.whole if isinstance(layer, Part) else layer) for layer in layers.values()}
    every = [layer for layer in model.modules() if isinstance(layer, WHOLE)]
    return [layer for layer in every if not chosen.isdisjoint((id(layer), id(getattr(layer, "out_proj", None))))]


def add_parts(whole: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    """Make its parts children of a layer, these where they are given; gives the names of new ones."""
    given = {one.name: one for one in layers.values() if isinstance(one, Part) and one.whole is whole}
    new = {name: part for name, part in parts_of(whole).items() if name not in whole._modules}
    for name, part in new.items():
        whole.add_module(name, given.get(name, part).train(whole.training))
    return list(new)


@contextmanager
def unpacked(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[dict[str, nn.Module]]:
    """Let layers of which one of these is a part compute by their parts, until the block ends.

    Encoders above attention keep padded inputs as they are meanwhile: no layer takes torch's nested tensors.

    Yields:
        The layers, with the parts that are there now.
    """
    wholes = wholes_of(model, layers)
    hooked = {*layers.values(), *wholes}
    with ExitStack() as stack:
        for encoder in [module for module in model.modules() if isinstance(module, nn.TransformerEncoder)]:
            if encoder.use_nested_tensor and not hooked.isdisjoint(encoder.modules()):
                stack.callback(setattr, encoder, "use_nested_tensor", True)
                encoder.use_nested_tensor = False
                stack.enter_context(encoder.register_forward_hook(_as_packed, prepend=True, with_kwargs=True))
        for whole in wholes:
            for name in add_parts(whole, layers):
                stack.callback(whole._modules.pop, name)
            stack.enter_context(whole.register_forward_hook(by_parts, prepend=True, with_kwargs=True))
        yield {
            name: parts_of(layer.whole)[layer.name] if isinstance(layer, Part) else layer
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
