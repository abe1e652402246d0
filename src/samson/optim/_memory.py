"""Working memory that is used again in each step and never part of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WIDTH = 64
"""Elements in a row of a `Workspace`; a tensor fills whole rows."""


class Workspace:
    """Exact copies of weights, and their scales T, in one flat block each, so that one call works on all of them.

    Each weight fills whole rows of a block: a factor for each weight is then a factor for each row, which is a single
    broadcast multiplication instead of one small call for each weight. What is left of a last row is never read.

    Args:
        weights: Weights of one dtype on one device.
        scaled: Whether there shall be memory for scales; complex weights and such with gaps in their memory get none.
    """

    def __init__(self, weights: Sequence[Tensor], scaled: bool) -> None:
        self._forms = [_form(w) for w in weights]
        self.dense = all(_dense(w) for w in weights)
        self.saved = False
        self.copies: list[Tensor] = []
        self.scales: list[Tensor] | None = None
        if not self.dense:
            self.copies = [w.detach().clone() for w in weights]
            return
        rows = [-(-w.numel() // WIDTH) for w in weights]
        like = weights[0]
        self._weights = torch.zeros(sum(rows) * WIDTH, dtype=like.dtype, device=like.device)
        self.copies = _views(self._weights, weights, rows)
        if scaled and not like.is_complex():
            self._scales = torch.zeros_like(self._weights)
            self.scales = _views(self._scales, weights, rows)
            numbers = torch.arange(len(rows), dtype=torch.int32).repeat_interleave(
                torch.tensor(rows), output_size=sum(rows)
            )
            self._row = numbers.to(like.device)

    def fits(self, weights: list[Tensor]) -> bool:
        """Whether this is memory for these weights."""
        return self._forms == [_form(w) for w in weights]

    @torch.no_grad()
    def save(self, weights: list[Tensor]) -> None:
        """Copy the weights."""
        torch._foreach_copy_(self.copies, weights)
        self.saved = True

    @torch.no_grad()
    def restore(self, weights: list[Tensor]) -> None:
        """Give the weights the very bits that were saved, if any were."""
        if self.saved:
            torch._foreach_copy_(weights, self.copies)
        self.saved = False

    def magnitudes(self) -> Tensor:
        """Fill the scales with the magnitudes of the copies; gives the whole block."""
        return torch.abs(self._weights, out=self._scales)

    def largest(self) -> Tensor:
        """The largest entry of each weight's scales; 0 for one without entries."""
        views = self.scales or []
        full = [v for v in views if v.numel()]
        if torch.compiler.is_compiling():  # the compiler does not know _foreach_max, which is faster on a CPU
            found = list(torch._foreach_norm(full, math.inf)) if full else []
        else:
            found = list(torch._foreach_max(full)) if full else []
        if len(full) < len(views):
            each, zero = iter(found), torch.zeros((), dtype=self._scales.dtype, device=self._scales.device)
            found = [next(each) if v.numel() else zero for v in views]
        return torch.stack(found)

    def multiply(self, factors: Tensor) -> None:
        """Multiply each weight's scales by its own factor."""
        self._scales.view(-1, WIDTH).mul_(factors.index_select(0, self._row).unsqueeze(1))


def exclusive(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, or copies of those that share memory with one before or with themselves (expanded ones)."""
    starts = [t.data_ptr() for t in tensors]
    if len(set(starts)) == len(starts) and all(map(Tensor.is_contiguous, tensors)):
        return list(tensors)
    found: list[Tensor] = []
    taken: set[int] = set()
    for t, start in zip(tensors, starts, strict=True):  # starting at 0, where all lie that are empty
        alone = t.is_contiguous() or torch._debug_has_internal_overlap(t) == 0
        found.append(t if alone and (start == 0 or start not in taken) else t.clone())
        taken.add(start)
    return found


def _form(t: Tensor) -> tuple[object, ...]:
    """What two tensors must share for one to hold an exact copy of the other."""
    return t.stride(), t.shape, t.dtype, t.device


def _views(block: Tensor, weights: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
    """A view of whole rows of the block for each weight, with the weight's shape and strides."""
    views, start = [], 0
    for w, n in zip(weights, rows, strict=True):
        views.append(block.as_strided(w.shape, w.stride(), start))
        start += n * WIDTH
    return views


def _dense(t: Tensor) -> bool:
    """Whether the elements fill their memory without gaps, in one of torch's usual orders."""
    return (
        t.is_contiguous()
        or (t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last))
        or (t.ndim == 5 and t.is_contiguous(memory_format=torch.channels_last_3d))
    )
