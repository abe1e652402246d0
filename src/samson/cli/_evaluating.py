"""`samson evaluate`: any saved model on chips."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import typer

from samson._errors import require
from samson.cli._measuring import kinds_of, measuring
from samson.cli._options import ModelOptions, model_command
from samson.cli._showing import console, results_written, show_whole, speaks, table_of


@model_command
def evaluate_model(
    options: ModelOptions,
    levels: Annotated[
        str | None,
        typer.Option(
            "--levels",
            "--level",
            help="Levels of the noise, separated by commas; of a noise of your own the mildest first. By default some "
            "that suit the noise.",
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(help="With --chip: when it is read, for example 0s,1h,1d,1y; by default at the chip's own time."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Chips; 20 by default.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Instead of --trials: draw chips until the interval is ± this.")
    ] = None,
    max_trials: Annotated[int | None, typer.Option(help="With --precision: chips at most; 1280 by default.")] = None,
    about: Annotated[
        str,
        typer.Option(
            help="What intervals are about. test_set: other chips; population: other chips and other examples."
        ),
    ] = "test_set",
    at_least: Annotated[float | None, typer.Option(help="Show the share of chips that are at least this good.")] = None,
) -> None:
    """Put a model on noisy chips and measure its accuracy there, or another metric, with intervals."""
    from samson.evaluation import MAX_TRIALS, evaluate, require_reachable
    from samson.records import EvaluationRecord
    from samson.report import evaluation_page, interval_text, scale_of, value_text

    require(at_least is None or math.isfinite(at_least), "--at-least", "finite", at_least, "Write for example .9.")
    alone = max_trials is not None and precision is None
    require(not alone, "--max-trials", "left out without --precision", max_trials, "Give --trials, or both.")
    kinds = kinds_of(options, levels, times)
    most = MAX_TRIALS if max_trials is None else max_trials
    with measuring(options) as run:
        if at_least is not None:
            require_reachable("--at-least", at_least, run.metric)
        found = [
            evaluate(
                run.model,
                run.data,
                kind.noise,
                trials=trials,
                precision=precision,
                max_trials=most,
                about=about,  # type: ignore[arg-type]
                progress=run.progress(kind.label),
                **run.of_kind(kind),
            )
            for kind in kinds
        ]
    if not speaks():
        return
    clean, subject = found[0].clean, run.subject(found[-1])
    assert clean is not None
    each = tuple(
        replace(row, kind=replace(kind.record(), alike=row.kind.alike))
        for kind, result in zip(kinds, found, strict=True)
        for row in result.record().measured
    )
    record = EvaluationRecord(subject, clean, each, precision)
    with results_written(options.out, options.page, record, evaluation_page):
        title = f"{options.model} on {options.request.data_name} under {options.family}"
        sign = "≥" if subject.higher_is_better else "≤"
        limit = "" if at_least is None else f"{sign} {scale_of(subject) * at_least:g}{' %' * subject.is_fraction}"
        table = table_of(title, subject, limit)
        table.add_row("without noise", value_text(clean, subject), *[""] * (2 + bool(limit)))
        for kind, result in zip(kinds, found, strict=True):
            table.add_row(
                kind.label,
                interval_text(result.interval, subject) + ("" if result.reached else " *"),
                value_text(result.worst, subject),
                *([] if at_least is None else [f"{result.yield_at(at_least):.0%}"]),
                str(len(result.trials)),
            )
        show_whole(table)
        console().print(f"On the chip: {found[0].coverage}")
        wide = [len(result.trials) for result in found if not result.reached]
        if wide:
            more = f"; where fewer than {most}, more examples are needed" if min(wide) < most else ""
            console().print(f"* wider than ±{precision:g}, even with the chips at hand{more}")
