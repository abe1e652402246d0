"""Progress of many runs: bars on a terminal, or one line a run for logs."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from samson.records import RunRecord

TRAINING_SHARE = 0.8
"""Share of a run's bar that its training takes; the chips take the rest."""


class Bars:
    """One bar for each run at hand and one for all; a watcher for `run_all`."""

    def __init__(self, console: Console, total: int) -> None:
        self._all = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[stage]:<16}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._overall = self._all.add_task("all runs", total=total, stage=f"0/{total} runs")
        self._total, self._finished, self._begun = total, 0, False
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._all.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_away(*self._tasks)
        self._all.stop()

    def begin(self, finished: int, trained: Collection[str] = ()) -> None:
        """Some runs were finished before; what went on until now was a search for settings, which is over."""
        self._take_away(*self._tasks)
        self._finished, self._begun = finished, True
        self._count()

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """Move a run's bar, and the bar of all by its part."""
        if name not in self._tasks:
            self._tasks[name] = self._all.add_task(name, total=1.0, stage=stage)
        share = done / total
        share = TRAINING_SHARE * share if stage == "training" else TRAINING_SHARE + (1 - TRAINING_SHARE) * share
        self._all.update(self._tasks[name], completed=share, stage=f"{stage} {done}/{total}")
        if self._begun:
            self._count()

    def finished(self, name: str, record: RunRecord) -> None:
        """Take a run's bar away and count it."""
        self._take_away(name)
        self._finished += 1
        self._count()

    def failed(self, name: str, reason: str) -> None:
        """Take a run's bar away."""
        self._take_away(name)

    def _take_away(self, *names: str) -> None:
        for name in self._tasks.keys() & names:
            self._all.remove_task(self._tasks.pop(name))

    def _count(self) -> None:
        """Move the bar of all runs to those that are finished and the parts of those at hand."""
        parts = sum(bar.completed for bar in self._all.tasks if bar.id in self._tasks.values())
        self._all.update(self._overall, completed=self._finished + parts, stage=f"{self._finished}/{self._total} runs")


class Lines:
    """One line for each finished run; a watcher for `run_all`."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._finished = console, total, 0
        self._trained: Collection[str] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, finished: int, trained: Collection[str] = ()) -> None:
        """Some runs were finished before, and the networks of some trained."""
        self._finished, self._trained = finished, trained

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """Say nothing: logs want whole runs."""

    def finished(self, name: str, record: RunRecord) -> None:
        """Print the run with its metric without noise."""
        self._finished += 1
        if record.clean is None:
            came = f"diverged at step {record.training.diverged_at}"
        elif record.problem.is_fraction:
            came = f"{100 * record.clean:.1f} % without noise"
        else:
            came = f"{record.problem.metric} {record.clean:.4g} without noise"
        took = "" if name in self._trained else f", trained in {record.training.seconds:.1f} s"
        self._console.print(f"{self._finished}/{self._total} {name}: {came}{took}", soft_wrap=True)

    def failed(self, name: str, reason: str) -> None:
        """Print the run with the reason."""
        self._console.print(f"FAILED {name}: {reason}", soft_wrap=True)
