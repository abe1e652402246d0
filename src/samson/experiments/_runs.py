"""One run: train a network by one method with one seed, put it on chips, keep every trial."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from samson._batches import Examples
from samson._errors import SetupError, require
from samson.evaluation import Layout, Noise, clean_value, evaluate
from samson.experiments._checkpoints import Checkpoint, save_checkpoint
from samson.experiments._chips import Chips
from samson.experiments._environment import environment
from samson.experiments._methods import Method
from samson.experiments._networks import make_network
from samson.experiments._place import Place
from samson.experiments._planning import Plan
from samson.experiments._problems import PlannedProblem, find_trainer, load_data_set, make_task
from samson.experiments._training import LOOKED_AT, DivergedError, Run, train
from samson.experiments.data import Splits, length
from samson.noise import ChipModel, calibrate
from samson.records import RunRecord, Training, record_path, run_name, write_json

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on; may raise to stop it."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Args:
        problem: What is trained on.
        method: One of the problem's methods, with its settings as they are used.
        seed: Seed of initial weights, order of examples, augmentation and injected noise.
        families: Families of chips on which the network is put.
        trials: Chips of each kind.
        examples: Test examples that are put on the chips; None takes all.
        chip_seed: Seed of the set of chips.
        device: Where the network is trained and put on chips.
        data_root: Where files of data are looked for.
    """

    problem: PlannedProblem
    method: Method
    seed: int
    families: tuple[Chips, ...]
    trials: int
    examples: int | None
    chip_seed: int
    device: str
    data_root: Path

    @property
    def place(self) -> Place:
        """Where the run is computed."""
        return Place(torch.device(self.device))

    @property
    def name(self) -> str:
        """What the run is called: the problem, the method and the seed."""
        return run_name(self.problem.record.name, self.method.name, self.seed)


def scratch(folder: Path, name: str) -> Path:
    """Where a run keeps what it needs to go on after an interruption."""
    return folder / "unfinished" / name


def jobs_of(plan: Plan) -> list[Job]:
    """Every run of a plan: all methods of a problem with one seed come before the next seed."""
    return [
        Job(
            problem,
            method,
            seed,
            plan.families,
            plan.trials,
            plan.examples,
            plan.chip_seed,
            plan.device,
            plan.data_root,
        )
        for seed in range(plan.seeds)
        for problem in plan.problems
        for method in problem.methods
    ]


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
    """
    own = Run(
        data=splits,
        task=make_task(problem.record.task),
        network=lambda: make_network(problem.record.network, splits.shape, splits.outputs, seed),
        method=method,
        recipe=problem.recipe,
        seed=seed,
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
            mend = "It must return the trained network."
            require(isinstance(model, nn.Module), "--train", "a function that returns an nn.Module", model, mend)
        except DivergedError as error:
            diverged_at = error.step
    validation = None
    if model is not None:
        model.eval()
        if own.place.world == 1:
            validation = clean_value(model, splits.examples("validation"), own.task.metric)
    through = None if own.built is None else own.built.through
    return model, Training(
        loss=tuple(own.losses),
        validation=validation,
        parameters=0 if model is None else sum(p.numel() for p in model.parameters()),
        seconds=time.monotonic() - started,
        gradients=None if own.gradients is None else own.gradients + spent,
        diverged_at=diverged_at,
        perturbation=own.perturbation,
        input_ranges={} if through is None else dict(through.remove().input_ranges),
    )


def _teacher(run: Run) -> tuple[nn.Module, int]:
    """The network that the base optimizer alone trains with the run's seed, and the gradients that it took."""
    folder = None if run.folder is None else run.folder / "teacher"
    plain = Run(
        run.data,
        run.task,
        run.network,
        run.method.plain(),
        run.recipe,
        run.seed,
        run.place,
        folder,
        run.progress,
        about=f"teacher of {run.about}",
    )
    model = train(plain)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return model.requires_grad_(False).eval(), plain.gradients or 0


def run(job: Job, folder: Path, progress: OnProgress) -> RunRecord:
    """Train, evaluate on the test split and write network and record; the record comes last and means "finished".

    Args:
        job: What is run.
        folder: The comparison's folder.
        progress: Called as work goes on; may raise to stop, and then no record is written.
    """
    problem = job.problem.record
    with one_thread():
        splits = load_data_set(problem.data, job.data_root)
        kept = scratch(folder, job.name)
        model, training = trained(job.problem, job.method, job.seed, splits, kept, progress, job.place)
        clean, measured = None, tuple[tuple[tuple[float, ...], ...], ...]()
        if model is not None:
            metric = make_task(problem.task).metric
            examples = on_device(splits.some("test", job.examples), job.place.device)
            clean = clean_value(model, examples, metric)
            ranges = ranges_of(model, training, job, splits)
            measured = sweep(model, examples, metric, job, progress, ranges)
        record = RunRecord(
            problem=problem,
            method=job.method.name,
            settings=job.method.record(),
            seed=job.seed,
            families=tuple(family.record() for family in job.families),
            trials=job.trials,
            chip_seed=job.chip_seed,
            training=training,
            split="test",
            examples=min(job.examples or length(splits.test), length(splits.test)),
            clean=clean,
            measured=measured,
            environment=environment(job.place.device.type),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    if model is not None:
        about = Checkpoint(problem.network, splits.shape, splits.outputs, problem.data, job.method.name, job.seed)
        save_checkpoint(folder / "networks" / f"{job.name}.safetensors", model.state_dict(), about)
    write_json(record_path(folder, job.name), record)
    shutil.rmtree(kept, ignore_errors=True)
    for empty in kept.parents[: len(kept.relative_to(folder).parts) - 1]:
        with suppress(OSError):  # of other runs at hand
            empty.rmdir()
    return record


def save_trained(
    plan: Plan, seed: int, folder: Path, place: Place, progress: OnProgress, *, log: bool = False
) -> Training:
    """Train the network of a plan's first problem by its first method, and save it as `model.safetensors`.

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
    splits = load_data_set(problem.record.data, plan.data_root)
    writer = _tensorboard(folder) if log and place.rank == 0 else None
    kept = folder / "unfinished"
    model, training = trained(problem, method, seed, splits, kept, progress, place, writer)
    if writer is not None:
        writer.close()
    if model is not None:
        state = place.whole_state(model)
        if place.rank == 0:
            record = problem.record
            about = Checkpoint(record.network, splits.shape, splits.outputs, record.data, method.name, seed)
            save_checkpoint(folder / "model.safetensors", state, about)
    if place.rank == 0:
        shutil.rmtree(kept, ignore_errors=True)
    return training


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SetupError("--log needs a package: pip install tensorboard") from error
    return SummaryWriter(str(folder / "logs"))


def on_device(data: Examples, device: torch.device) -> Examples:
    """A pair of tensors on a device, once for all chips; anything else as it is."""
    return (data[0].to(device), data[1].to(device)) if isinstance(data, tuple) else data


def ranges_of(model: nn.Module, training: Training, job: Job, splits: Splits) -> Mapping[str, float]:
    """Input ranges that were learned; else from training data, if a chip of the job has converters without any."""
    if training.input_ranges:
        return training.input_ranges
    around = [k.noise.periphery for f in job.families for k in f.kinds if isinstance(k.noise, ChipModel)]
    if not any(periphery is not None and not periphery.input_ranges for periphery in around):
        return {}
    batches = splits.batches(job.problem.recipe.batch_size, seed=0, epoch=0, device="cpu", augment=(), workers=0)
    return calibrate(model, [(inputs,) for inputs, _ in islice(batches, LOOKED_AT)])


def sweep(
    model: nn.Module, data: Examples, metric: object, job: Job, progress: OnProgress, ranges: Mapping[str, float]
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Put a network on all the chips of a job: the metric by family, kind and chip.

    Args:
        model: The network.
        data: Test examples.
        metric: As for `evaluate`.
        job: Says which chips.
        progress: Called after each chip.
        ranges: The input range of each layer, for chips with converters and no ranges of their own.
    """
    total = job.trials * sum(len(family.kinds) for family in job.families)
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        progress("chips", done, total)

    return tuple(
        tuple(
            evaluate(
                model,
                data,
                _with_ranges(kind.noise, ranges),
                trials=job.trials,
                seed=job.chip_seed,
                time_s=kind.time_s,
                metric=metric,
                layout=Layout(),
                progress=count,
            ).trials
            for kind in family.kinds
        )
        for family in job.families
    )


def _with_ranges(noise: Noise, ranges: Mapping[str, float]) -> Noise:
    around = noise.periphery if isinstance(noise, ChipModel) else None
    if around is None or around.input_ranges or not ranges:
        return noise
    return replace(cast("ChipModel", noise), periphery=replace(around, input_ranges=ranges))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread inside the block, so that numbers do not depend on how many runs go side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
