"""The folder of a comparison: its plan, records, networks, and what was searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from samson._errors import SetupError, require
from samson.experiments._plan import Plan, jobs_of
from samson.experiments._runs import network_path
from samson.experiments.data import DATA
from samson.records import (
    PLAN,
    ChipFamily,
    Configuration,
    Problem,
    RecordError,
    RunRecord,
    Settings,
    delete_partial,
    load_comparison,
    read_json,
    run_name,
    write_json,
)

OWN = {
    *(PLAN, "records", "networks", "unfinished", "search", "failed.txt"),
    *("summary.csv", "report.html", "sharpness"),
}
"""What a comparison keeps in its folder."""

Key = tuple[str, str, str]
"""A problem, a method, and what is said of it; empty where it is of the whole comparison."""

ANOTHER = "Choose another folder with `out`."

OF_CHIPS = {"chips", "trials", "chip_seed", "examples"}
"""What decides nothing of a network."""

SEARCHED = "by which settings are chosen"
"""What is said of a family of chips to which no kind and no trial may be added."""


def open_folder(plan: Plan, folder: Path) -> None:
    """Open the folder of a comparison, new or begun earlier.

    One that is there may have been for fewer problems, methods, seeds, kinds of chips or trials than are asked for now.

    Raises:
        SetupError: If it holds something else or another comparison, its plan is damaged, or it cannot be written.
    """
    path, records = folder / PLAN, _checked(plan, folder)
    delete_partial(folder, "**/")
    if (path.exists() and plan.search is not None) or (records and not path.exists()):
        return  # `compare_suite` writes it when `finished` has looked at what was chosen, or at records without a plan
    try:
        write_json(path, plan.record())
    except OSError as error:
        raise SetupError(
            f"`out`: {str(folder)!r} cannot be written: {error.strerror}.\nChoose another folder."
        ) from error


def look_into(plan: Plan, folder: Path) -> tuple[list[RunRecord], list[RunRecord]]:
    """Look into a folder, which is checked as by `open_folder` and stays as it is.

    Returns:
        The runs of the plan that are finished, and all records that are there.

    Raises:
        SetupError: If it holds something else or another comparison, or its plan is damaged.
    """
    records = _checked(plan, folder)
    return _of_plan(plan, records), records


def trained_already(plan: Plan, folder: Path, there: Sequence[RunRecord]) -> set[str]:
    """The names of a plan's runs whose networks are there, and only lack chips; of all records that are there."""
    names = {job.name for job in jobs_of(plan)} - {_name(record) for record in _of_plan(plan, there)}
    return {
        name
        for record in there
        if (name := _name(record)) in names
        and record.problem.trainer == "samson"
        and (record.clean is None or network_path(folder, name).exists())
    }


def finished(plan: Plan, folder: Path) -> list[RunRecord]:
    """The records in a comparison's folder, each of which must be of one of its jobs.

    Raises:
        SetupError: If one is damaged, or of another comparison.
    """
    records = read_records(folder)
    _refuse_others(plan, records, folder)
    return _of_plan(plan, records)


def _checked(plan: Plan, folder: Path) -> list[RunRecord]:
    """The records in a folder, which must be new or one of this comparison."""
    require(not folder.exists() or folder.is_dir(), "`out`", "a folder", str(folder), ANOTHER)
    there = {item.name for item in folder.iterdir() if item.suffix != ".partial"} if folder.exists() else set()
    path = folder / PLAN
    known = path.exists() or there <= OWN  # beside a plan there may be more, such as pictures of the report
    require(known, "`out`", "a new folder or one of this comparison", str(folder), ANOTHER)
    kept = folder / "unfinished"
    links = [str(at) for at in (kept, *kept.glob("*")) if at.is_symlink()]
    rule = "a folder with no link in `unfinished`, where finished work is deleted"
    require(not links, "`out`", rule, ", ".join(links), "Remove the link.")
    if path.exists():
        try:
            before = read_json(path, Configuration)
        except RecordError as error:
            mend = "Delete it: `samson compare` writes it again, and keeps the finished runs."
            raise SetupError(f"`out`: {error}\n{mend}") from error
        now = _settings(plan.record())
        was = {key: value for key, value in _settings(before).items() if key in now or SEARCHED not in key[2]}
        refuse_other(was, now, folder)
    records = read_records(folder)
    if plan.search is None:  # else what was chosen has to be known first: see `finished`
        _refuse_others(plan, records, folder)
    return records


def _refuse_others(plan: Plan, records: Iterable[RunRecord], folder: Path) -> None:
    """Refuse a folder with a record that is of none of a plan's jobs."""
    asked = {
        (problem.record.name, method.name, "examples"): plan.examples_of(problem)
        for problem in plan.problems
        for method in problem.methods
    }
    now = _settings(plan.record()) | asked
    for record in records:
        own = {(record.problem.name, record.method, "examples"): record.examples}
        refuse_other(_found(record) | own, now, folder)


def refuse_other(before: Mapping[Key, object], now: Mapping[Key, object], folder: Path) -> None:
    """Refuse a folder that was for something else.

    Args:
        before: What its runs were made with, by problem, method and what it says.
        now: The same for what is asked for.
        folder: The folder.

    Raises:
        SetupError: If something that is there is not asked for, or is asked for differently.
    """
    asked = {key[:2] for key in now}
    left_out = {key: names for key, value in before.items() if (names := [*_left_out(key, value, now, asked)])}
    if left_out:
        problem, method, _ = next(iter(left_out))
        problems = {of_problem for of_problem, _ in asked}
        words = dict.fromkeys(
            key[2] if key[:2] in asked else "methods" if key[0] in problems else "problems" for key in left_out
        )
        run = f" (first in {problem}, {method})" if method else ""
        missing = dict.fromkeys(name for names in left_out.values() for name in names)
        more = f"A folder takes more, not fewer: name too what it has: {', '.join(missing)}.\n" if all(missing) else ""
        raise SetupError(
            f"`out`: {str(folder)!r} belongs to another configuration; different: {', '.join(words)}{run}.\n"
            f"{more}{ANOTHER}{_kept(words, method, before, folder)}"
        )


def _left_out(key: Key, before: Any, now: Mapping[Key, Any], asked: set[tuple[str, str]]) -> Iterable[str]:
    """What is there and not asked for; "" where it is asked for differently. Kinds of chips and trials may be more."""
    problem, method, word = key
    if key[:2] not in asked:
        yield method if any(problem == other for other, _ in asked) else problem
    elif key not in now:
        yield ""
    elif word == "trials":
        if before > now[key]:
            yield f"{before} trials"
    elif word == "chips":
        families = {family.name: family for family in now[key]}
        for family in before:
            kinds = families[family.name].kinds if family.name in families else ()
            missing = [kind.label for kind in family.kinds if kind not in kinds]
            same_unit = not kinds or families[family.name].unit == family.unit
            if not same_unit or {kind.label for kind in kinds} & {*missing}:
                yield ""
            elif missing:
                yield f"{family.name} ({', '.join(missing)})"
    elif before != now[key]:
        yield ""


def _kept(words: Iterable[str], method: str, before: Mapping[Key, object], folder: Path) -> str:
    """How what is there can be used, where only chips are others, or settings."""
    if set(words) <= OF_CHIPS:
        model = f"{folder / 'networks'}/….safetensors"
        networks, data = (
            {str(value) for key, value in before.items() if key[2] == word} for word in ("network", "data")
        )
        if any(":" in network for network in networks):  # the user alone names code to run, and files of data
            model = f"{' or '.join(sorted(networks))} --weights {model}"
        given = "" if data <= DATA.keys() else f" --data {' or '.join(sorted(data))}"
        return f"\nOr put its networks on other chips: samson evaluate {model}{given}."
    if all(word.startswith(f"{method}.") for word in words):
        return f'\nOr keep both, in a suite\'s file: {{ method = …, name = "{method}-2", … }}.'
    return ""


def _settings(plan: Configuration) -> dict[Key, object]:
    """Each thing that decides runs; a setting that is searched has no value yet."""
    found = _common(plan.families, plan.trials, plan.chip_seed, plan.device)
    found["", "", "examples"] = plan.examples
    for family in plan.families:
        if plan.search is not None and family.name == plan.search.chosen_by:
            found["", "", f"{family.name}, {SEARCHED}"] = family, plan.trials
    for planned in plan.problems:
        for method, settings in planned.methods.items():
            searched = planned.candidates.get(method, {})
            found |= _of_run(planned.problem, method, {k: v for k, v in settings.items() if k not in searched})
    return found


def _found(record: RunRecord) -> dict[Key, object]:
    common = _common(record.families, record.trials, record.chip_seed, record.environment.device)
    return common | _of_run(record.problem, record.method, record.settings)


def _common(families: Sequence[ChipFamily], trials: int, chip_seed: int, device: str) -> dict[Key, object]:
    kind = device.partition(":")[0]  # chips of another kind of device are other chips
    found = {"chips": tuple(families), "trials": trials, "chip_seed": chip_seed, "device": kind}
    return {("", "", word): value for word, value in found.items()}


def _of_run(problem: Problem, method: str, settings: Settings) -> dict[Key, object]:
    found: dict[Key, object] = {(problem.name, method, word): value for word, value in vars(problem).items()}
    return found | {(problem.name, method, f"{method}.{key}"): value for key, value in settings.items()}


def _of_plan(plan: Plan, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Those of a plan's runs that are on all of its chips; a folder may have more seeds."""
    names, families = {job.name for job in jobs_of(plan)}, tuple(family.record() for family in plan.families)
    return [
        record
        for record in records
        if _name(record) in names and (record.families, record.trials) == (families, plan.trials)
    ]


def _name(record: RunRecord) -> str:
    return run_name(record.problem.name, record.method, record.seed)


def read_records(folder: Path) -> list[RunRecord]:
    """Read every record in a comparison's folder, in the order of its plan; none where it is yet to be made.

    Raises:
        SetupError: If one is damaged or belongs elsewhere.
    """
    try:
        return list(load_comparison(folder).records) if folder.exists() else []
    except RecordError as error:
        raise SetupError(f"{error}\nDelete or move that file; `samson compare` then runs what is missing.") from error
