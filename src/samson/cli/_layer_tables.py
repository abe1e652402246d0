"""Tables of a model's tensors for the terminal: what lies on the chip, what does not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from samson._shown import not_all
from samson.cli._tables import empty_table

if TYPE_CHECKING:
    from samson.noise import TensorDescription


def on_chip_table(rows: Sequence[TensorDescription]) -> Table:
    """The tensors on the chip: their tiles, if those have a size, and what is special about some."""
    columns = {
        "Tiles": ["" if row.tiles is None else f"{row.tiles:,}" for row in rows],
        "What happens": [row.reason.removeprefix("on the chip").lstrip(";: ") for row in rows],
    }
    return _tensors("On the chip", rows, {name: cells for name, cells in columns.items() if any(cells)})


def digital_table(rows: Sequence[TensorDescription]) -> Table:
    """The tensors that stay digital, and why."""
    reasons = [row.reason.removeprefix("digital: ").removesuffix(f" of a {row.layer_type}") for row in rows]
    return _tensors("Not on the chip", rows, {"Why": reasons})


def totals(on: Sequence[TensorDescription], off: Sequence[TensorDescription]) -> str:
    """The line below: how much of the model lies on the chip.

    A weight that several layers share counts once, and what a weight is computed from does not.
    """
    own = [row for row in on if "the same weight as" not in row.reason]
    off = [row for row in off if "computed from it" not in row.reason]
    held, rest = (sum(row.elements for row in rows) for rows in (own, off))
    tiles, devices = sum(row.tiles or 0 for row in own), sum(row.devices or 0 for row in own)
    return (
        f"On the chip: {len(own)} of {len(own) + len(off)} tensors, {held:,} of {held + rest:,} elements "
        f"({100 * not_all(held / (held + rest)):.1f} %){f', {tiles:,} tiles' if tiles else ''}"
        f"{f', {devices:,} devices' if devices else ''}."
    )


def _tensors(title: str, rows: Sequence[TensorDescription], more: Mapping[str, Sequence[str]]) -> Table:
    """A table of tensors, with columns of its own by name."""
    table = empty_table(title)
    table.add_column("Tensor", overflow="fold", min_width=12)
    table.add_column("Layer", overflow="fold", max_width=19)
    table.add_column("Shape", no_wrap=True)
    table.add_column("Elements", justify="right", no_wrap=True)
    for name in more:
        table.add_column(name, justify="right" if name == "Tiles" else "left")
    for row, *cells in zip(rows, *more.values(), strict=True):
        shape = "×".join(map(str, row.shape)) or "scalar"
        table.add_row(row.name, row.layer_type, shape, f"{row.elements:,}", *cells)
    return table
