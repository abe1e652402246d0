"""From what a user asks for to a configuration, checked whole before any compute starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from samson.experiments._data import DATA
from samson.experiments._errors import SetupError, choose, require
from samson.experiments._methods import Method, default_settings, parse_methods
from samson.experiments._runs import record_path
from samson.noise import NOISES
from samson.records import Configuration, RecordError, RunRecord, read_json, write_json

LEVELS = {
    "level": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "bit error rate": (0.0, 1e-4, 1e-3, 0.01, 0.05),
    "s": (0.0, 3600.0, 86_400.0, 31_536_000.0, 315_360_000.0),
}
"""Noise levels by default, by what a level of the family is."""
METHODS = ("sgd", "noise", "clip", "sam", "asam", "samson", "samson+clip")


def plan_comparison(
    *,
    data: str = "digits",
    methods: Sequence[str] = METHODS,
    noise: str = "gaussian",
    levels: Sequence[float] | None = None,
    trials: int = 20,
    seeds: int = 3,
    epochs: int = 30,
    overrides: Sequence[str] = (),
) -> tuple[Configuration, list[Method]]:
    """Check a comparison and give its configuration and methods.

    Args:
        data: Name of a data set.
        methods: Names of training methods.
        noise: Name of a noise family.
        levels: Noise levels ≥ 0; 0, the noise-free network, is always added. None takes some that suit the noise.
        trials: Chips per network and level, ≥ 2.
        seeds: Training seeds, ≥ 1.
        epochs: Passes over the training split, ≥ 1.
        overrides: `METHOD.PARAM=VALUE` settings.

    Raises:
        SetupError: Names the parameter, the value, the rule and the mend.
    """
    choose("--data", data, DATA)
    try:
        DATA[data]()
    except ImportError as error:
        raise SetupError(f"--data: {data!r} cannot be loaded.\n{error}") from error
    choose("--noise", noise, NOISES)
    require(trials >= 2, "--trials", "at least 2 chips, for an interval", trials, "The default is 20.")
    require(seeds >= 1, "--seeds", "at least 1", seeds, "The default is 3.")
    require(epochs >= 1, "--epochs", "at least 1", epochs, "The default is 30.")
    chosen = parse_methods(methods, overrides)
    configuration = Configuration(
        data=data,
        network="small-resnet",
        methods={method.name: method.record() for method in chosen},
        overrides=tuple(
            f"{m.name}.{k}={v:g}" if isinstance(v, float) else f"{m.name}.{k}={v}" for m, k, v in _set(chosen)
        ),
        noise=noise,
        levels=checked_levels(levels, noise),
        trials=trials,
        seeds=seeds,
        epochs=epochs,
        batch_size=64,
        chip_seed=0,
    )
    return configuration, chosen


def checked_levels(levels: Sequence[float] | None, noise: str) -> tuple[float, ...]:
    """Sort noise levels and add 0; None takes some that suit the noise.

    Raises:
        SetupError: If a level is negative, not finite or given twice, or the noise refuses it.
    """
    levels = LEVELS[NOISES[noise].unit] if levels is None else levels
    for level in levels:
        require(0 <= level < math.inf, "--levels", "≥ 0 and finite", level, "Write for example --levels 0,.1,.2.")
        try:
            NOISES[noise](level)
        except ValueError as error:
            raise SetupError(f"--levels: {level!r} does not fit the noise {noise!r}.\n{error}") from error
    require(len(set(levels)) == len(levels), "--levels", "without repetition", list(levels), "Remove the repeated one.")
    require(any(levels), "--levels", "at least one level above 0", list(levels), "Write for example --levels 0,.1,.2.")
    return tuple(sorted({0.0, *(float(level) for level in levels)}))


def prepare_folder(configuration: Configuration, folder: Path) -> list[RunRecord]:
    """Open the folder of a comparison, new or begun earlier, and give the records that are there already.

    Raises:
        SetupError: If it belongs to another configuration or holds something else, if a record is damaged, or if
            it cannot be written.
    """
    path = folder / "configuration.json"
    another = "Choose another folder with --out, or delete this one."
    require(not folder.exists() or folder.is_dir(), "--out", "a folder", str(folder), another)
    there = {item.name for item in folder.iterdir() if item.suffix != ".partial"} if folder.exists() else set()
    own = {path.name, "records", "networks", "summary.csv", "report.html", "sharpness.json", "sharpness.html"}
    require(there <= own, "--out", "a new folder or one of this comparison", str(folder), another)
    records = load_records(folder)
    found = records[0].configuration if records else configuration
    if path.exists():
        try:
            found = read_json(path, Configuration)
        except RecordError as error:
            raise SetupError(f"--out: {error}\n{another}") from error
    if found != configuration:
        names = [name for name, value in vars(configuration).items() if getattr(found, name) != value]
        raise SetupError(
            f"--out: {str(folder)!r} belongs to another configuration; different: {', '.join(names)}.\n{another}"
        )
    try:
        write_json(path, configuration)
    except OSError as error:
        raise SetupError(
            f"--out: {str(folder)!r} cannot be written: {error.strerror}.\nChoose another folder."
        ) from error
    return load_records(folder, configuration)


def load_records(folder: Path, configuration: Configuration | None = None) -> list[RunRecord]:
    """Read every record in a comparison's folder, in the order of its methods and seeds.

    Args:
        folder: The comparison's folder.
        configuration: What the records must belong to; by default that of the first one.

    Raises:
        SetupError: If one is damaged or belongs elsewhere.
    """
    records = []
    for path in sorted((folder / "records").glob("*.json")):
        mend = "Delete or move that file; `samson compare` then runs what is missing."
        try:
            record = read_json(path, RunRecord)
        except RecordError as error:
            raise SetupError(f"{error}\n{mend}") from error
        configuration = configuration or record.configuration
        if record.configuration != configuration or path != record_path(folder, record.method, record.seed):
            raise SetupError(f"`{path}` belongs to another comparison or run.\n{mend}")
        records.append(record)
    order = list(configuration.methods) if configuration else []
    return sorted(records, key=lambda record: (order.index(record.method), record.seed))


def _set(methods: Sequence[Method]) -> list[tuple[Method, str, float | str]]:
    """The settings that differ from the defaults."""
    return [
        (method, key, value)
        for method in methods
        for key, value in method.settings.items()
        if value != default_settings(method.name)[key]
    ]
