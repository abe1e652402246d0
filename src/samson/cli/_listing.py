"""`samson list`: what there is to choose from, and what a chip would hold of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from samson._shown import not_all
from samson.cli._errors import explained
from samson.cli._options import ChipName, Model, Pretrained, Select, Weights
from samson.cli._showing import console, empty_table

if TYPE_CHECKING:
    from samson.noise import TensorDescription

app = typer.Typer(rich_markup_mode=None, help="Show what there is to choose from.", invoke_without_command=True)


@app.callback()
def every(context: typer.Context) -> None:
    """Show what there is to choose from; without a word more, the names in every catalogue."""
    if context.invoked_subcommand is None:
        from samson.cli._catalogue import catalogue

        table = empty_table()
        table.add_column("Catalogue", no_wrap=True)
        table.add_column("Names")
        for name, of_name in catalogue().items():
            table.add_row(name, ", ".join(of_name.rows))
        console().print(table)
        console().print("`samson list NAME` says what they are.")


def _lists(name: str, about: str) -> None:
    app.command(name, help=about)(lambda: show(name))


for _name, _about in {
    "methods": "Training methods, and the settings that they have by default.",
    "data": "Data sets.",
    "networks": "Networks of the comparisons.",
    "tasks": "Tasks: the loss of a training, and the metric by which it is judged.",
    "metrics": "Metrics that a model is measured by.",
    "noises": "Families of noises that take a level.",
    "chips": "Chips by name: their constants, and where those were published.",
}.items():
    _lists(_name, _about)


@app.command()
def layers(
    model: Model,
    select: Select = None,
    chip: ChipName = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
) -> None:
    """Show which tensors of a model lie on the chip, and why the others do not."""
    from samson.experiments import find_chip, load_model
    from samson.noise import describe, hooked_layers, on_chip

    kind = None if chip is None else find_chip(chip)
    noise, periphery = (None, None) if kind is None else (kind.noise, kind.periphery)
    loaded = load_model(model, weights, pretrained=pretrained)
    with explained(model):
        rows = describe(loaded, noise, select, tile_inputs=None if periphery is None else periphery.tile_inputs)
    on, off = ([row for row in rows if row.on_chip is there] for there in (True, False))
    console().print(_on_chip_table(on))
    if off:
        console().print(_digital_table(off))
    console().print(_totals(on, off))
    if periphery is not None:
        try:
            hooked_layers(loaded, on_chip(loaded, select))
        except ValueError as error:
            console().print(f"This chip can't hold all of it: {error}")


def show(name: str) -> None:
    """Print names, each with lines that say more; they wrap beside the name."""
    from samson.cli._catalogue import catalogue

    found = catalogue()[name]
    table = empty_table()
    for head, whole in zip(found.heads, (True, False), strict=True):
        table.add_column(head, no_wrap=whole)
    for key, lines in found.rows.items():
        first, *others = (line for line in lines if line)
        table.add_row(key, Text("\n").join([Text(first), *(Text(line, style="dim") for line in others)]))
    console().print(table)
    console().print(found.note)


def _on_chip_table(rows: Sequence[TensorDescription]) -> Table:
    """The tensors on the chip: their tiles, if those have a size, and what is special about some."""
    columns = {
        "Tiles": ["" if row.tiles is None else f"{row.tiles:,}" for row in rows],
        "What happens": [row.reason.removeprefix("on the chip").lstrip(";: ") for row in rows],
    }
    return _tensors("On the chip", rows, {name: cells for name, cells in columns.items() if any(cells)})


def _digital_table(rows: Sequence[TensorDescription]) -> Table:
    """The tensors that stay digital, and why."""
    reasons = [row.reason.removeprefix("digital: ").removesuffix(f" of a {row.layer_type}") for row in rows]
    return _tensors("Not on the chip", rows, {"Why": reasons})


def _totals(on: Sequence[TensorDescription], off: Sequence[TensorDescription]) -> str:
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
