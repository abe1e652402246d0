"""One run: train a network by one method with one seed, put it on chips, keep every trial."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from samson.evaluation import Layout, accuracy, evaluate
from samson.experiments._checkpoints import Checkpoint, save_checkpoint
from samson.experiments._data import DATA, Pair
from samson.experiments._environment import environment
from samson.experiments._methods import Method
from samson.experiments._networks import build_network
from samson.experiments._training import OnProgress, Plan, train
from samson.noise import NOISES
from samson.records import Configuration, Level, RunRecord, Training, write_json


def run_name(method: str, seed: int) -> str:
    """The name of a run's files, without ending."""
    return f"{method}-seed{seed}"


def record_path(folder: Path, method: str, seed: int) -> Path:
    """Where a run's record lies in the folder of its comparison."""
    return folder / "records" / f"{run_name(method, seed)}.json"


def run(plan: Configuration, method: Method, seed: int, folder: Path, progress: OnProgress) -> RunRecord:
    """Train, evaluate on the test split and write network and record; the record comes last and means "finished".

    Args:
        plan: The comparison.
        method: One of its methods.
        seed: Seed of initial weights, order of examples and injected noise.
        folder: The comparison's folder.
        progress: Called after each epoch and each chip; may raise to stop, and then nothing is written.
    """
    with one_thread():
        data = DATA[plan.data]()
        started = time.monotonic()
        model = build_network(plan.network, data.classes, seed)
        optimizer = method.build(model, seed)
        losses, diverged_at = train(model, optimizer, data.train, Plan(plan.epochs, plan.batch_size, seed), progress)
        training = Training(
            loss=tuple(losses),
            validation_accuracy=accuracy(model, data.validation) if diverged_at is None else None,
            parameters=sum(p.numel() for p in model.parameters()),
            seconds=time.monotonic() - started,
            diverged_at=diverged_at,
        )
        record = RunRecord(
            configuration=plan,
            method=method.name,
            seed=seed,
            training=training,
            split="test",
            examples=len(data.test[1]),
            levels=sweep(model, data.test, plan, progress) if diverged_at is None else (),
            environment=environment(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    about = Checkpoint(plan.network, data.classes, plan.data, method.name, seed)
    save_checkpoint(folder / "networks" / f"{run_name(method.name, seed)}.safetensors", model, about)
    write_json(record_path(folder, method.name, seed), record)
    return record


def sweep(model: torch.nn.Module, data: Pair, plan: Configuration, progress: OnProgress) -> tuple[Level, ...]:
    """Evaluate a network at every level of a plan, on the plan's chips; level 0 once, without noise."""
    total = plan.trials * sum(level > 0 for level in plan.levels)
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        progress("chips", done, total)

    found = []
    for level in plan.levels:
        if level == 0:
            found.append(Level(level, (accuracy(model, data),)))
        else:
            noise = NOISES[plan.noise](level)
            result = evaluate(
                model, data, noise, trials=plan.trials, seed=plan.chip_seed, layout=Layout(), progress=count
            )
            found.append(Level(level, result.trials))
    return tuple(found)


class one_thread:  # noqa: N801 (used as a context manager, like torch.no_grad)
    """Run with one thread inside the block, so that numbers do not depend on how many runs go side by side."""

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
