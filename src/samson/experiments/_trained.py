"""Training a network as a problem asks: by its trainer, with what its method needs, and what is written down of it."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samson._batches import is_cast
from samson._errors import SetupError, choose, require
from samson._names import counted
from samson.evaluation import NotFiniteError, clean_value
from samson.experiments._loop import train
from samson.experiments._method import Method
from samson.experiments._networks import make_network
from samson.experiments._parts import RAMP
from samson.experiments._place import Place
from samson.experiments._plan import OnProgress, PlannedProblem
from samson.experiments._tasks import make_task
from samson.experiments._training import DivergedError, Run, find_trainer
from samson.experiments.data import Splits
from samson.records import LARGEST, Training


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
