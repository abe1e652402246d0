"""Many runs side by side: one process and one thread each, stoppable, and going on where they stopped."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from samson._errors import WorkerLostError, reason
from samson._factories import import_own, own_modules
from samson._interrupts import heeded
from samson.experiments._plan import Job, OnProgress
from samson.experiments._runs import run
from samson.experiments._training import StoppedError
from samson.records import RunRecord

T = TypeVar("T")

GRACE_S = 10.0
"""Seconds that a training has to save itself when its command is gone."""


class Watcher(Protocol):
    """Sees runs go on, for example to draw progress bars."""

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """A run has come so far in its stage ("training" or "chips")."""

    def finished(self, name: str, record: RunRecord) -> None:
        """A run's record is written."""

    def failed(self, name: str, reason: str) -> None:
        """A run ended with an error; the others go on."""


class Silent:
    """A watcher that says nothing."""

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def finished(self, name: str, record: RunRecord) -> None:
        """Say nothing."""

    def failed(self, name: str, reason: str) -> None:
        """Say nothing."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that ended with an error.

    Args:
        reason: The error, in a line.
        details: Where it was raised.
        of_file: Whether it is one of the system, such as a full disk.
    """

    reason: str
    details: str = ""
    of_file: bool = False


def default_jobs() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(jobs: Sequence[Job], folder: Path, *, processes: int, watcher: Watcher) -> dict[str, Failure]:
    """Run every job; results do not depend on the number of processes.

    A run that fails is listed, and the others go on. Ctrl-C stops the runs at hand and keeps those that are finished;
    a repetition goes on where trainings stopped.

    Args:
        jobs: What is run, in order.
        folder: The comparison's folder.
        processes: Runs side by side, ≥ 1; with one, no process is started.
        watcher: Told how the runs go on.

    Returns:
        The runs that failed, by name.

    Raises:
        WorkerLostError: If a process dies.
    """
    failures: dict[str, Failure] = {}

    def ended(name: str, found: RunRecord | Failure) -> None:
        if isinstance(found, Failure):
            failures[name] = found
            watcher.failed(name, found.reason)
        else:
            watcher.finished(name, found)

    map_jobs(
        [(job.name, partial(run, job, folder)) for job in jobs],
        processes=processes,
        progress=watcher.progress,
        finished=ended,
    )
    return failures


def attempted(work: Callable[..., T], *arguments: Any) -> T | Failure:
    """The result of some work, or how it failed."""
    try:
        return work(*arguments)
    except Exception as error:  # whatever a user's own code raises ends this run alone
        return Failure(reason(error), traceback.format_exc(), isinstance(error, OSError))


def map_jobs(
    work: Sequence[tuple[str, Callable[[OnProgress], T]]],
    *,
    processes: int,
    progress: Callable[[str, str, int, int], None],
    finished: Callable[[str, T | Failure], None],
) -> None:
    """Do some work in processes side by side; if it is broken off, these get a notice to end and save their trainings.

    Args:
        work: Each with a name; called with what takes its progress.
        processes: Processes, ≥ 1; with one, none is started.
        progress: Called as work goes on, with the name first.
        finished: Called with each name and its result, or how it failed.

    Raises:
        WorkerLostError: If a process dies.
    """
    processes = min(processes, len(work))
    if processes <= 1:
        with heeded() as raise_lost:

            def tell(name: str, stage: str, done: int, total: int) -> None:
                raise_lost()
                progress(name, stage, done, total)

            for name, each in work:
                finished(name, attempted(each, partial(tell, name)))
        return
    context, others = multiprocessing.get_context("spawn"), {*multiprocessing.active_children()}
    news: multiprocessing.Queue[tuple[str, str, int, int]] = context.Queue()
    with ProcessPoolExecutor(processes, context, _start_worker, (news, own_modules())) as pool:
        try:
            with _interrupts_ignored():  # the processes started here inherit it: Ctrl-C is for this one alone
                pending = {pool.submit(_work, name, each): name for name, each in work}
            _follow(pending, news, progress, finished)
        except BaseException as error:
            for worker in {*multiprocessing.active_children()} - others:
                worker.terminate()  # which is a notice to end: a training is saved
            if isinstance(error, BrokenProcessPool):
                raise WorkerLostError("A process of a run died, perhaps for lack of memory.") from error
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _follow(
    pending: dict[Future[T | Failure], str], news: Any, progress: Any, finished: Callable[[str, T | Failure], None]
) -> None:
    while pending:
        done, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
        with suppress(queue.Empty):
            while True:
                progress(*news.get_nowait())
        for future in done:
            finished(pending.pop(future), future.result())


_news: Any


def _start_worker(news: Any, modules: Sequence[str]) -> None:
    global _news  # noqa: PLW0603 (a worker process has one channel for its life)
    _news = news
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_own(modules)  # work may hold objects of their classes


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended; a training is saved first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)


def _work(name: str, each: Callable[[OnProgress], T]) -> T | Failure:
    try:
        return attempted(each, lambda *state: _news.put((name, *state)))
    except StoppedError:  # a notice to end: the training is saved, and nobody waits for what comes of it
        os._exit(143)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
