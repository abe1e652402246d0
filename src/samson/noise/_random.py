"""Randomness as an argument: a generator for each draw, found from its path and never from global state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b

import torch
from torch import Generator, Tensor

from samson._checks import require_whole


def generator_for(seed: int, *path: str | int, device: torch.device | str = "cpu") -> Generator:
    """A generator for one draw, the same whenever seed and path are the same.

    Seed and path are hashed together, so neighbouring ones give unrelated streams. CPU and CUDA streams differ.

    Args:
        seed: Seed of the experiment, ≥ 0.
        path: What is drawn, for example `(trial, "program", "conv1.weight")`.
        device: Where the tensors will be drawn.

    Raises:
        ValueError: If `seed` is negative.

    Example:
        >>> a, b = (generator_for(0, 7, "program", "conv1.weight") for _ in range(2))
        >>> bool(torch.rand(3, generator=a).equal(torch.rand(3, generator=b)))
        True
    """
    require_whole(0, seed=seed)
    digest = blake2b(json.dumps([int(seed), *path]).encode(), digest_size=8).digest()
    return Generator(device).manual_seed(int.from_bytes(digest) >> 1)


def exactly(device: torch.device) -> AbstractContextManager[object]:
    """A block in which autocast computes nothing in fewer bits."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def uniform(shape: Iterable[int], generator: Generator | None, device: torch.device) -> Tensor:
    """Independent numbers from 0 up to 1, in float32 and in logical order whatever the defaults of the process."""
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float32, device=device)


def normals(shape: Iterable[int], generator: Generator | None, device: torch.device) -> Tensor:
    """Independent N(0, 1) numbers, in float32 and in logical order whatever the defaults of the process."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device=device)


def standard_normal(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent N(0, 1) numbers in the shape of a tensor, in the precision for computing with it.

    The draw is float32 and in logical order, whatever the tensor's memory format or dtype, so that a chip is the
    same for a half-precision or channels-last copy of a model; float64 weights get the float32 draw.
    """
    return normals(like.shape, generator, like.device).to(working_dtype(like))


def normal(mean: Tensor, deviation: Tensor, generator: Generator) -> Tensor:
    """Independent N(mean, deviation²) numbers, from one `standard_normal` draw."""
    return torch.addcmul(mean, deviation, standard_normal(mean, generator))


def working_dtype(weight: Tensor) -> torch.dtype:
    """The precision in which a noise is computed: at least float32."""
    return torch.promote_types(weight.dtype, torch.float32)
