"""`samson budget`: the largest noise that a model stands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from samson.cli.options import (
    UNITS,
    Autocast,
    Compiled,
    DataName,
    ExecutorName,
    Metric,
    Model,
    NormsOn,
    Out,
    Page,
    Pretrained,
    ReadBlock,
    Resume,
    Seed,
    Select,
    Split,
    Weights,
    explained,
    faster,
    setting_of,
)
from samson.cli.showing import chip_bar, show_checks, shown, shown_interval, speaks, table_of, write_page
from samson.evaluation import noise_budget
from samson.evaluation.trials import TRIALS
from samson.experiments.errors import choose
from samson.experiments.subjects import Request, budget_record
from samson.noise import NOISES, PCM
from samson.records import write_json
from samson.report.budget import budget_page

AGEING: dict[str, Callable[[float], Any]] = {"pcm": partial(PCM, compensation="global")}
"""Devices whose level is their age in seconds; drift is compensated."""

RANGE = 0.001, 1.0
RANGES = {
    "pcm": (1.0, 10 * UNITS["y"]),
    **dict.fromkeys(("bit-errors", "bit-errors-4bit", "stuck-bits"), (1e-5, 0.2)),
}
"""The levels between which a budget is looked for by default, for families where that is not `RANGE`."""


def budget_model(
    model: Model,
    low: Annotated[
        float | None, typer.Option(help="The lowest level; by default .001, 1e-5 for bit errors, 1 s for pcm.")
    ] = None,
    high: Annotated[
        float | None, typer.Option(help="The highest level; by default 1, .2 for bit errors, 10 years for pcm.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="How much worse than without noise is allowed; .01 is a point.")
    ] = 0.01,
    relative: Annotated[bool, typer.Option("--relative", help="--max-drop is a fraction of the value.")] = False,
    criterion: Annotated[
        str, typer.Option(help="mean: over chips; yield: the share of chips that keep to it.")
    ] = "mean",
    min_yield: Annotated[float, typer.Option(help="With --criterion yield: the share that must.")] = 0.9,
    weights: Weights = None,
    pretrained: Pretrained = False,
    data: DataName = None,
    split: Split = "test",
    noise: Annotated[
        str, typer.Option("--noise", help=f"Family of noises: {', '.join(NOISES)}; or pcm, whose level is seconds.")
    ] = "gaussian",
    trials: Annotated[int, typer.Option(help="Chips.")] = TRIALS,
    metric: Metric = "accuracy",
    seed: Seed = 0,
    select: Select = None,
    read_block: ReadBlock = None,
    norms_on: NormsOn = None,
    autocast: Autocast = None,
    compiled: Compiled = False,
    executor: ExecutorName = "serial",
    resume: Resume = None,
    out: Out = None,
    page: Page = None,
) -> None:
    """Find the largest noise that costs a model at most so much."""
    families: dict[str, Callable[[float], Any]] = {**NOISES, **AGEING}
    choose("--noise", noise, families)
    family = families[noise]
    lowest, highest = RANGES.get(noise, RANGE)
    request = Request(model, weights, pretrained, data, split, norms_on)
    loaded, examples, named = request.load()
    setting = setting_of(metric, seed, select, read_block, request, executor, resume)
    with explained(resume), chip_bar() as told:
        setting["layout"] = faster(setting, loaded, examples, autocast, compiled)
        found = noise_budget(
            loaded,
            examples,
            family,
            lowest if low is None else low,
            highest if high is None else high,
            max_drop=max_drop,
            relative=relative,
            criterion=criterion,  # type: ignore[arg-type]
            min_yield=min_yield,
            trials=trials,
            progress=lambda level, state: told(f"{level:.3g}", metric)(state),
            **setting,
        )
    if not speaks():
        return
    table = table_of(f"{model}: {metric} on {named} under {noise}", None)
    table.add_row("without noise", shown(found.clean, metric), "", "")
    for level, result in found.evaluations.items():
        held = " held" if found.holds_up_to is not None and level <= found.holds_up_to else ""
        table.add_row(
            f"{level:.3g}{held}",
            shown_interval(result.interval, metric),
            shown(result.worst, metric),
            str(len(result.trials)),
        )
    Console().print(table)
    show_checks(((f"{level:.3g}", result.check) for level, result in found.evaluations.items()), metric)
    Console().print(f"Budget: {found}", highlight=False)
    record = budget_record(request, named, noise, family, found, setting, loaded)
    if out is not None:
        write_json(out, record)
    write_page(page, lambda: budget_page(record))
