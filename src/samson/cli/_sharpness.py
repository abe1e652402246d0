"""The command `sharpness`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from samson.cli._showing import console
from samson.cli._tables import level_table
from samson.evaluation import TRIALS
from samson.experiments import FILE, STEPS, SetupError, measure_folder
from samson.records import Interval, SharpnessRecord, replace_file
from samson.report import correlation, render_sharpness


def sharpness(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, with its records and networks.")],
    steps: Annotated[int, typer.Option(help="Steps of the ascent for the worst case in a ball.")] = STEPS,
    trials: Annotated[int, typer.Option(help="Chips for the average rise under noise.")] = TRIALS,
    curvature: Annotated[
        bool, typer.Option("--curvature", help="Also the Hessian's largest eigenvalue and trace: slow.")
    ] = False,
) -> None:
    """Measure how sharp each network of a comparison is, and whether sharper ones are less robust.

    A repeated command goes on where an interrupted one stopped, and adds the curvature to what is there.
    """
    with Progress(console=console(stderr=True), transient=True) as bars:
        bar = bars.add_task("networks", total=None)
        try:
            record = measure_folder(
                folder,
                steps=steps,
                trials=trials,
                curvature=curvature,
                progress=lambda name, done, total: bars.update(bar, description=name, completed=done, total=total),
            )
        except ImportError as error:
            raise SetupError(f"--curvature: {error}") from error
    replace_file(folder / "sharpness.html", render_sharpness(record).encode())
    if record.correlations:
        console().print(correlation_table(record))
    else:
        console().print("No correlations: an interval needs at least 6 methods.")
    for name in (FILE, "sharpness.html"):
        console().print(f"Written: {(folder / name).resolve()}", soft_wrap=True)


def correlation_table(record: SharpnessRecord) -> Table:
    """Kendall's τ of each measure with the accuracy at each level, with its interval."""
    levels = sorted({row.level for row in record.correlations})
    first = record.correlations[0]
    title = (
        f"Kendall τ of {record.settings.split} sharpness with {record.robustness_split} accuracy by noise level\n"
        f"{first.methods} methods, {first.networks} networks, {record.confidence:.0%} intervals over methods"
    )
    table = level_table(title, "Measure", levels)
    for measure in record.measures:
        found: dict[float, Interval] = {row.level: row.kendall for row in record.correlations if row.measure == measure}
        table.add_row(measure, *(correlation(found[level]) if level in found else "" for level in levels))
    return table
