"""A whole comparison: settings are searched, runs are made, records are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samson._shown import Shown, table_text
from samson.experiments._folders import finished, open_folder
from samson.experiments._plan import Job, Plan, jobs_of
from samson.experiments._planning import plan_suite
from samson.experiments._problems import Table
from samson.experiments._runs import delete_kept
from samson.experiments._search import search_settings
from samson.experiments._suite import Failure, Silent, Watcher, run_all
from samson.records import PLAN, RunRecord, load_comparison, replace_file, run_name, write_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Runner = Callable[..., dict[str, Failure]]
"""Runs jobs: `run_all`, or what does the same elsewhere."""


@dataclass(frozen=True, repr=False)
class Comparing(Shown):
    """What came of a comparison; its records are saved in its folder.

    Args:
        records: Of every run that is finished.
        failures: The runs that failed, by name.
        folder: Where everything lies.
    """

    records: tuple[RunRecord, ...]
    failures: dict[str, Failure]
    folder: Path

    def __str__(self) -> str:
        from samson.report import estimate_text, metric_text, views

        by_metric: dict[str, list[list[str]]] = {}
        for view in views(self.records):
            rows = by_metric.setdefault(f"Test {metric_text(view.problem)}", [])
            for method, of_method in view.table.items():
                first, *_, last = of_method.values()
                values = (estimate_text(row.value, view) for row in (first, last))
                rows.append([view.problem.name, view.family.name, method, *values])
        header = ["problem", "chips", "method", "without noise", "with the most"]
        counted = f"{len(self.records)} runs, {len(self.failures)} failed, in {self.folder}"
        tables = (f"{metric}\n{table_text(header, rows)}" for metric, rows in by_metric.items())
        failed = [f"{name} failed: {failure.reason}" for name, failure in list(self.failures.items())[:1]]
        return "\n".join([counted, *tables, *failed])

    def table(self) -> list[dict[str, Any]]:
        """One row a problem, family of chips, method and kind of chip, for example for `pandas.DataFrame`.

        The columns are those of `summary.csv`; what is not known is None.
        """
        from samson.report import summary_rows, views

        return summary_rows(views(self.records))

    def plot(self, problem: str | None = None, family: str | None = None) -> Figure:
        """Every method by kind of chip, as a figure of plotly.

        Args:
            problem: Name of the problem; None is the first.
            family: Name of the family of chips; None is the first.

        Raises:
            ValueError: If there is no such, or no run that did not diverge.
            ImportError: If plotly, of the extra `cli`, is missing.
        """
        from samson.report import figure_of, robustness_figure, views

        found = {(view.problem.name, view.family.name): view for view in views(self.records)}
        for names, view in found.items():
            if problem in (None, names[0]) and family in (None, names[1]):
                return figure_of(robustness_figure(view))
        raise ValueError(
            f"`problem` and `family` must be those of a run that did not diverge, got {problem!r} and {family!r}. "
            f"Available: {', '.join(map(repr, found)) or 'none'}."
        )

    def page(self, path: Path | str) -> None:
        """Write the report of the folder in one HTML file, which opens offline."""
        from samson.report import render

        replace_file(Path(path), render(load_comparison(self.folder)).encode())


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
    open_folder(plan, folder)
    plan = search_settings(plan, folder, processes=processes, progress=watcher.progress)
    jobs = jobs_of(plan)
    done = {run_name(record.problem.name, record.method, record.seed) for record in finished(plan, folder)}
    left = [job for job in jobs if job.name not in done]
    for name in done:
        delete_kept(folder, name)  # is there if it was killed when its record was written
    write_json(folder / PLAN, whole)
    begin(jobs, left)
    failures = runner(left, folder, processes=processes, watcher=watcher)
    note = folder / "failed.txt"
    if failures:
        note.write_text("\n\n".join(f"{name}: {failure.details}" for name, failure in failures.items()), "utf-8")
    else:
        note.unlink(missing_ok=True)
    return Comparing(tuple(finished(plan, folder)), failures, folder)
