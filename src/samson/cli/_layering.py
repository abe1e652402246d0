"""`samson sensitivity`: which layers lose the accuracy."""

from __future__ import annotations

from typing import Annotated

import typer

from samson._errors import require
from samson.cli._kinds import kinds_of
from samson.cli._options import Levels, ModelOptions, Times, model_command
from samson.cli._showing import console, speaks, write_results


@model_command
def sensitivity_of_model(
    options: ModelOptions,
    levels: Levels = ".1",
    times: Times = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Suggest layers to keep digital so that the drop is at most this.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Chips.")] = 20,
) -> None:
    """Rank the layers of a model by what noise on them costs."""
    from samson.evaluation import sensitivity
    from samson.experiments import sensitivity_record
    from samson.report import sensitivity_page

    [kind, *others] = kinds_of(options, levels, times)
    what, given = ("level", levels) if options.chip is None else ("time", times)
    require(not others, f"--{what}s", f"one {what} for a sensitivity", given, f"Repeat the command for each {what}.")
    with options.measuring() as run:
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
    write_results(
        options.out, options.page, sensitivity_record(run.subject(found), kind.record(), found), sensitivity_page
    )
    console(width=max(console().width, 100)).print(str(found), soft_wrap=True)
