"""What an executor is, and the one that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, cast

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from samson.evaluation.scoring import Scores
from samson.evaluation.task import Task
from samson.optim.sharding import is_sharded

T = TypeVar("T")


class Executor(Protocol):
    """Runs trials of a task somewhere."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """The scores of the trials of these numbers, in this order."""

    def agree(self, value: T) -> T:
        """The value that one process found, for all that run this program together."""


@dataclass(frozen=True)
class Serial:
    """One trial after the other, in this process."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """Run them here."""
        return (task(number) for number in numbers)

    def agree(self, value: T) -> T:
        """The value itself."""
        return value


def on_its_own(task: Task) -> Task:
    """A task that one process can run while others run other trials: its model talks to no other process.

    The model is taken out of DistributedDataParallel, which would send its buffers to the other ranks in each forward
    pass.

    Raises:
        ValueError: If the model is sharded over processes, so that no process can run it by itself.
    """
    model = task.model
    if isinstance(model, DistributedDataParallel):
        model = cast("nn.Module", model.module)
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        raise ValueError(
            "`model` must be wrapped in DistributedDataParallel outermost or not at all, to spread trials over "
            "processes. Give the model inside it, or compile first: DistributedDataParallel(torch.compile(model))."
        )
    sharded = next((name for name, parameter in model.named_parameters() if is_sharded(parameter)), None)
    if sharded is not None:
        raise ValueError(
            f"`model` must be whole in every process to spread trials over them, but {sharded!r} is sharded. "
            "Use executor=None, with which all processes run each trial together."
        )
    return replace(task, model=model)
