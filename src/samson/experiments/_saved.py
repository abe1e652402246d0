"""A folder with one trained network: what `samson train` writes, and what it refuses to write over."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samson._environment import environment
from samson._errors import SetupError, require
from samson.experiments._checkpoints import Checkpoint, save_checkpoint
from samson.experiments._place import Place
from samson.experiments._plan import OnProgress, Plan
from samson.experiments._trained import trained
from samson.experiments.data import load_data_set
from samson.records import PLAN, RecordError, Training, TrainingRecord, delete_partial, read_json, write_json

FINISHED = "training-finished.json"
"""The record of a training that is finished, as long as what it kept is there."""


def check_folder(plan: Plan, seed: int, folder: Path, free: str = "") -> None:
    """Refuse a folder with a comparison, or with a network that was trained otherwise.

    Args:
        plan: A plan with one problem and method.
        seed: Training seed.
        folder: Where something is to be saved.
        free: A setting that may differ.

    Raises:
        SetupError: If it is so, or the record of the network is damaged.
    """
    [problem], [method] = plan.problems, plan.problems[0].methods
    path, mend = folder / "training.json", "Choose another folder."
    require(not (folder / PLAN).exists(), "`out`", "a folder without a comparison", str(folder), mend)
    if not (path.exists() and (folder / "model.safetensors").exists()):
        return
    try:
        was = read_json(path, TrainingRecord)
    except RecordError as error:
        raise SetupError(f"`out`: {error}\n{mend}") from error
    before = vars(was.problem) | {"seed": was.seed, "method": was.method} | was.settings
    now = vars(problem.record) | {"seed": seed, "method": method.name} | method.record()
    different = [key for key in now if key != free and now[key] != before.get(key)]
    if different:
        raise SetupError(
            f"`out`: {str(folder)!r} has the network of another training; different: {', '.join(different)}.\n{mend}"
        )


def save_trained(
    plan: Plan, seed: int, folder: Path, place: Place, progress: OnProgress, *, log: bool = False
) -> Training:
    """Train the network of a plan's first problem by its first method, and save it as `model.safetensors`.

    How it was made is saved in `training.json`, also of a training that diverged; an earlier network is gone then.

    Args:
        plan: A plan with one problem and method.
        seed: Training seed.
        folder: Where the network is saved, and what must outlive an interruption is kept.
        place: Device and processes.
        progress: Called as work goes on.
        log: Whether TensorBoard logs are written to the folder.

    Raises:
        SetupError: If the logs need a package that is not installed.
    """
    [problem], [method] = plan.problems, plan.problems[0].methods
    if place.rank == 0:
        _finish(folder)
        delete_partial(folder)
    splits = load_data_set(problem.record.data, plan.data_root)
    writer = _tensorboard(folder) if log and place.rank == 0 else None
    model, training = trained(problem, method, seed, splits, folder / "unfinished", progress, place, writer)
    if writer is not None:
        writer.close()
    state = None if model is None else place.whole_state(model)  # of which each process has its part
    if place.rank == 0:
        record, path = problem.record, folder / "model.safetensors"
        if state is None:
            for earlier in (path, path.with_suffix(".json")):
                earlier.unlink(missing_ok=True)
        else:
            saved = Checkpoint(record.network, splits.shape, splits.outputs, record.data, method.name, seed)
            save_checkpoint(path, state, saved)
        about, finished = environment(place.device.type), datetime.now(UTC).isoformat(timespec="seconds")
        made = TrainingRecord(record, method.name, method.record(), seed, training, about, finished)
        write_json(folder / FINISHED, made)
        _finish(folder)
    return training


def _finish(folder: Path) -> None:
    """Delete what a finished training has kept, and give its record its name; if killed here, the next does it."""
    record = folder / FINISHED
    if record.exists():
        shutil.rmtree(folder / "unfinished", ignore_errors=True)
        record.replace(folder / "training.json")


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SetupError("`log` needs a package: pip install tensorboard") from error
    return SummaryWriter(str(folder / "logs"))
