"""`samson sensitivity`: which layers lose the accuracy."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from samson._errors import require
from samson.cli._measuring import kinds_of, measuring
from samson.cli._options import ModelOptions, model_command
from samson.cli._showing import console, empty_table, results_written, show_whole, speaks, text_of

if TYPE_CHECKING:
    from rich.table import Table

    from samson.records import SensitivityRecord

Level = Annotated[
    str | None,
    typer.Option("--level", "--levels", help="Level of the noise; by default .1, .01 for bit errors, 1d for ages."),
]
Time = Annotated[
    str | None,
    typer.Option("--time", "--times", help="With --chip: when it is read, for example 1d; by default as it says."),
]


@model_command
def sensitivity_of_model(
    options: ModelOptions,
    level: Level = None,
    time: Time = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Suggest layers to keep digital so that the drop is at most this.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Chips.")] = 20,
) -> None:
    """Rank the layers of a model by what noise on them costs."""
    from samson.evaluation import sensitivity
    from samson.report import interval_text, metric_text, sensitivity_page, suggestion, value_text

    [kind, *others] = kinds_of(options, level, time, usual=True)
    what, given = ("level", level) if options.chip is None else ("time", time)
    require(not others, f"--{what}", f"one {what} for a sensitivity", given, f"Repeat the command for each {what}.")
    with measuring(options) as run:
        found = sensitivity(
            run.model,
            run.data,
            kind.noise,
            trials=trials,
            max_drop=max_drop,
            progress=run.progress("layers"),
            **run.of_kind(kind),
        )
    if not speaks():
        return
    of_kind = replace(kind.record(), alike=found.kind.alike)
    record = replace(found.record(), subject=run.subject(found), kind=of_kind)
    subject = record.subject
    with results_written(options.out, options.page, record, sensitivity_page):
        under = kind.label if options.chip is not None else f"{options.family} at {kind.label}"
        title = f"{options.model}: {metric_text(subject)} on {options.request.data_name} under {under}"
        title += ", differences in points" * subject.is_fraction
        show_whole(_table(title, record))
        clean, noisy = (value_text(one, subject) for one in (found.clean, fmean(found.noisy)))
        console().print(
            f"{metric_text(subject)}: {clean} without noise, {noisy} with noise on all {len(found.rows)} layers, worse "
            f"by {interval_text(found.drop, subject)}{' points' * subject.is_fraction}.\n"
            f"{len(found.noisy)} chips, the same for every row; the {found.intervals} intervals hold together with "
            f"{100 * found.confidence:g}% (Bonferroni), for other chips and these examples.\n"
            f"On the chip: {found.coverage}",
            soft_wrap=True,
        )
        if found.suggestion is not None:
            console().print(text_of(suggestion(record)), soft_wrap=True)


def _table(title: str, record: SensitivityRecord) -> Table:
    """The layers, by what noise on them costs."""
    from samson.report import interval_text

    table = empty_table(title)
    table.add_column("Layer", overflow="fold")
    for name in ("Weights", "Worse with noise on it alone", "Better if it alone is digital"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in record.rows:
        drop, gain = (interval_text(part, record.subject) for part in (row.drop, row.gain))
        table.add_row(row.name, f"{row.weights:,}", drop, gain)
    return table
