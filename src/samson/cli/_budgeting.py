"""`samson budget`: the largest noise that a model stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from samson._errors import SetupError, require
from samson._times import level_text
from samson.cli._measuring import measuring
from samson.cli._options import ModelOptions, model_command
from samson.cli._showing import console, results_written, show_whole, speaks, table_of

if TYPE_CHECKING:
    from samson.evaluation import Noise, Progress


@model_command
def budget_model(
    options: ModelOptions,
    low: Annotated[
        str | None, typer.Option(help="The lowest level; by default .001, 1e-5 for bit errors, 1s for ages.")
    ] = None,
    high: Annotated[
        str | None, typer.Option(help="The highest level; by default 1, .2 for bit errors, 10y for ages.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="How much worse than without noise is allowed; of accuracy .01 is a point.")
    ] = 0.01,
    relative: Annotated[bool, typer.Option("--relative", help="--max-drop is a fraction of the value.")] = False,
    criterion: Annotated[
        str, typer.Option(help="What must keep to --max-drop. mean: the mean over chips; yield: a share of the chips.")
    ] = "mean",
    min_yield: Annotated[
        float | None, typer.Option(help="With --criterion yield: the share that must; .9 by default.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Chips.")] = 20,
) -> None:
    """Find the largest noise that costs a model at most --max-drop; with --chip, the largest age or bit error rate."""
    from samson.evaluation import LEVELS, REFINEMENTS, noise_budget
    from samson.experiments import chip_by_level, find_noise, parse_level
    from samson.report import budget_page, interval_text, value_text

    plain = min_yield is None or criterion == "yield"
    require(plain, "--min-yield", "left out without --criterion yield", min_yield, "Leave it out, or give both.")
    name = options.family
    make, usual = (find_noise(name),) * 2 if options.chip is None else chip_by_level(options.chip)
    ends = [
        default if given is None else parse_level(given, usual.unit, parameter)
        for parameter, given, default in (("--low", low, usual.low), ("--high", high, usual.high))
    ]

    def family(level: float) -> Noise:
        return options.calibrated(make(level))

    for parameter, level in zip(("--low", "--high"), ends, strict=True):
        try:
            family(level)
        except SetupError:  # it says what is wrong, at any level
            raise
        except ValueError as error:
            raise SetupError(f"{parameter}: {level_text(level, usual.unit)} does not fit {name!r}.\n{error}") from error
    seen: dict[float, int] = {}

    def progress(level: float, state: Progress) -> None:
        number = seen.setdefault(level, len(seen) + 1)
        run.progress(f"{level_text(level, usual.unit)}, {number} of at most {LEVELS + REFINEMENTS} levels")(state)

    with measuring(options) as run:
        found = noise_budget(
            run.model,
            run.data,
            family,
            *ends,
            max_drop=max_drop,
            relative=relative,
            criterion=criterion,  # type: ignore[arg-type]
            min_yield=0.9 if min_yield is None else min_yield,
            trials=trials,
            progress=progress,
            **run.setting,
        )
    if not speaks():
        return
    subject = run.subject(found)
    with results_written(options.out, options.page, replace(found.record(), subject=subject, family=name), budget_page):
        table = table_of(f"{options.model} on {options.request.data_name} under {name}", subject)
        table.add_row("without noise", value_text(found.clean, subject), "", "")
        for level, result in found.evaluations.items():
            held = " held" if found.holds_up_to is not None and level <= found.holds_up_to else ""
            interval, worst = interval_text(result.interval, subject), value_text(result.worst, subject)
            table.add_row(f"{level_text(level, found.unit)}{held}", interval, worst, str(len(result.trials)))
        show_whole(table)
        console().print(f"Budget: {found}")
