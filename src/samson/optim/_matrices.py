"""A weight matrix within its parameter: how it is looked at, changed, and where its ranges lie, also in shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samson._layers import LayerWeight
from samson.optim._sharding import from_whole, is_sharded, local, rows_here, whole

PER = ("layer", "channel")
"""What has a range of its own: a whole weight, or each of its channels along the first axis."""


class ChipWeight(NamedTuple):
    """A weight matrix on a chip, as an optimizer holds it.

    Args:
        parameter: The parameter that is the matrix, or holds it beside others.
        matrix: Its part of the parameter, and its layout.
        layer: The layer that it belongs to; None if no model is known.
    """

    parameter: Tensor
    matrix: LayerWeight
    layer: nn.Module | None


@torch.no_grad()
def change_matrices(weights: Iterable[ChipWeight], change: Callable[[ChipWeight, Tensor], Tensor]) -> None:
    """Replace weight matrices, also sharded ones: every process computes the whole and keeps its part.

    Args:
        weights: The weights; those of one parameter in a row.
        change: Gives the new matrix from a weight and its matrix, both with the outputs along the first axis.
    """
    for _, some in groupby(weights, key=lambda weight: id(weight.parameter)):
        own = list(some)
        parameter, full = own[0].parameter, whole(own[0].parameter)
        for weight in own:
            part = weight.matrix.within(full)
            part.copy_(weight.matrix.stored(change(weight, weight.matrix.output_first(part))))
        if is_sharded(parameter):
            local(parameter).copy_(from_whole(full, parameter))


def axes_of(weight: Tensor, per: str) -> tuple[int, ...]:
    """The axes over which a range goes."""
    return tuple(range(0 if per == "layer" else 1, weight.ndim))


def views(weight: ChipWeight, by_output: bool) -> list[Callable[[Tensor], Tensor]]:
    """How to look at a matrix in this process's part of its parameter, or of the parameter's gradient.

    Args:
        weight: The weight.
        by_output: Whether outputs must lie along the first axis, whole: then a grouped transposed convolution is one
            view a group.

    Raises:
        ValueError: If a sharded weight cannot be looked at so.
    """
    parameter, matrix, _ = weight
    rows = matrix.rows
    if is_sharded(parameter) and (by_output or rows is not None):
        here = rows_here(parameter)
        if here is None or (by_output and matrix.groups):
            raise ValueError(
                f"A sharded weight must be split along its first axis alone, with outputs along it, for ranges by part "
                f"or channel, got `{matrix.name}` of shape {tuple(parameter.shape)}. Take per='layer', or leave it out "
                "with `select`."
            )
        rows = _overlap(rows, here)

    def within(tensor: Tensor) -> Tensor:
        return tensor if rows is None else tensor.detach()[rows]

    if not by_output or not matrix.groups:
        return [within]
    return [
        lambda tensor, group=group: within(tensor).detach().chunk(matrix.groups)[group].transpose(0, 1)  # type: ignore[misc]
        for group in range(matrix.groups)
    ]


def _overlap(rows: slice | int | None, here: range) -> slice | int | None:
    """Rows of a whole tensor, counted in the part of it that is here; none where they are elsewhere."""
    if rows is None:
        return None
    if isinstance(rows, int):
        return here.index(rows) if rows in here else slice(0)
    start, stop = (min(max(row - here.start, 0), len(here)) for row in (rows.start, rows.stop))
    return slice(start, stop)
