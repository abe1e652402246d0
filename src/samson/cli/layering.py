"""`samson sensitivity`: which layers lose the accuracy."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from samson.cli.options import (
    Autocast,
    ChipName,
    Compiled,
    DataName,
    ExecutorName,
    Metric,
    Model,
    NoiseName,
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
    kinds_of,
    setting_of,
)
from samson.cli.showing import chip_bar, show_checks, speaks, write_page
from samson.evaluation import sensitivity
from samson.evaluation.trials import TRIALS
from samson.experiments.subjects import Request, stamp
from samson.records import write_json
from samson.report.sensitivity import sensitivity_page


def sensitivity_of_model(
    model: Model,
    noise: NoiseName = "gaussian",
    level: Annotated[float, typer.Option(help="Level of the noise.")] = 0.1,
    chip: ChipName = None,
    times: Annotated[str | None, typer.Option("--times", help="With --chip: when it is read, for example 1d.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Suggest layers to keep digital so that the drop is at most this.")
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    data: DataName = None,
    split: Split = "test",
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
    """Rank the layers of a model by what noise on them costs."""
    kind = kinds_of(noise, f"{level:g}", chip, times)[0]
    request = Request(model, weights, pretrained, data, split, norms_on)
    loaded, examples, named = request.load()
    setting = setting_of(metric, seed, select, read_block, request, executor, resume)
    setting["time_s"] = kind.time_s
    with explained(resume), chip_bar() as told:
        setting["layout"] = faster(setting, loaded, examples, autocast, compiled)
        found = sensitivity(loaded, examples, kind.noise, trials=trials, progress=told("layers", metric), **setting)
        told_more = told("what to keep digital", metric)
        suggestion = None if max_drop is None else found.keep_digital(max_drop, progress=told_more)
    if not speaks():
        return
    Console(width=max(Console().width, 100)).print(str(found), highlight=False, soft_wrap=True)
    show_checks([("noise on all layers", found.check)], metric)
    if suggestion is not None:
        Console().print(str(suggestion), highlight=False, soft_wrap=True)
    environment, finished = stamp(loaded)
    record = found.record(
        network=model,
        data=named,
        environment=environment,
        finished=finished,
        suggestion=suggestion,
    )
    if out is not None:
        write_json(out, record)
    write_page(page, lambda: sensitivity_page(record))
