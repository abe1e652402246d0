"""What an executor is, and the one that needs nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from torch.nn.parallel import DistributedDataParallel

from samson.evaluation._scoring import Scores
from samson.evaluation._task import Task, unwrapped
from samson.optim import is_sharded

T = TypeVar("T")


Finished = dict[int, Scores]
"""Scores by the number of their trial."""


class Executor(ABC):
    """Runs trials of a task somewhere. One of your own needs `finished`; the rest suits one process."""

    @property
    def name(self) -> str:
        """What records call it."""
        return type(self).__name__.lower()

    @abstractmethod
    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Run the trials of these numbers; all that is there comes at once, in any order."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """The scores of the trials of these numbers, in this order."""
        if task.is_random:
            return _in_order(self.finished(task, numbers), numbers)
        alike = _in_order(self.finished(task, numbers[:1]), numbers[:1])
        return (scores for scores in alike for _ in numbers)

    def broadcast(self, compute: Callable[[], T]) -> T:
        """What one process computes, in every process that runs this program."""
        return compute()

    def named(self, name: str) -> Self:
        """The executor for one part of a question, such as a noise level: one that saves trials keeps them apart."""
        return self


def _in_order(finished: Iterator[Finished], numbers: Sequence[int]) -> Iterator[Scores]:
    found: Finished = {}
    for number in numbers:
        while number not in found:
            found |= next(finished)
        yield found.pop(number)
    for _ in finished:  # what an executor does at its end
        pass


@dataclass(frozen=True)
class Serial(Executor):
    """One trial after the other, in this process."""

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Run them here."""
        return ({number: task(number)} for number in numbers)


def on_its_own(task: Task) -> Task:
    """A task that one process can run while others run other trials.

    Its model is taken out of DistributedDataParallel, which would send its buffers to the other ranks in each pass.

    Raises:
        ValueError: If the model is sharded over processes, so that no process can run it by itself.
    """
    model = unwrapped(task.model)
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
    return task if model is task.model else replace(task, model=model)
