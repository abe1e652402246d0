"""Training a network as a problem asks: by its trainer, with what its method needs, and what is written down of it."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samson._batches import is_cast
from samson._environment import environment
from samson._errors import SetupError, choose, require
from samson._names import counted
from samson.evaluation import NotFiniteError, clean_value
from samson.experiments._checkpoints import Checkpoint, save_checkpoint
from samson.experiments._loop import train
from samson.experiments._method import Method
from samson.experiments._networks import make_network
from samson.experiments._parts import RAMP
from samson.experiments._place import Place
from samson.experiments._plan import OnProgress, Plan, PlannedProblem
from samson.experiments._tasks import make_task
from samson.experiments._training import DivergedError, Run, find_trainer
from samson.experiments.data import Splits, load_data_set
from samson.records import (
    LARGEST,
    PLAN,
    RecordError,
    Training,
    TrainingRecord,
    delete_partial,
    read_json,
    write_json,
)

FINISHED = "training-finished.json"
"""The record of a training that is finished, as long as what it kept is there."""


def planned_run(problem: PlannedProblem, method: Method, seed: int, splits: Splits, **more: Any) -> Run:
    """What the trainer of a problem gets.

    Args:
        problem: What is trained on.
        method: One of its methods.
        seed: Of everything random.
        splits: The problem's data.
        more: Further arguments of `Run`.
    """
    return Run(
        data=splits,
        task=make_task(problem.record.task),
        network=lambda: make_network(problem.record.network, splits.shape, splits.outputs, seed),
        method=method,
        recipe=problem.recipe,
        seed=seed,
        **more,
    )


def trained(
    problem: PlannedProblem,
    method: Method,
    seed: int,
    splits: Splits,
    folder: Path | None,
    progress: OnProgress,
    place: Place | None = None,
    log: Any = None,
) -> tuple[nn.Module | None, Training]:
    """Train a network by a problem's trainer.

    Args:
        problem: What is trained on.
        method: One of its methods.
        seed: Of everything random.
        splits: The problem's data.
        folder: For what must outlive an interruption.
        progress: Called as work goes on, with the stage "training".
        place: Device and processes; the processor alone by default.
        log: A writer with TensorBoard's `add_scalar`; None writes nothing.

    Returns:
        The network, None if the training diverged; and how it went.

    Raises:
        SetupError: If a trainer of one's own returns no network, or one that Accelerate's mixed precision wraps, or
            ends before the method's ramp does, or wrote into its run what no record can hold.
    """
    own = planned_run(
        problem,
        method,
        seed,
        splits,
        place=place or Place(),
        folder=folder,
        progress=lambda done, total: progress("training", done, total),
        log=log,
        about=f"{problem.record}",
    )
    trainer = train if problem.record.trainer == "samson" else find_trainer(problem.record.trainer)
    started, model, diverged_at, spent = time.monotonic(), None, None, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if method.distils:
                own.teacher, spent = _teacher(own)
            model = trainer(own)
            _check_network(model)
        except DivergedError as error:
            diverged_at = error.step
    _check_notes(own)
    validation = None
    if model is not None:
        _check_ramp(own)
        model.eval()
        if own.place.world == 1:
            with suppress(NotFiniteError):  # it is only shown; a search says so
                validation = clean_value(model, splits.examples("validation"), own.task.metric)
    return model, Training(
        # A trainer of one's own may go on after the last.
        loss=tuple(takewhile(lambda loss: abs(loss) <= LARGEST, own.losses)),
        validation=validation,
        parameters=0 if model is None else sum(p.numel() for p in model.parameters()),
        seconds=time.monotonic() - started + own.earlier_s,
        gradients=None if own.gradients is None else own.gradients + spent,
        diverged_at=diverged_at,
        perturbation=own.perturbation,
        input_ranges=_learned_ranges(own, diverged_at),
        precision=own.precision,
    )


def _check_network(model: Any) -> None:
    """Refuse what is no network, and one that would compute in lower precision on chips too."""
    mend = "It must return the trained network."
    require(isinstance(model, nn.Module), "`train`", "a function that returns an nn.Module", type(model).__name__, mend)
    if is_cast(model):
        raise SetupError(
            "`train` must return a network that computes in float32, got one that Accelerate's mixed precision wraps.\n"
            "Return samson.integrations.accelerate.unwrapped(model)."
        )


def _check_notes(run: Run) -> None:
    """Refuse what a trainer of one's own wrote into its run and no record can hold; losses become floats."""
    try:
        run.losses = [float(loss) for loss in run.losses]
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor of several numbers
        raise SetupError(f"`run.losses` must be numbers: {error}.\nAppend each epoch's mean loss.") from error
    count, mend = run.gradients, "Count gradients of a mini-batch, or leave it."
    whole = count is None or (isinstance(count, Integral) and count >= 0)
    require(whole, "`run.gradients`", "a whole number ≥ 0", count, mend)
    if run.precision is not None:
        choose("`run.precision`", run.precision, ("float32", "bfloat16"))


def _check_ramp(run: Run) -> None:
    """Refuse a training that ended before its ramp: its method would not be what it is called."""
    schedule = None if run.built is None else run.built.schedule
    sound = all(map(math.isfinite, run.losses))  # else it diverged
    if schedule is None or not sound or run.method.settings[RAMP] == "drawn":  # which no step is the last of
        return
    done, name = schedule.state_dict()["done"], run.method.name
    if done < schedule.steps:
        raise SetupError(
            f"`train` made {done} of {counted(schedule.steps, 'step')} with its last optimizer, and the ramp of {name} "
            f"ends at the last.\nSet recipe.epochs and batch_size to what it does; or, where it may end early, "
            f"{name}.{RAMP} to constant or drawn."
        )


def _learned_ranges(run: Run, diverged_at: int | None) -> dict[str, float]:
    """Take converters off the network; gives the ranges that were learned, none where the training diverged."""
    through = None if run.built is None else run.built.through
    if through is None:
        return {}
    try:
        ranges = dict(through.remove().input_ranges)
    except ValueError:  # a range is no finite number either; the converters are off
        if diverged_at is None:
            raise
        return {}
    return ranges if diverged_at is None else {}


def _teacher(run: Run) -> tuple[nn.Module, int]:
    """The network that the base optimizer alone trains with the run's seed, and the gradients that it took.

    It is kept beside the run's own training until the run is finished.
    """
    folder = None if run.folder is None else run.folder / "teacher"
    about = f"teacher of {run.about}"
    plain = replace(run, method=run.method.plain(), folder=folder, log=None, about=about, losses=[])
    model = train(plain, keep=True)
    run.earlier_s += plain.earlier_s
    torch.manual_seed(run.seed)  # what follows is the same whether it was trained or was there
    return model.requires_grad_(False).eval(), plain.gradients or 0


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
