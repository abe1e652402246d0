"""How sharp the networks of a comparison are on the training split, and how that goes with their accuracy on chips."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from samson.evaluation import TRIALS, Layout
from samson.experiments._checkpoints import load_checkpoint
from samson.experiments._data import DATA, Pair
from samson.experiments._environment import environment
from samson.experiments._errors import SetupError, choose, require
from samson.experiments._planning import load_records
from samson.experiments._runs import one_thread, run_name
from samson.noise import NOISES
from samson.optim import RULES, Rule
from samson.records import (
    CorrelationRow,
    Interval,
    NetworkSharpness,
    RecordError,
    RunRecord,
    SharpnessRecord,
    SharpnessSettings,
    finite,
    read_json,
    write_json,
)
from samson.sharpness import (
    WorstCase,
    average_rise,
    hessian_top,
    hessian_trace,
    require_curvlinops,
    worst_case_rise,
)
from samson.statistics import CONFIDENCE, LEAST_METHODS, rank_correlation

FILE = "sharpness.json"
STEPS = 8

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the network at hand, networks done, and networks in all."""


def measure_folder(
    folder: Path, *, steps: int = STEPS, trials: int = TRIALS, curvature: bool = False, progress: OnProgress
) -> SharpnessRecord:
    """Measure every network of a comparison and write `sharpness.json` after each; a repetition goes on from there.

    Measures, all on the training split and in evaluation mode: "loss" (the loss itself), for each rule with its
    default radius "RULE one step" and "RULE worst" (the rise of the loss in its ball), "noise" (the average rise under
    the middle level of the comparison's noise), and with `curvature` "hessian top" and "hessian trace". Accuracies
    come from the records.

    Args:
        folder: The comparison's folder, with its `records/` and `networks/`.
        steps: Steps of the ascent for "RULE worst", ≥ 1.
        trials: Chips for "noise", ≥ 2.
        curvature: Whether the Hessian is looked at, which takes longest and needs the extra `curvature`.
        progress: Called before each network and at the end.

    Raises:
        SetupError: If the folder has no finished runs, a network is missing, or `sharpness.json` was made with other
            settings or is damaged.
        ImportError: If `curvature` needs a package that is not installed.
    """
    require(steps >= 1, "--steps", "at least 1", steps, f"The default is {STEPS}.")
    require(trials >= 2, "--trials", "at least 2 chips, for an interval", trials, f"The default is {TRIALS}.")
    if curvature:
        require_curvlinops()
    records = [record for record in load_records(folder) if record.levels]  # a network that diverged has no sharpness
    require(bool(records), "DIR", "a folder with finished runs", str(folder), "Run `samson compare` first.")
    plan = records[0].configuration
    data = DATA[choose("`data` of the comparison", plan.data, DATA)]().train
    rules = {name: rule() for name, rule in RULES.items()}  # type: ignore[call-arg]
    noisy = [level for level in plan.levels if level]
    settings = SharpnessSettings(
        split="train",
        examples=len(data[1]),
        rules={name: _settings(rule) for name, rule in rules.items()},
        steps=steps,
        noise=plan.noise,
        level=noisy[len(noisy) // 2],
        trials=trials,
        seed=plan.chip_seed,
    )
    empty = SharpnessRecord(plan, settings, records[0].split, (), (), CONFIDENCE, environment())
    known = _known(folder / FILE, empty)
    for done, run in enumerate(records):
        name = run_name(run.method, run.seed)
        progress(name, done, len(records))
        before = known.get((run.method, run.seed), {})
        wanted = [measure for measure in _names(rules, curvature) if measure not in before]
        if wanted:
            found = _measured(folder / "networks" / f"{name}.safetensors", data, settings, rules, wanted)
            known[run.method, run.seed] = before | found
            write_json(folder / FILE, dataclasses.replace(empty, networks=_networks(records, known)))
    progress("", len(records), len(records))
    record = dataclasses.replace(empty, networks=_networks(records, known))
    record = dataclasses.replace(record, correlations=correlations(record))
    write_json(folder / FILE, record)
    return record


def correlations(record: SharpnessRecord) -> tuple[CorrelationRow, ...]:
    """Every measure against the accuracy at every level; nothing with fewer than 6 methods.

    A measure or an accuracy that is the same for all networks has no row.
    """
    methods = dict.fromkeys(network.method for network in record.networks)
    if len(methods) < LEAST_METHODS:
        return ()
    of_method = {m: [network for network in record.networks if network.method == m] for m in methods}
    rows = []
    for measure in record.measures:
        sharp = {m: [n.measures[measure].mean for n in networks] for m, networks in of_method.items()}
        for number, level in enumerate(record.configuration.levels):
            accurate = {m: [n.accuracies[number] for n in networks] for m, networks in of_method.items()}
            if any(len({value for values in of.values() for value in values}) == 1 for of in (sharp, accurate)):
                continue
            found = rank_correlation(sharp, accurate, confidence=record.confidence, seed=record.settings.seed)
            rows.append(
                CorrelationRow(
                    measure,
                    level,
                    found.kendall,
                    found.spearman,
                    found.kendall_of_means,
                    found.spearman_of_means,
                    found.points,
                    found.methods,
                )
            )
    return tuple(rows)


Measures = dict[str, Interval]


def _names(rules: dict[str, Rule], curvature: bool) -> list[str]:
    """The measures, in order."""
    names = ["loss", *(f"{name} {kind}" for name in rules for kind in ("one step", "worst")), "noise"]
    return names + ["hessian top", "hessian trace"] * curvature


def _measured(
    path: Path, data: Pair, settings: SharpnessSettings, rules: dict[str, Rule], wanted: Sequence[str]
) -> Measures:
    """Those measures of a network that are wanted, and such as come with them."""
    model, _ = load_checkpoint(path)
    found: Measures = {}
    with one_thread():
        for name, rule in rules.items():
            if f"{name} worst" in wanted:
                worst = _worst(path, model, data, rule, settings.steps)
                found["loss"] = _exact(worst.clean)
                found[f"{name} one step"], found[f"{name} worst"] = _exact(worst.one_step), _exact(worst.rise)
        if "noise" in wanted:
            noise = NOISES[settings.noise](settings.level)
            rise = average_rise(model, data, noise, trials=settings.trials, seed=settings.seed, layout=Layout())
            found["noise"] = rise.interval
        if "hessian trace" in wanted:
            found["hessian top"] = _exact(hessian_top(model, data, seed=settings.seed))
            found["hessian trace"] = hessian_trace(model, data, seed=settings.seed).interval
    return found


def _worst(path: Path, model: nn.Module, data: Pair, rule: Rule, steps: int) -> WorstCase:
    try:
        worst = worst_case_rise(model, data, rule, steps=steps)
    except ValueError as error:
        raise SetupError(f"`{path}` cannot be measured: {error}") from error
    if not math.isfinite(worst.rise):
        raise SetupError(f"`{path}` cannot be measured: its loss is not finite within the ball of {rule}.")
    return worst


def _networks(records: Sequence[RunRecord], known: dict[tuple[str, int], Measures]) -> tuple[NetworkSharpness, ...]:
    """What is known, in the order of the records, with their accuracies."""
    return tuple(
        NetworkSharpness(
            run.method,
            run.seed,
            known[run.method, run.seed],
            tuple(float(np.mean(level.accuracies)) for level in run.levels),
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
    if (found.configuration, found.settings) != (record.configuration, record.settings):
        raise SetupError(f"`{path}` was measured with other settings, or for another comparison.\n{mend}")
    return {(network.method, network.seed): network.measures for network in found.networks}


def _settings(rule: Rule) -> dict[str, float | str]:
    return {key: finite(value) if isinstance(value, float) else value for key, value in vars(rule).items()}


def _exact(value: float) -> Interval:
    return Interval(value, value, value)
