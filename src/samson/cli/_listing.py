"""`samson list`: what there is to choose from, and what a chip would hold of a model."""

from __future__ import annotations

import typer
from rich.text import Text

from samson.cli._errors import explained
from samson.cli._options import ChipName, Model, Pretrained, Select, Weights
from samson.cli._showing import console
from samson.cli._tables import empty_table

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
    from samson.cli._layer_tables import digital_table, on_chip_table, totals
    from samson.experiments import find_chip, load_model
    from samson.noise import describe, hooked_layers, on_chip

    kind = None if chip is None else find_chip(chip)
    noise, periphery = (None, None) if kind is None else (kind.noise, kind.periphery)
    loaded = load_model(model, weights, pretrained=pretrained)
    with explained(model):
        rows = describe(loaded, noise, select, tile_inputs=None if periphery is None else periphery.tile_inputs)
    on, off = ([row for row in rows if row.on_chip is there] for there in (True, False))
    console().print(on_chip_table(on))
    if off:
        console().print(digital_table(off))
    console().print(totals(on, off))
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
