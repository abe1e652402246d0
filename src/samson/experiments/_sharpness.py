"""How sharp the networks of a comparison are on the training split, and how that goes with their accuracy on chips."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from samson._batches import Examples
from samson._environment import environment
from samson._errors import SetupError, choose, require
from samson.evaluation import TRIALS, Layout
from samson.experiments._checkpoints import load_checkpoint
from samson.experiments._folders import read_records
from samson.experiments._place import one_thread
from samson.experiments._plan import OnProgress
from samson.experiments._runs import network_path
from samson.experiments.data import DATA, length, load_data_set
from samson.noise import NOISES, WeightNoise
from samson.optim import RULES, Rule
from samson.records import (
    ChipFamily,
    Interval,
    NetworkSharpness,
    RecordError,
    RunRecord,
    SharpnessRecord,
    SharpnessSettings,
    finite,
    read_json,
    run_name,
    write_json,
)
from samson.sharpness import WorstCase, average_rise, hessian_top, hessian_trace, worst_case_rise
from samson.statistics import CONFIDENCE, sharpness_correlations

STEPS = 8
LOSSES = {"regression": "mse"}
"""The loss of a task, where that is not the cross-entropy."""


def sharpness_path(folder: Path, problem: str) -> Path:
    """Where the sharpness of a problem's networks lies in the folder of a comparison."""
    return folder / "sharpness" / f"{problem}.json"


def measure_folder(
    folder: Path,
    *,
    steps: int = STEPS,
    trials: int = TRIALS,
    examples: int | None = None,
    curvature: bool = False,
    progress: OnProgress,
    data_root: Path = Path("data"),
) -> list[SharpnessRecord]:
    """Measure every network of a comparison; each problem's record is written after each network.

    A repetition goes on from there. Measures, all on the training split and in evaluation mode: "loss" (the loss
    itself), for each rule with its default radius "RULE one step" and "RULE worst" (the rise of the loss in its ball),
    "noise" (the average rise on the middle kind of a family of chips), and with `curvature` "hessian top" and "hessian
    trace". Accuracies come from the records, for the first family of chips that has a name of the catalogue.

    Args:
        folder: The comparison's folder, with its `records/` and `networks/`.
        steps: Steps of the ascent for "RULE worst", ≥ 1.
        trials: Chips for "noise", ≥ 2.
        examples: Training examples that are looked at, ≥ 1, always the same ones; None takes all.
        curvature: Whether the Hessian is looked at, which takes longest.
        progress: Called before each network, with its name, networks done and networks in all; before a problem's
            correlations; and at the end.
        data_root: Where files of data are looked for.

    Returns:
        A record for each problem.

    Raises:
        SetupError: If the folder has no finished runs, a network is missing, or a record of sharpness was made with
            other settings or is damaged.
    """
    require(steps >= 1, "`steps`", "at least 1", steps, f"The default is {STEPS}.")
    require(trials >= 2, "`trials`", "at least 2 chips, for an interval", trials, f"The default is {TRIALS}.")
    require(examples is None or examples >= 1, "`examples`", "at least 1", examples, "Leave it out for all.")
    records = [record for record in read_records(folder) if record.measured]  # a network that diverged has none
    require(bool(records), "DIR", "a folder with finished runs", str(folder), "Run `samson compare` first.")
    by_problem: dict[str, list[RunRecord]] = {}
    for record in records:
        by_problem.setdefault(record.problem.name, []).append(record)
    done = 0

    def begin(name: str, networks: int = 1) -> None:
        nonlocal done
        progress(name, done, len(records))
        done += networks

    found = [
        _measure_problem(folder, of_problem, steps, trials, examples, curvature, begin, data_root)
        for of_problem in by_problem.values()
    ]
    begin("")
    return found


def _measure_problem(
    folder: Path,
    records: Sequence[RunRecord],
    steps: int,
    trials: int,
    examples: int | None,
    curvature: bool,
    begin: Callable[..., None],
    data_root: Path,
) -> SharpnessRecord:
    first = records[0]
    code = [one for one in (first.problem.data, first.problem.network) if ":" in one]
    require(
        not code,
        "DIR",
        "a comparison of data and networks by name, since a record names no code to run",
        ", ".join(code),
        "Measure your own in Python: samson.sharpness.worst_case_rise(samson.experiments.load_model(…), data, rule).",
    )
    choose("the data of the comparison", first.problem.data, DATA)
    splits = load_data_set(first.problem.data, data_root)
    data = splits.some("train", examples)
    rules = {name: rule() for name, rule in RULES.items()}  # type: ignore[call-arg]
    family = next((family for family in first.families if family.name in NOISES), None)
    if family is None:
        raise SetupError(
            f"DIR {str(folder)!r} must hold a family of chips named as in `samson list noises`, got "
            f"{', '.join(family.name for family in first.families)}.\nAdd one to the comparison."
        )
    middle = family.kinds[len(family.kinds) // 2]
    noise = NOISES[family.name](middle.level or 0.0)
    mend = "Only noises by name can be made again: add one to the comparison, and give your own another `name`."
    rule = f"{noise!r} in the family {family.name!r}, as in `samson list noises`"
    require(repr(noise) == middle.noise, "chips of the comparison", rule, middle.noise, mend)
    settings = SharpnessSettings(
        split="train",
        examples=min(length(splits.train), examples or length(splits.train)),
        rules={name: _settings(rule) for name, rule in rules.items()},
        steps=steps,
        noise=family.name,
        kind=middle.label,
        trials=trials,
        seed=first.chip_seed,
    )
    empty = SharpnessRecord(
        first.problem, family, first.trials, settings, first.split, (), (), CONFIDENCE, environment()
    )
    path = sharpness_path(folder, first.problem.name)
    known = _known(path, empty)
    for run in records:
        name = run_name(run.problem.name, run.method, run.seed)
        begin(name)
        before = known.get((run.method, run.seed), {})
        wanted = [measure for measure in _names(rules, curvature) if measure not in before]
        if wanted:
            loss = LOSSES.get(first.problem.task, "cross-entropy")
            found = _measured(network_path(folder, name), data, settings, rules, noise, loss, wanted)
            known[run.method, run.seed] = before | found
            write_json(path, dataclasses.replace(empty, networks=_networks(records, family, known)))
    begin(f"{first.problem.name}: correlations", 0)
    record = dataclasses.replace(empty, networks=_networks(records, family, known))
    record = dataclasses.replace(record, correlations=sharpness_correlations(record))
    write_json(path, record)
    return record


Measures = dict[str, Interval]


def _names(rules: dict[str, Rule], curvature: bool) -> list[str]:
    """The measures, in order."""
    names = ["loss", *(f"{name} {kind}" for name in rules for kind in ("one step", "worst")), "noise"]
    return names + ["hessian top", "hessian trace"] * curvature


def _measured(
    path: Path,
    data: Examples,
    settings: SharpnessSettings,
    rules: dict[str, Rule],
    noise: WeightNoise,
    loss: str,
    wanted: Sequence[str],
) -> Measures:
    """Those measures of a network that are wanted, and such as come with them."""
    model, _ = load_checkpoint(path)
    found: Measures = {}
    with one_thread():
        for name, rule in rules.items():
            if f"{name} worst" in wanted:
                worst = _worst(path, model, data, rule, settings.steps, loss)
                found["loss"] = _exact(worst.clean)
                found[f"{name} one step"], found[f"{name} worst"] = _exact(worst.one_step), _exact(worst.rise)
        if "noise" in wanted:
            rise = average_rise(
                model, data, noise, trials=settings.trials, seed=settings.seed, layout=Layout(), metric=loss
            )
            found["noise"] = rise.interval
        if "hessian trace" in wanted:
            found["hessian top"] = _exact(hessian_top(model, data, loss=loss, seed=settings.seed))
            found["hessian trace"] = hessian_trace(model, data, loss=loss, seed=settings.seed).interval
    return found


def _worst(path: Path, model: nn.Module, data: Examples, rule: Rule, steps: int, loss: str) -> WorstCase:
    try:
        worst = worst_case_rise(model, data, rule, steps=steps, loss=loss)
    except ValueError as error:
        raise SetupError(f"`{path}` cannot be measured: {error}") from error
    if not math.isfinite(worst.rise):
        raise SetupError(f"`{path}` cannot be measured: its loss is not finite within the ball of {rule}.")
    return worst


def _networks(
    records: Sequence[RunRecord], family: ChipFamily, known: dict[tuple[str, int], Measures]
) -> tuple[NetworkSharpness, ...]:
    """What is known, in the order of the records, with their accuracies."""
    number = records[0].families.index(family)
    return tuple(
        NetworkSharpness(
            run.method,
            run.seed,
            known[run.method, run.seed],
            (float(run.clean or 0.0), *(float(np.mean(chips)) for chips in run.measured[number])),
        )
        for run in records
        if (run.method, run.seed) in known
    )


def _known(path: Path, record: SharpnessRecord) -> dict[tuple[str, int], Measures]:
    """What an earlier command measured in the same way."""
    if not path.exists():
        return {}
    mend = "Delete or move that file to measure anew."
    try:
        found = read_json(path, SharpnessRecord)
    except RecordError as error:
        raise SetupError(f"{error}\n{mend}") from error
    if dataclasses.replace(found, networks=(), correlations=(), environment=record.environment) != record:
        raise SetupError(f"`{path}` was measured with other settings, or for another comparison.\n{mend}")
    return {(network.method, network.seed): network.measures for network in found.networks}


def _settings(rule: Rule) -> dict[str, float | str]:
    own = {key: float(value) if isinstance(value, bool) else value for key, value in vars(rule).items()}
    return {key: finite(value) for key, value in own.items() if value is not None}


def _exact(value: float) -> Interval:
    return Interval(value, value, value)
