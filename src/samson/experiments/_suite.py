"""Many runs side by side: one process and one thread each, stoppable, and going on where they stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from samson.experiments._methods import Method
from samson.experiments._runs import run, run_name
from samson.records import Configuration, RunRecord

Job = tuple[Method, int]


class Watcher(Protocol):
    """Sees runs go on, for example to draw progress bars."""

    def progress(self, name: str, stage: str, done: int, total: int) -> None:
        """A run has come so far in its stage ("training" or "chips")."""

    def finished(self, name: str, record: RunRecord) -> None:
        """A run's record is written."""


class WorkerLostError(RuntimeError):
    """A process of a run died, for example for lack of memory."""


def missing(configuration: Configuration, methods: Sequence[Method], records: Sequence[RunRecord]) -> list[Job]:
    """The runs without a record; all methods of one seed come before the next seed."""
    done = {(record.method, record.seed) for record in records}
    return [(m, seed) for seed in range(configuration.seeds) for m in methods if (m.name, seed) not in done]


def default_jobs() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    configuration: Configuration, jobs: Sequence[Job], folder: Path, *, processes: int, watcher: Watcher
) -> None:
    """Run every job; results do not depend on the number of processes.

    Ctrl-C stops the runs at hand without a record and keeps those that are finished.

    Args:
        configuration: The comparison.
        jobs: Methods and seeds to run, in order.
        folder: The comparison's folder.
        processes: Runs side by side, ≥ 1; with one, no process is started.
        watcher: Told how the runs go on.

    Raises:
        WorkerLostError: If a process dies.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        for method, seed in jobs:
            name = run_name(method.name, seed)
            record = run(configuration, method, seed, folder, _naming(watcher, name))
            watcher.finished(name, record)
        return
    context = multiprocessing.get_context("spawn")
    news: multiprocessing.Queue[tuple[str, str, int, int]] = context.Queue()
    stop = context.Event()
    with ProcessPoolExecutor(processes, context, _start_worker, (news, stop)) as pool:
        try:
            with _interrupts_ignored():  # the processes started here inherit it: Ctrl-C is for this one alone
                pending = {
                    pool.submit(_work, configuration, *job, folder): run_name(job[0].name, job[1]) for job in jobs
                }
            _follow(pending, news, watcher)
        except BrokenProcessPool as error:
            raise WorkerLostError("A process of a run died, perhaps for lack of memory.") from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)  # a run about to end is finished, and then counted


def _follow(pending: dict[Future[RunRecord], str], news: Any, watcher: Watcher) -> None:
    while pending:
        done, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
        try:
            while True:
                watcher.progress(*news.get_nowait())
        except queue.Empty:
            pass
        for future in done:
            watcher.finished(pending.pop(future), future.result())


def _naming(watcher: Watcher, name: str) -> Any:
    return lambda stage, done, total: watcher.progress(name, stage, done, total)


class _Stopped(Exception):  # noqa: N818 (no error: the user asked for it)
    """Raised in a worker to leave a run that is no longer wanted."""


_channel: tuple[Any, multiprocessing.synchronize.Event]


def _start_worker(news: Any, stop: multiprocessing.synchronize.Event) -> None:
    global _channel  # noqa: PLW0603 (a worker process has one channel for its life)
    _channel = (news, stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(configuration: Configuration, method: Method, seed: int, folder: Path) -> RunRecord:
    news, stop = _channel
    name = run_name(method.name, seed)

    def progress(stage: str, done: int, total: int) -> None:
        if stop.is_set():
            news.cancel_join_thread()
            raise _Stopped
        news.put((name, stage, done, total))

    return run(configuration, method, seed, folder, progress)


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
