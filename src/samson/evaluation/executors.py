"""Where trials run. Results are the same for every executor and any number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from samson.evaluation.scoring import Scores
from samson.evaluation.task import Task

T = TypeVar("T")


class Executor(Protocol):
    """Runs trials of a task somewhere."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """The scores of the trials of these numbers, in this order."""

    def agree(self, value: T) -> T:
        """The value that one process found, for all that run this program together."""


class Serial:
    """One trial after the other, in this process."""

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """Run them here."""
        return (task(number) for number in numbers)

    def agree(self, value: T) -> T:
        """The value itself."""
        return value
