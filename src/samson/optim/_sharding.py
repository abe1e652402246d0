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
    """The p-norms of whole tensors, from those of this process's parts.

    That takes one collective for each process group, and two where p is finite and above 2.
    """
    if not groups:
        return norms
    largest = p == math.inf
    unit = unit_of(over_all(norms, math.inf, groups).double()) if 2 < p < math.inf else 1.0
    total = norms.clone() if largest else (norms.double() / unit).pow_(p)
    for group in groups:
        torch.distributed.all_reduce(
            total, torch.distributed.ReduceOp.MAX if largest else torch.distributed.ReduceOp.SUM, group
        )
    return total if largest else (unit * total.pow_(1 / p)).to(norms.dtype)


def unit_of(largest: Tensor) -> Tensor:
    """What to divide by before a high power is taken: the largest magnitude, or next to nothing where that is 0."""
    return largest.clamp(min=torch.finfo(largest.dtype).tiny)


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, without a gradient: its own memory if it is not sharded, else a copy in every process."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor.detach()  # type: ignore[attr-defined]


def from_whole(full: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor that is to be split like another."""
    from torch.distributed.tensor import distribute_tensor

    return local(distribute_tensor(full, like.device_mesh, like.placements))  # type: ignore[attr-defined]


def rows_here(tensor: Tensor) -> range | None:
    """Which rows of a sharded tensor this process has; None if it is split otherwise than along its first axis."""
    split = [(i, p) for i, p in enumerate(tensor.placements) if not p.is_replicate()]  # type: ignore[attr-defined]
    if len(split) != 1 or not split[0][1].is_shard(0):
        return None
    mesh, axis = tensor.device_mesh, split[0][0]  # type: ignore[attr-defined]
    size = -(-tensor.shape[0] // mesh.size(axis))
    start = min(mesh.get_local_rank(axis) * size, tensor.shape[0])
    return range(start, min(start + size, tensor.shape[0]))


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
