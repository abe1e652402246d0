"""Working memory that is kept from step to step and never part of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Layout = tuple[object, ...]

WIDTH = 64
"""Elements in a row of `Scales`; a tensor fills whole rows."""


class Copies:
    """Exact copies of tensors, in memory that is used again while their layout stays the same."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._layouts: list[Layout] = []

    @torch.no_grad()
    def take(self, tensors: list[Tensor], layouts: list[Layout] | None = None) -> list[Tensor]:
        """Copy these tensors; gives the copies.

        Args:
            tensors: Any tensors.
            layouts: The `layout` of each, if it is known already.
        """
        layouts = [layout(t) for t in tensors] if layouts is None else layouts
        if layouts != self._layouts:
            self._copies, self._layouts = [t.detach().clone() for t in tensors], layouts
        elif tensors:
            torch._foreach_copy_(self._copies, tensors)
        self._tensors = tensors
        return self._copies

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the tensors the very bits that they had."""
        if self._tensors:
            torch._foreach_copy_(self._tensors, self._copies)
        self._tensors = []


class Scales:
    """One flat block for the scales of many weights, so that one call works on all of them.

    Each weight fills whole rows of the block: a factor for each weight is then a factor for each row, which is a
    single broadcast multiplication instead of one small call for each weight. What is left of a last row is never
    read.

    Args:
        weights: Weights of one real dtype on one device, each dense.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        rows = [-(-w.numel() // WIDTH) for w in weights]
        like = weights[0]
        self._flat = torch.zeros(sum(rows) * WIDTH, dtype=like.dtype, device=like.device)
        self._row = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows), output_size=sum(rows)).to(
            like.device
        )
        self.views, start = [], 0
        for w, n in zip(weights, rows, strict=True):
            self.views.append(self._flat.as_strided(w.shape, w.stride(), start))
            start += n * WIDTH

    def fill(self, weights: list[Tensor]) -> None:
        """Fill the block with |w|."""
        torch._foreach_copy_(self.views, weights)
        self._flat.abs_()

    def largest(self) -> Tensor:
        """The largest entry of each weight's scales; 0 for one without entries."""
        found = iter(torch._foreach_max([v for v in self.views if v.numel()])) if len(self._flat) else iter(())
        zero = self._flat.new_zeros(())
        return torch.stack([next(found) if v.numel() else zero for v in self.views])

    def shift(self, eta: float, factors: Tensor | None = None) -> None:
        """Add eta to the scales, then multiply each weight's by its own factor."""
        self._flat.add_(eta)
        if factors is not None:
            self._flat.view(-1, WIDTH).mul_(factors.index_select(0, self._row).unsqueeze(1))


def layout(t: Tensor) -> Layout:
    """What must agree for a copy to fit."""
    return (t.stride(), t.shape, t.dtype, t.device)


def dense(t: Tensor) -> bool:
    """Whether the elements fill their memory without gaps, in one of torch's usual orders."""
    return (
        t.is_contiguous()
        or (t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last))
        or (t.ndim == 5 and t.is_contiguous(memory_format=torch.channels_last_3d))
    )
