"""`samson evaluate` and `samson budget`: any saved model on chips."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from samson.evaluation import (
    EXECUTORS,
    METRICS,
    Evaluation,
    Executor,
    Interval,
    Setting,
    evaluate,
    executor_named,
    noise_budget,
)
from samson.evaluation import Progress as State
from samson.evaluation.trials import MAX_TRIALS, TRIALS
from samson.experiments import SetupError
from samson.experiments.chips import find_chip
from samson.experiments.data import DATA
from samson.experiments.errors import choose, require
from samson.experiments.planning import LEVELS, checked_levels
from samson.experiments.subjects import (
    SPLITS,
    Request,
    budget_record,
    measured,
    noise_free,
    stamp,
    subject_of,
)
from samson.noise import NOISES, PRESETS
from samson.records import EvaluationRecord, write_json

Model = Annotated[
    str, typer.Argument(help="`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights: `.safetensors`, `.pt` or `.pth`.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Download what timm or torchvision publish.")]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help=f"{', '.join(DATA)}, MODULE:FUNCTION, or FILE.safetensors with `inputs` and `targets`; by default those "
        "of a saved network.",
    ),
]
Split = Annotated[str, typer.Option(help=f"Of a data set by name: {', '.join(SPLITS)}.")]
Metric = Annotated[str, typer.Option(help=f"{', '.join(METRICS)}.")]
Seed = Annotated[int, typer.Option(help="Seed of the set of chips.")]
Select = Annotated[list[str] | None, typer.Option(help="Pattern of layers on the chip; may be repeated.")]
ReadBlock = Annotated[int | None, typer.Option(help="Examples of one reading of a chip; by default all.")]
NormsOn = Annotated[
    str | None,
    typer.Option(help="Estimate batch norm anew on each chip, from for example digits/train, or as for --data."),
]
ExecutorName = Annotated[str, typer.Option("--executor", help=f"Where chips are computed: {', '.join(EXECUTORS)}.")]
Out = Annotated[Path | None, typer.Option(help="Write a record with every trial to this file, `.json`.")]
NoiseName = Annotated[str, typer.Option("--noise", help=f"Family of noises: {', '.join(NOISES)}.")]

DEFAULT_LEVELS = ",".join(f"{level:g}" for level in LEVELS)
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "y": 365 * 86_400.0}


def evaluate_model(
    model: Model,
    weights: Weights = None,
    pretrained: Pretrained = False,
    data: DataName = None,
    split: Split = "test",
    noise: NoiseName = "gaussian",
    levels: Annotated[str, typer.Option(help="Noise levels, separated by commas.")] = DEFAULT_LEVELS,
    chip: Annotated[
        str | None, typer.Option(help=f"Instead of --noise, a chip: {', '.join(PRESETS)}, or FILE.toml.")
    ] = None,
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
    executor: ExecutorName = "serial",
    out: Out = None,
) -> None:
    """Put a model on noisy chips and show what it is worth there, with intervals."""
    kinds = _kinds(noise, levels, chip, times)
    request = Request(model, weights, pretrained, data, split, norms_on)
    loaded, examples, named = request.load()
    setting = _setting(metric, seed, select, read_block, request, executor)
    found: list[tuple[_Kind, Evaluation]] = []
    with _bar() as told, _explained():
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
    if not _speaks():
        return
    table = _table(f"{model}: {metric} on {named}", at_least)
    table.add_row("without noise", _shown(clean, metric), "", *([""] if at_least is not None else []), "")
    for kind, result in found:
        table.add_row(
            kind.label,
            _interval(result.interval, metric) + ("" if result.reached else " *"),
            _shown(result.worst, metric),
            *([] if at_least is None else [_share(result, at_least)]),
            str(len(result.trials)),
        )
    Console().print(table)
    if any(not result.reached for _, result in found):
        Console().print(f"* wider than ±{precision:g}, even with the chips at hand", highlight=False)
    if out is not None:
        rows = tuple(measured(kind.label, kind.noise, kind.level, result) for kind, result in found)
        subject = subject_of(request, named, found[0][1], setting)
        write_json(out, EvaluationRecord(subject, clean, rows, *stamp(loaded)))


def budget_model(
    model: Model,
    low: Annotated[float, typer.Option(help="The lowest level.")] = 0.001,
    high: Annotated[float, typer.Option(help="The highest level.")] = 1.0,
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
    executor: ExecutorName = "serial",
    out: Out = None,
) -> None:
    """Find the largest noise that costs a model at most so much."""
    families: dict[str, Callable[[float], Any]] = {**NOISES, **AGEING}
    choose("--noise", noise, families)
    family = families[noise]
    request = Request(model, weights, pretrained, data, split, norms_on)
    loaded, examples, named = request.load()
    setting = _setting(metric, seed, select, read_block, request, executor)
    with _explained(), _bar() as told:
        found = noise_budget(
            loaded,
            examples,
            family,
            low,
            high,
            max_drop=max_drop,
            relative=relative,
            criterion=criterion,  # type: ignore[arg-type]
            min_yield=min_yield,
            trials=trials,
            progress=lambda level, state: told(f"{level:.3g}", metric)(state),
            **setting,
        )
    if not _speaks():
        return
    table = _table(f"{model}: {metric} on {named} under {noise}", None)
    table.add_row("without noise", _shown(found.clean, metric), "", "")
    for level, result in found.evaluations.items():
        held = " held" if found.holds_up_to is not None and level <= found.holds_up_to else ""
        table.add_row(
            f"{level:.3g}{held}",
            _interval(result.interval, metric),
            _shown(result.worst, metric),
            str(len(result.trials)),
        )
    Console().print(table)
    Console().print(f"Budget: {found}", highlight=False)
    if out is not None:
        write_json(out, budget_record(request, named, noise, family, found, setting, loaded))


def _pcm(time_s: float) -> Any:
    from samson.noise import PCM

    return PCM(time_s=time_s, compensation="global")


AGEING: dict[str, Callable[[float], Any]] = {"pcm": _pcm}
"""Devices whose level is their age in seconds; drift is compensated."""


@dataclass(frozen=True)
class _Kind:
    """One kind of chip at one time."""

    label: str
    noise: Any
    level: float | None
    time_s: float | None = None


def _kinds(noise: str, levels: str, chip: str | None, times: str | None) -> list[_Kind]:
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        choose("--noise", noise, NOISES)
        wanted = checked_levels(parse_levels(levels), noise)
        return [_Kind(f"{level:g}", NOISES[noise](level), level) for level in wanted if level]
    kind = find_chip(chip)
    if times is None:
        return [_Kind(chip, kind, None)]
    return [_Kind(f"{chip} at {word}", kind, time_s, time_s) for word, time_s in parse_times(times).items()]


def parse_levels(text: str) -> list[float]:
    """Read noise levels separated by commas.

    Raises:
        SetupError: If one is not a number.
    """
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise SetupError(
            f"--levels must be numbers separated by commas, got {text!r}.\nWrite for example 0,.1,.2."
        ) from None


def parse_times(text: str) -> dict[str, float]:
    """Read times separated by commas, each a number with s, m, h, d or y; in seconds, by how they were written.

    Raises:
        SetupError: If one is none.

    Example:
        >>> parse_times("0s,1.5h,30d")
        {'0s': 0.0, '1.5h': 5400.0, '30d': 2592000.0}
    """
    found = {}
    for word in text.split(","):
        try:
            found[word] = float(word[:-1]) * UNITS[word[-1:]]
        except (ValueError, KeyError):
            raise SetupError(
                f"--times must be numbers with one of {', '.join(UNITS)}, separated by commas, got {text!r}.\n"
                "Write for example 0s,1h,1d,1y."
            ) from None
    return found


def _setting(
    metric: str, seed: int, select: list[str] | None, read_block: int | None, request: Request, executor: str
) -> Setting:
    choose("--metric", metric, METRICS)
    return {
        "metric": metric,
        "seed": seed,
        "select": select or None,
        "read_block": read_block,
        "norm_data": request.norm_data(),
        "executor": _executor(executor),
    }


def _executor(name: str) -> Executor:
    choose("--executor", name, EXECUTORS)
    try:
        return executor_named(name)
    except (ImportError, ValueError, RuntimeError) as error:
        raise SetupError(f"--executor {name}: {error}") from error


def _speaks() -> bool:
    """Whether this process shows and writes results: of several that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def _table(title: str, at_least: float | None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ["Noise", "Mean over chips [95 %]", "Worst", *([] if at_least is None else [f"≥ {at_least:g}"]), "Chips"]
    for name in names:
        table.add_column(name, justify="left" if name == "Noise" else "right", no_wrap=name != "Noise")
    return table


def _shown(value: float, metric: str) -> str:
    """Accuracies in percent, anything else as it is."""
    return f"{100 * value:.1f} %" if METRICS[metric].bounds == (0.0, 1.0) else f"{value:.4g}"


def _interval(found: Interval, metric: str) -> str:
    return f"{_shown(found.mean, metric)} [{_shown(found.low, metric)}, {_shown(found.high, metric)}]"


def _share(result: Evaluation, value: float) -> str:
    share = result.yield_at(value)
    return f"{100 * share.mean:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


@contextmanager
def _explained() -> Iterator[None]:
    """What the library refuses is bad input of the user's."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise SetupError(as_options(str(error))) from error


def as_options(message: str) -> str:
    """An error of the library in the words of the command line.

    Example:
        >>> as_options("`max_trials` must be at least 2, got 1.")
        '--max-trials must be at least 2, got 1.'
    """
    return re.sub(r"`([a-z_]+)`", lambda found: "--" + found[1].replace("_", "-"), message)


@contextmanager
def _bar() -> Iterator[Callable[[str, str], Callable[[State], None]]]:
    """A progress bar that also shows the interval of the chips so far."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[so_far]}"),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=not _speaks()), transient=True) as bars:
        task = bars.add_task("chips", total=None, so_far="")

        def told(label: str, metric: str) -> Callable[[State], None]:
            def update(state: State) -> None:
                i = state.interval
                so_far = "" if i is None else _interval(i, metric)
                bars.update(task, description=label, completed=state.done, total=state.planned, so_far=so_far)

            return update

        yield told
