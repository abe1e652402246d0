"""What ranks tell each other: plain bytes, so that nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves

from samson.evaluation.scoring import Scores


def as_bytes(found: Scores) -> bytes:
    """Scores with a letter for their kind: f for one number, ? for booleans, d for numbers."""
    if isinstance(found, float):
        return b"f" + np.float64(found).tobytes()
    return (b"?" if found.dtype == np.bool_ else b"d") + found.tobytes()


def from_bytes(data: bytes) -> Scores:
    """The scores again.

    Example:
        >>> from_bytes(as_bytes(np.array([True, False]))), from_bytes(as_bytes(0.5))
        (array([ True, False]), 0.5)
    """
    values = np.frombuffer(data[1:], dtype=np.bool_ if data[:1] == b"?" else np.float64)
    return float(values[0]) if data[:1] == b"f" else values


def gathered(data: bytes, group: Any) -> list[bytes]:
    """What each rank gives, of any length, in the order of ranks."""
    world = dist.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
    dist.all_gather(lengths, torch.tensor([len(data)]), group=group)
    padded = torch.frombuffer(bytearray(data.ljust(max(map(int, lengths)), b"\0")), dtype=torch.uint8)
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded, group=group)
    return [part.numpy().tobytes()[: int(length)] for part, length in zip(parts, lengths, strict=True)]


def shared_from_first(tensors: Sequence[Tensor], group: Any) -> list[Tensor]:
    """The tensors of rank 0, which have the same shapes everywhere, as copies on the CPU."""
    copies = [tensor.detach().to("cpu", copy=True).contiguous() for tensor in tensors]
    for copy in copies:
        if copy.numel():
            dist.broadcast(_as_uint8(copy), src=0, group=group)
    return copies


def fingerprint(tree: Any) -> str:
    """The start of a hash over all tensors of a nested structure, with their dtypes and shapes."""
    digest = sha256()
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            digest.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            digest.update(_as_uint8(leaf.detach().cpu().contiguous()).numpy().tobytes())
    return digest.hexdigest()[:12]


def _as_uint8(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
