"""A whole comparison: settings are searched, runs are made, records are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samson.experiments._folders import finished, missing, open_folder
from samson.experiments._jobs import Job, jobs_of
from samson.experiments._planning import Plan, plan_suite
from samson.experiments._problems import Table
from samson.experiments._search import search_settings
from samson.experiments._suite import Failure, Silent, Watcher, run_all
from samson.records import PLAN, RunRecord, write_json

Runner = Callable[..., dict[str, Failure]]
"""Runs jobs: `run_all`, or what does the same elsewhere."""


@dataclass(frozen=True)
class Comparing:
    """What came of a comparison.

    Args:
        records: Of every run that is finished.
        failures: The runs that failed, by name.
        folder: Where everything lies.
    """

    records: tuple[RunRecord, ...]
    failures: dict[str, Failure]
    folder: Path


def compare_suite(
    suite: Table | Plan,
    out: Path | str,
    *,
    processes: int = 1,
    watcher: Watcher | None = None,
    begin: Callable[[list[Job], list[Job]], None] = lambda jobs, left: None,
    runner: Runner = run_all,
) -> Comparing:
    """Run a comparison; a repetition goes on where an interrupted one stopped.

    Args:
        suite: Its tables, as `plan_suite` takes them, or a plan.
        out: Folder for records, networks, and what was searched.
        processes: Runs side by side, ≥ 1; with one, no process is started.
        watcher: Told how the runs go on.
        begin: Called once with all jobs and those that are left, before the first of these.
        runner: Runs the jobs.

    Raises:
        SetupError: Names the parameter, the value, the rule and the mend.
        WorkerLostError: If a process dies.

    Example:
        >>> import tempfile
        >>> suite = {"methods": ["sgd", "samson"], "seeds": 1, "trials": 2, "recipe": {"epochs": 1}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = compare_suite(suite, folder)
        >>> [record.method for record in found.records]
        ['sgd', 'samson']
    """
    plan = suite if isinstance(suite, Plan) else plan_suite(suite)
    folder, watcher = Path(out), watcher or Silent()
    whole = plan.record()
    open_folder(whole, folder)
    plan = search_settings(plan, folder, processes=processes, progress=watcher.progress)
    jobs = jobs_of(plan)
    left = missing(jobs, finished(jobs, folder))
    write_json(folder / PLAN, whole)
    begin(jobs, left)
    failures = runner(left, folder, processes=processes, watcher=watcher)
    note = folder / "failed.txt"
    if failures:
        note.write_text("\n\n".join(f"{name}: {failure.details}" for name, failure in failures.items()), "utf-8")
    else:
        note.unlink(missing_ok=True)
    return Comparing(tuple(finished(jobs, folder)), failures, folder)
