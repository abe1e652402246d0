"""One run: train a network by one method with one seed, put it on chips, keep every trial."""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from samson._environment import environment
from samson._errors import SetupError
from samson.evaluation import clean_value
from samson.experiments._checkpoints import Checkpoint, save_checkpoint
from samson.experiments._networks import make_network
from samson.experiments._place import one_thread
from samson.experiments._plan import Job, OnProgress
from samson.experiments._sweeps import examples_of, ranges_of, sweep
from samson.experiments._trained import trained
from samson.experiments._weights import load_weights
from samson.experiments.data import Splits, load_data_set
from samson.noise import coverage, multiply_adds
from samson.records import Environment, RunRecord, read_json, record_path, write_json


def network_path(folder: Path, name: str) -> Path:
    """Where a run's network lies in the folder of its comparison."""
    return folder / "networks" / f"{name}.safetensors"


def run(job: Job, folder: Path, progress: OnProgress) -> RunRecord:
    """Train, evaluate on the test split and write network and record; the record comes last and means "finished".

    A network that is there with its record, on fewer chips, is not trained again, and only put on those that it lacks.

    Args:
        job: What is run.
        folder: The comparison's folder.
        progress: Called as work goes on; may raise to stop, and then no record is written.
    """
    plan, problem = job.plan, job.problem.record
    with one_thread():
        splits = load_data_set(problem.data, plan.data_root)
        kept = folder / "unfinished" / job.name
        earlier, model = _kept(job, folder, splits)
        if earlier is None:
            model, training = trained(job.problem, job.method, job.seed, splits, kept, progress, job.place)
        else:
            training = earlier.training
        clean, covered, products, calibrated = None, None, None, dict[str, float]()
        measured = tuple[tuple[tuple[float, ...], ...], ...]()
        if model is not None:
            examples, select = examples_of(job, splits, "test"), job.problem.select
            clean = clean_value(model, examples, job.problem.metric) if earlier is None else earlier.clean
            covered, products = coverage(model, select).share, multiply_adds(model, examples, select)
            ranges = ranges_of(model, training, job, splits)
            measured = sweep(model, examples, job, progress, ranges, splits, earlier)
            calibrated = {} if training.input_ranges else dict(ranges)
        first, *later = _made_on(earlier, plan.trials, environment(job.place.device.type))
        record = RunRecord(
            problem=problem,
            method=job.method.name,
            settings=job.method.record(),
            seed=job.seed,
            families=tuple(family.record() for family in plan.families),
            trials=plan.trials,
            chip_seed=plan.chip_seed,
            training=training,
            split="test",
            examples=plan.examples_of(job.problem),
            clean=clean,
            measured=measured,
            environment=first,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            coverage=covered,
            multiply_adds=None if products is None else products.share,
            calibrated=calibrated,
            chips_added_on=() if model is None else tuple(later),
        )
    if model is not None and earlier is None:
        about = Checkpoint(problem.network, splits.shape, splits.outputs, problem.data, job.method.name, job.seed)
        save_checkpoint(network_path(folder, job.name), model.state_dict(), about)
    write_json(record_path(folder, job.name), record)
    delete_kept(folder, job.name)
    return record


def delete_kept(folder: Path, name: str) -> None:
    """Delete what the training of a finished run has kept, and the folders that are empty then."""
    kept = folder / "unfinished" / name
    shutil.rmtree(kept, ignore_errors=True)
    for empty in kept.parents[: len(kept.relative_to(folder).parts) - 1]:
        with suppress(OSError):  # of other runs at hand
            empty.rmdir()


def _made_on(earlier: RunRecord | None, trials: int, here: Environment) -> tuple[Environment, ...]:
    """What a run is made on: its training first, then the chips that were asked for later."""
    if earlier is None:
        return (here,)
    kept = earlier.chips_added_on if earlier.trials == trials else ()  # with more trials, all are measured again
    return tuple(dict.fromkeys((earlier.environment, *kept, here)))


def _kept(job: Job, folder: Path, splits: Splits) -> tuple[RunRecord | None, nn.Module | None]:
    """What is there of a run on fewer chips: its record, and its network unless the training diverged.

    Nothing where its weights do not make the network of the record, as none of one's own trainer surely do: that may
    change more than weights.
    """
    path, problem = record_path(folder, job.name), job.problem.record
    record = read_json(path, RunRecord) if path.exists() and problem.trainer == "samson" else None
    if record is None or record.clean is None:
        return record, None
    model = make_network(problem.network, splits.shape, splits.outputs, job.seed)
    try:
        load_weights(model, network_path(folder, job.name))
    except SetupError:
        return None, None
    model.eval().to(job.place.device)
    clean = clean_value(model, examples_of(job, splits, "test"), job.problem.metric)
    same = math.isclose(clean, record.clean, rel_tol=1e-6)
    return (record, model) if same else (None, None)
