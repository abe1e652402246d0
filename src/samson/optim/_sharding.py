"""Sharded parameters (FSDP2): each process works on its own part, and norms are over the parts of all."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn

ProcessGroups = tuple[Any, ...]
"""The process groups over which a tensor is split; empty for a whole tensor."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor; the module of DTensors is not imported for it."""
    if type(tensor) is Tensor or type(tensor) is nn.Parameter:
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """This process's own part of a tensor, sharing its memory."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()  # type: ignore[attr-defined, no-any-return]


def process_groups(tensor: Tensor) -> ProcessGroups:
    """The process groups over which a tensor is split."""
    if not is_sharded(tensor):
        return ()
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    # Not `is_shard()`: it is False for the strided shards that FSDP2 makes of tensor-parallel weights.
    return tuple(mesh.get_group(i) for i, p in enumerate(placements) if not (p.is_replicate() or p.is_partial()))


def refuse_flat_shards(model: nn.Module | None) -> None:
    """Refuse FSDP1, whose parameters are parts of a flat tensor without names or norms of their own.

    Raises:
        ValueError: If the model holds one of its modules.
    """
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    if model is not None and fsdp is not None:
        for module in model.modules():
            if isinstance(module, fsdp.FullyShardedDataParallel):
                raise ValueError(
                    "`model` is wrapped in FullyShardedDataParallel (FSDP1), whose flat parameters have no norms of "
                    "their own. Use `torch.distributed.fsdp.fully_shard` (FSDP2)."
                )


def over_all(norms: Tensor, p: float, groups: ProcessGroups) -> Tensor:
    """The p-norms of whole tensors, from those of this process's parts: one collective for each process group."""
    if not groups:
        return norms
    largest = p == math.inf
    total = norms.clone() if largest else norms.double().pow_(p)
    for group in groups:
        torch.distributed.all_reduce(
            total, torch.distributed.ReduceOp.MAX if largest else torch.distributed.ReduceOp.SUM, group
        )
    return total if largest else total.pow_(1 / p).to(norms.dtype)


def draw_whole(noise: Any, weight: Tensor, generator: torch.Generator) -> Tensor:
    """This process's part of a noisy copy that is drawn for the whole weight, the same in every process."""
    if not is_sharded(weight):
        noisy: Tensor = noise(weight, generator)
        return noisy
    from torch.distributed.tensor import distribute_tensor

    whole = noise(weight.full_tensor(), generator)  # type: ignore[attr-defined]
    return local(distribute_tensor(whole, weight.device_mesh, weight.placements))  # type: ignore[attr-defined]


def reshard(model: nn.Module | None) -> None:
    """Free gathered weights, which the next pass would otherwise use in place of the changed parts.

    That is needed where `reshard_after_backward` is off; elsewhere they are gone already.

    Raises:
        ValueError: If no model is known.
    """
    if model is None:
        raise ValueError("Sharded parameters need the model: pass `model=` to the optimizer, or to `perturbed`.")
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    for module in model.modules():
        if fsdp is not None and isinstance(module, fsdp.FSDPModule):
            module.reshard()
