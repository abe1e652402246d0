"""`samson evaluate`: any saved model on chips."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from samson.cli.options import (
    DEFAULT_LEVELS,
    Autocast,
    ChipName,
    Compiled,
    DataName,
    ExecutorName,
    Kind,
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
from samson.cli.showing import chip_bar, show_checks, shown, shown_interval, shown_share, speaks, table_of, write_page
from samson.evaluation import Evaluation, Setting, evaluate
from samson.evaluation.trials import MAX_TRIALS, TRIALS
from samson.experiments.subjects import Request, measured, noise_free, stamp, subject_of
from samson.records import EvaluationRecord, write_json
from samson.report.evaluation import evaluation_page


def evaluate_model(
    model: Model,
    weights: Weights = None,
    pretrained: Pretrained = False,
    data: DataName = None,
    split: Split = "test",
    noise: NoiseName = "gaussian",
    levels: Annotated[str, typer.Option(help="Noise levels, separated by commas.")] = DEFAULT_LEVELS,
    chip: ChipName = None,
    times: Annotated[
        str | None, typer.Option(help="With --chip: when it is read, for example 0s,1h,1d,1y; by default as it says.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help=f"Chips; {TRIALS} by default.")] = None,
    precision: Annotated[float | None, typer.Option(help="Instead of --trials: the half-width to reach.")] = None,
    max_trials: Annotated[int, typer.Option(help="With --precision: chips at most.")] = MAX_TRIALS,
    about: Annotated[
        str, typer.Option(help="Intervals about other chips, test_set, or also other examples, population.")
    ] = "test_set",
    at_least: Annotated[float | None, typer.Option(help="Show the share of chips that are at least this good.")] = None,
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
    """Put a model on noisy chips and show what it is worth there, with intervals."""
    kinds = kinds_of(noise, levels, chip, times)
    request = Request(model, weights, pretrained, data, split, norms_on)
    loaded, examples, named = request.load()
    setting = setting_of(metric, seed, select, read_block, request, executor, resume)
    found: list[tuple[Kind, Evaluation]] = []
    with explained(resume), chip_bar() as told:
        setting["layout"] = faster(setting, loaded, examples, autocast, compiled)
        for kind in kinds:
            own: Setting = {**setting, "time_s": kind.time_s}
            result = evaluate(
                loaded,
                examples,
                kind.noise,
                trials=trials,
                precision=precision,
                max_trials=max_trials,
                about=about,  # type: ignore[arg-type]
                progress=told(kind.label, metric),
                **own,
            )
            setting["layout"] = result.layout
            found.append((kind, result))
        clean = noise_free(loaded, examples, kinds[0].noise, setting)
    if not speaks():
        return
    table = table_of(f"{model}: {metric} on {named}", at_least, metric)
    table.add_row("without noise", shown(clean, metric), "", *([""] if at_least is not None else []), "")
    for kind, result in found:
        table.add_row(
            kind.label,
            shown_interval(result.interval, metric) + ("" if result.reached else " *"),
            shown(result.worst, metric),
            *([] if at_least is None else [shown_share(result, at_least)]),
            str(len(result.trials)),
        )
    Console().print(table)
    show_checks(((kind.label, result.check) for kind, result in found), metric)
    if any(not result.reached for _, result in found):
        Console().print(f"* wider than ±{precision:g}, even with the chips at hand", highlight=False)
    rows = tuple(measured(kind.label, kind.noise, kind.level, result) for kind, result in found)
    subject = subject_of(request, named, found[0][1], setting)
    record = EvaluationRecord(subject, clean, rows, *stamp(loaded), precision=precision)
    if out is not None:
        write_json(out, record)
    write_page(page, lambda: evaluation_page(record))
