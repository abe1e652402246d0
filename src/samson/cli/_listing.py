"""`samson list`: what there is to choose from, and what a chip would hold of a model."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import typer
from rich.text import Text

from samson.cli._layer_tables import digital_table, on_chip_table, totals
from samson.cli._options import ChipName, Model, Pretrained, Select, Weights
from samson.cli._showing import console
from samson.cli._tables import empty_table
from samson.experiments import (
    ADDITIONS,
    BASE,
    DATA,
    DEFAULTS,
    NETWORKS,
    SetupError,
    cores,
    default_settings,
    find_chip,
    load_model,
)
from samson.noise import NOISES, PRESETS, ChipModel, describe, hooked_layers, on_chip

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show what there is to choose from.")

LEVEL = 0.1
"""The level at which a family of noises is shown."""


@app.command()
def chips() -> None:
    """Chips by name: their constants, and where those were published."""
    show(
        "Chip", "Constants, and their source", {name: (constants(chip), chip.source) for name, chip in PRESETS.items()}
    )


@app.command()
def noises() -> None:
    """Families of noises that take a level."""
    rows: dict[str, tuple[str, ...]] = {}
    said: set[str] = set()
    for name, family in NOISES.items():
        noise = family(LEVEL)
        about = summary(noise)
        rows[name] = (short(noise),) if about in said else (short(noise), about)
        said.add(about)
    show("Noise", f"At level {LEVEL}, and what it is", rows)


@app.command()
def methods() -> None:
    """Training methods, and the settings that they have by default."""
    parts = {**cores(), **ADDITIONS}
    rows = {}
    for name in dict.fromkeys([*parts, *DEFAULTS]):
        about = parts[name].about if name in parts else f"{name.replace('+', ' and ')} together."
        own = {key: value for key, value in default_settings(name).items() if key not in BASE}
        rows[name] = (about, _listed(own))
    show("Method", "What it is, and its settings", rows)
    console().print(f"All of them have {_listed(BASE)}. Set one with `--set METHOD.PARAM=VALUE`.")


@app.command()
def data() -> None:
    """Data sets."""
    show("Data", "What it is", {name: (summary(made),) for name, made in DATA.items()})


@app.command()
def networks() -> None:
    """Networks of the comparisons."""
    show("Network", "What it is", {name: (summary(made),) for name, made in NETWORKS.items()})


@app.command()
def layers(
    model: Model,
    select: Select = None,
    chip: ChipName = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
) -> None:
    """Show which tensors of a model lie on the chip, and why the others do not."""
    kind = None if chip is None else find_chip(chip)
    noise, periphery = (None, None) if kind is None else (kind.noise, kind.periphery)
    loaded = load_model(model, weights, pretrained=pretrained)
    try:
        rows = describe(loaded, noise, select, tile_inputs=None if periphery is None else periphery.tile_inputs)
    except ValueError as error:
        raise SetupError(f"MODEL {model!r}: {error}") from error
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


def constants(chip: ChipModel) -> str:
    """What a chip is made of, in short."""
    parts = [chip.noise, *([] if chip.periphery is None else [chip.periphery])]
    return "; ".join(short(part) for part in parts)


def short(value: Any) -> str:
    """A dataclass with the fields that say something; of those within it, only what is not the default.

    Example:
        >>> from samson.noise import PCM, Mapping
        >>> short(PCM(mapping=Mapping(per="channel")))
        'PCM(mapping=(per=channel), g_max_us=25)'
    """
    shown = {}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if dataclasses.is_dataclass(part):
            inner = {f.name: (getattr(part, f.name), f.default) for f in dataclasses.fields(part)}
            changed = {name: given for name, (given, default) in inner.items() if given != default}
            if changed:
                shown[field.name] = f"({_listed(changed)})"
        elif part not in (None, False, 0, math.inf, {}, ()):
            shown[field.name] = part
    return f"{type(value).__name__}({_listed(shown)})"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def summary(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def show(name: str, says: str, rows: Mapping[str, Iterable[str]]) -> None:
    """Print names, each with lines that say more; they wrap beside the name."""
    table = empty_table()
    table.add_column(name, no_wrap=True)
    table.add_column(says)
    for key, lines in rows.items():
        first, *others = (line for line in lines if line)
        table.add_row(key, Text("\n").join([Text(first), *(Text(line, style="dim") for line in others)]))
    console().print(table)
