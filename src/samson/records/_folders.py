"""The records in the folder of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samson._names import counted
from samson._shown import Shown
from samson.records._chips import ChipFamily
from samson.records._codec import RecordError, read_json
from samson.records._plan import Configuration
from samson.records._run import RunRecord
from samson.records._search import SearchRecord

PLAN = "configuration.json"
"""The file in which the folder of a comparison has its plan."""


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """All that the folder of a comparison has to show.

    Args:
        records: The runs that are finished: problems and methods in the order of the plan, then by seed.
        planned: The number of runs; None if the plan is not there.
        command: The command that runs it again; "" if it is not known.
        searches: How settings were chosen.
    """

    records: tuple[RunRecord, ...]
    planned: int | None = None
    command: str = ""
    searches: tuple[SearchRecord, ...] = ()

    def __str__(self) -> str:
        runs = counted(len(self.records), "run")
        runs += "" if self.planned is None else f" of {self.planned} that are planned"
        problems = ", ".join(dict.fromkeys(run.problem.name for run in self.records))
        methods = ", ".join(dict.fromkeys(run.method for run in self.records))
        families = ", ".join(dict.fromkeys(family.name for run in self.records for family in run.families))
        return f"{runs}\nProblems: {problems}\nMethods: {methods}\nChips: {families}"


def on_common_chips(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records of one problem, each on the kinds of chips and trials that all have.

    While chips are added to a comparison, some of its networks are on them and others are not yet.

    Raises:
        ValueError: If they have no kind of chip in common.
    """
    if len({(record.families, record.trials) for record in records}) == 1:
        return list(records)
    trials, of_all = min(record.trials for record in records), list[ChipFamily]()
    for family in records[0].families:
        alike = [[f for f in record.families if (f.name, f.unit) == (family.name, family.unit)] for record in records]
        others = [{kind for f in of_record for kind in f.kinds} for of_record in alike]
        if common := tuple(kind for kind in family.kinds if all(kind in kinds for kinds in others)):
            of_all.append(replace(family, kinds=common))
    if not of_all:
        raise ValueError("`records` must belong to one comparison, got several configurations.")
    found = []
    for record in records:
        values = record.values
        measured = [tuple(values[family.name, kind][:trials] for kind in family.kinds) for family in of_all if values]
        found.append(replace(record, families=tuple(of_all), trials=trials, measured=tuple(measured)))
    return found


def run_name(problem: str, method: str, seed: int) -> str:
    """The name of a run's files within the folders of a comparison, without ending."""
    return f"{problem}/{method}-seed{seed}"


def record_path(folder: Path, name: str) -> Path:
    """Where a run's record lies in the folder of its comparison."""
    return folder / "records" / f"{name}.json"


def load_records(folder: Path | str) -> list[RunRecord]:
    """Every run's record in a folder.

    Raises:
        RecordError: If one is damaged, or does not lie where it belongs.
        FileNotFoundError: If there is no such folder.
    """
    folder, found = Path(folder), []
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be that of a comparison, got {str(folder)!r}, which is no folder.")
    for path in sorted((folder / "records").rglob("*.json")):
        record = read_json(path, RunRecord)
        if path != record_path(folder, run_name(record.problem.name, record.method, record.seed)):
            raise RecordError(f"`{path}` belongs to another comparison or run.")
        found.append(record)
    return found


def load_comparison(folder: Path | str) -> Comparison:
    """What is in the folder of a comparison.

    Raises:
        RecordError: If a record is damaged, or does not lie where it belongs.
        FileNotFoundError: If there is no such folder.
    """
    folder = Path(folder)
    records = load_records(folder)
    try:
        plan = read_json(folder / PLAN, Configuration)
    except RecordError:
        plan = None
    order = [] if plan is None else [(p.problem.name, method) for p in plan.problems for method in p.methods]
    places = {pair: place for place, pair in enumerate(order)}

    def place(record: RunRecord) -> tuple[int, str, str, int]:
        name, method = record.problem.name, record.method
        return places.get((name, method), len(places)), name, method, record.seed

    return Comparison(
        records=tuple(sorted(records, key=place)),
        planned=None if plan is None else plan.runs,
        command="" if plan is None else plan.command,
        searches=tuple(read_json(path, SearchRecord) for path in sorted((folder / "search").rglob("*.json"))),
    )
