"""`samson sensitivity`: which layers lose the accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from samson._errors import require
from samson._names import counted
from samson._shown import not_all
from samson.cli._measuring import kinds_of, measuring
from samson.cli._options import ModelOptions, model_command
from samson.cli._showing import (
    console,
    empty_table,
    results_written,
    show_whole,
    shown,
    shown_drop,
    shown_limit,
    speaks,
)

if TYPE_CHECKING:
    from rich.table import Table

    from samson.cli._showing import Metric
    from samson.evaluation import Sensitivity, Suggestion

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
    from samson.report import sensitivity_page

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
    with results_written(options.out, options.page, record, sensitivity_page):
        under = kind.label if options.chip is not None else f"{options.family} at {kind.label}"
        title = f"{options.model}: {run.metric.name} on {options.request.data_name} under {under}"
        show_whole(_table(title, found))
        clean, noisy = shown(found.clean, run.metric), shown(sum(found.noisy) / len(found.noisy), run.metric)
        console().print(
            f"{run.metric.name}: {clean} without noise, {noisy} with noise on all {len(found.rows)} layers, worse by "
            f"{shown_drop(found.drop, run.metric)}.\n"
            f"{len(found.noisy)} chips, the same for every row; the {found.intervals} intervals hold together with "
            f"{100 * found.confidence:g}% (Bonferroni), for other chips and these examples.\n"
            f"On the chip: {found.coverage}",
            soft_wrap=True,
        )
        if found.suggestion is not None:
            console().print(_suggested(found.suggestion, run.metric), soft_wrap=True)


def _table(title: str, found: Sensitivity) -> Table:
    """The layers, by what noise on them costs."""
    table = empty_table(title)
    table.add_column("Layer", overflow="fold")
    for name in ("Weights", "Worse with noise on it alone", "Better if it alone is digital"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        drop, gain = (shown_drop(part, found.metric) for part in (row.drop, row.gain))
        table.add_row(row.name, f"{row.weights:,}", drop, gain)
    return table


def _suggested(found: Suggestion, metric: Metric) -> str:
    names, sets = ", ".join(found.digital), len(found.attempts)
    allowed = f"the {shown_limit(found.max_drop, metric)} allowed"
    if found.nothing_left:
        none = f"of {counted(sets - 1, 'smaller set')} none is shown to be within {allowed}"
        return f"Keep digital: {names}, which are all, so that no chip is left: {none}."
    verdict = f"{'within' if found.holds else 'NOT shown to be within'} {allowed}"
    held_by = f"{names}, which hold {not_all(found.share):.1%} of the chip's weights" if names else "none"
    return (
        f"Keep digital: {held_by}.\n"
        f"Worse by {shown_drop(found.confirmed, metric)} ({100 * found.confidence:g}%) on {found.trials} chips "
        f"that did not choose, {verdict}.\n"
        f"Chosen among {counted(sets, 'set')} on {found.trials} other chips, where it was worse by "
        f"{shown_drop(found.chosen.drop, metric)}; all on the same examples: confirm it on others."
    )
