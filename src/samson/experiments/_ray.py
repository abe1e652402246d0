"""Runs of a comparison spread over a Ray cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samson._errors import SetupError, installing, require
from samson._factories import import_own, own_modules
from samson._ray import connected, spread
from samson.experiments._plan import Job
from samson.experiments._runs import network_path, run
from samson.experiments._suite import Failure, Watcher, attempted
from samson.records import RunRecord, read_json, record_path, replace_file

ATTEMPTS = 3
"""How often a run is started before it counts as what kills its workers."""

Files = dict[str, bytes]


def run_on_ray(jobs: Sequence[Job], folder: Path, *, processes: int, watcher: Watcher) -> dict[str, Failure]:
    """As `run_all`, on the Ray that `RAY_ADDRESS` names, or on one that is started on this machine.

    Each run is a task that asks for one CPU, and for one GPU if the device is one. Its files come back to the folder
    here, so nodes need share no disk; data that are read from files must lie at the same place on every node. When a
    worker or a node is lost, its run starts again elsewhere.

    Args:
        jobs: What is run, in order.
        folder: The comparison's folder.
        processes: Tasks that wait or run at a time, ≥ 1; Ray runs as many of them as it has CPUs.
        watcher: Told when runs end.

    Raises:
        SetupError: If Ray is not installed, or there is no such device for a task.
        WorkerLostError: If a run was lost with its worker several times.
    """
    if not jobs:
        return {}
    device = jobs[0].place.device
    require(not device.index, "`device`", "cuda without a number on Ray", str(device), "A task sees one GPU, its own.")
    try:
        ray, started = connected()
    except ImportError as error:
        raise SetupError(f"`executor` ray needs a package: {installing('ray')}.") from error
    on_gpu = device.type == "cuda"
    here, modules, failures = str(Path.cwd()), own_modules(), dict[str, Failure]()
    named = {f"run {job.name}": job for job in jobs}

    def start(job: Job) -> Any:
        there = [path for path in (record_path(folder, job.name), network_path(folder, job.name)) if path.exists()]
        kept = {str(path.relative_to(folder)): path.read_bytes() for path in there}  # of a run on fewer chips
        return task.remote(ray.cloudpickle.dumps(job), kept, here, modules)

    try:
        there = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
        require(there > 0 or not on_gpu, "`device`", "in the cluster", str(device), "Start Ray on nodes with a GPU.")
        task = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_retries=0)(_far_run)
        with closing(spread(ray, named, start, max(processes, there), ATTEMPTS)) as ended:
            for job, found in ended:
                if isinstance(found, Failure):
                    failures[job.name] = found
                    watcher.failed(job.name, found.reason)
                else:
                    watcher.finished(job.name, _written(found, job, folder))
    finally:
        if started:
            ray.shutdown()
    return failures


def _far_run(packed: bytes, kept: Files, here: str, modules: Sequence[str]) -> Files | Failure:
    """Run a job in a folder of its own with what is there of it, and give the files that are there then."""
    if Path(here).is_dir():
        os.chdir(here)  # paths are as they were given
        import_own(modules)  # the job may hold objects of their classes
    job: Job = pickle.loads(packed)
    with TemporaryDirectory() as own:
        folder = Path(own)
        _write(kept, folder)
        failed = attempted(run, job, folder, lambda stage, done, total: None)
        if isinstance(failed, Failure):
            return failed
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }


def _written(files: Files, job: Job, folder: Path) -> RunRecord:
    """Put the files of a run in place, its record last."""
    record = record_path(folder, job.name)
    _write(dict(sorted(files.items(), key=lambda item: (folder / item[0]) == record)), folder)
    return read_json(record, RunRecord)


def _write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        replace_file(folder / name, content)
