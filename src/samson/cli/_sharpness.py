"""The command `sharpness`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from samson.cli._options import DataRoot
from samson.cli._showing import console, kind_table, show_whole, stage_bar

if TYPE_CHECKING:
    from samson.records import SharpnessRecord


def sharpness(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, with its records and networks.")],
    steps: Annotated[int, typer.Option(help="Steps of the ascent for the worst case in a ball.")] = 8,
    trials: Annotated[int, typer.Option(help="Chips for the average rise under noise.")] = 20,
    examples: Annotated[int | None, typer.Option(help="Training examples that are looked at; all by default.")] = None,
    curvature: Annotated[
        bool, typer.Option("--curvature", help="Also the Hessian's largest eigenvalue and trace: slow.")
    ] = False,
    data_root: DataRoot = Path("data"),
) -> None:
    """Measure how sharp each network of a comparison is, and whether sharper ones are less robust.

    A repeated command goes on where an interrupted one stopped, and adds the curvature to what is there.
    """
    from samson.experiments import measure_folder, sharpness_path
    from samson.records import replace_file
    from samson.report import render_sharpness

    with stage_bar() as progress:
        found = measure_folder(
            folder,
            steps=steps,
            trials=trials,
            examples=examples,
            curvature=curvature,
            data_root=data_root,
            progress=progress,
        )
    for record in found:
        path = sharpness_path(folder, record.problem.name)
        replace_file(path.with_suffix(".html"), render_sharpness(record).encode())
        if record.correlations:
            show_whole(correlation_table(record))
        else:
            console().print(f"{record.problem.name}: no correlations: an interval needs at least 6 methods.")
        for written in (path, path.with_suffix(".html")):
            console().print(f"Written: {written.resolve()}", soft_wrap=True)


def correlation_table(record: SharpnessRecord) -> Table:
    """Kendall's τ of each measure with how good the metric is at each level, with its interval."""
    from samson.report import correlation

    first = record.correlations[0]
    metric, problem = record.problem.metric, record.problem.name
    title = (
        f"Kendall τ of {record.settings.split} sharpness with {record.robustness_split} {metric} on {problem}, "
        f"{record.family.name}\n{first.methods} methods, {first.networks} networks, {100 * record.confidence:g}% "
        "intervals over methods; below 0: sharper is worse"
    )
    table = kind_table(title, "Measure", record.kinds)
    for measure in record.measures:
        found = {row.kind: row.kendall for row in record.correlations if row.measure == measure}
        table.add_row(measure, *(correlation(found[kind]) if kind in found else "" for kind in record.kinds))
    return table
