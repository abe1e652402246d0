"""Trials spread over the ranks that `torchrun` started."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch.distributed as dist

from samson._buffers import held_buffers
from samson._checks import is_number, require
from samson.evaluation._task import Task
from samson.evaluation.executors._base import Executor, Finished, on_its_own
from samson.evaluation.executors._facts import digest, digest_of, facts_of

T = TypeVar("T")

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(eq=False)
class Torchrun(Executor):
    """Each rank runs every world-size-th trial; after each round all ranks have all scores of it.

    Every rank calls `evaluate` or `compare` with the same model, data and arguments, and gets the same result bit for
    bit as one process would. Each rank needs all of the data: no DistributedSampler. Of a model in
    DistributedDataParallel, or any other with buffers, those of rank 0 count, as in its forward pass.

    An error in a trial is raised on every rank. When a rank is lost, the others end with an error, and
    `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --max-restarts 3` starts the script again on all: trials are then run
    anew from the first, or go on with `Kept`, and give the same bits. (Without the variable, torch's restarts find
    addresses of lost ranks.)

    Exchanges go over gloo groups of its own, whatever the backend of the default group, which is made from torchrun's
    environment if there is none and then destroyed when the process ends. A group of its own ends with the outermost
    call that uses it: one of its threads may be the last to hold a tensor, and where that happens while the interpreter
    ends, the process aborts.

    Args:
        timeout_s: How long a rank waits for the others in one round, > 0.

    Raises:
        ValueError: If `timeout_s` is out of range; when run, if ranks differ in weights, data or numbers of trials, or
            the model is sharded.
        RuntimeError: When run, if a trial failed on any rank, or the process was not started by torchrun.
    """

    timeout_s: float = 3600.0
    _world: Any = field(default=None, init=False, repr=False)
    _group: Any = field(default=None, init=False, repr=False)
    _users: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        require(is_number(self.timeout_s) and self.timeout_s > 0, "timeout_s", "be > 0", self.timeout_s)

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Run them on all ranks; progress comes a round at a time."""
        with self._joined() as group:
            rank, world = dist.get_rank(group), dist.get_world_size(group)
            task = on_its_own(task)
            _require_same(_everywhere("Looking at model and data", lambda: _facts(task, numbers), group))
            buffers = self.broadcast(lambda: [own.detach().to("cpu", copy=True) for own in task.model.buffers()])
            for start in range(0, len(numbers), world):
                mine = numbers[start + rank : start + rank + 1]  # none in a last round of fewer

                def share(mine: Sequence[int] = mine) -> Finished:
                    with held_buffers([task.model]):
                        for buffer, value in zip(task.model.buffers(), buffers, strict=True):
                            buffer.detach().copy_(value)
                        return {number: task(number) for number in mine}

                every = _everywhere(f"Trial {''.join(map(str, mine))}", share, group)
                yield {number: row for theirs in every for number, row in theirs.items()}

    def broadcast(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes; an error there is raised on every rank."""
        found: list[Any] = [None]
        with self._joined() as group:

            def on_first() -> None:
                if dist.get_rank(group) == 0:
                    found[0] = compute()

            _everywhere("What rank 0 does for all", on_first, group)
            dist.broadcast_object_list(found, src=0, group=group)
        computed: T = found[0]
        return computed

    @contextmanager
    def _joined(self) -> Iterator[Any]:
        """A group of all ranks for exchanges between CPUs; its threads end with the outermost block."""
        timeout = timedelta(seconds=self.timeout_s)
        if not (dist.is_available() and dist.is_gloo_available()):
            raise RuntimeError("`executor` Torchrun needs a torch with torch.distributed and gloo.")
        if not dist.is_initialized():
            missing = [name for name in _ENVIRONMENT if name not in os.environ]
            if missing:
                raise RuntimeError(
                    f"`executor` Torchrun must run under torchrun, but {', '.join(missing)} is not set. "
                    "Start the script with: torchrun --nproc-per-node 2 my_script.py"
                )
            dist.init_process_group("gloo", timeout=timeout)
            atexit.register(_destroyed)
        world = dist.group.WORLD
        if self._world is not world:
            self._world, self._group, self._users = world, dist.new_group(backend="gloo", timeout=timeout), 0
        self._users += 1
        try:
            yield self._group
        finally:
            if self._world is world:  # else another default group was made since
                self._users -= 1
                if not self._users:
                    group, self._world, self._group = self._group, None, None
                    if dist.group.WORLD is world:  # else it went with the default group
                        dist.destroy_process_group(group)


def _destroyed() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _everywhere(what: str, compute: Callable[[], T], group: Any) -> list[T]:
    """What every rank computes; an error of one is raised on all, so that none waits for it.

    Raises:
        RuntimeError: If a rank failed, on that rank from the error itself; or if one is gone.
    """
    failure: Exception | None = None
    own: tuple[T | None, str] = None, ""
    try:
        own = compute(), ""
    except Exception as error:
        failure = error
        own = None, f"{what} failed on rank {dist.get_rank(group)}: {type(error).__name__}: {error}"
    every: list[Any] = [None] * dist.get_world_size(group)
    try:
        dist.all_gather_object(every, own, group=group)
    except RuntimeError as error:
        raise RuntimeError(
            "A rank was lost, or took too long for its trial: see its output. `torchrun --max-restarts` starts anew."
        ) from error
    for _, error_there in every:
        if error_there:
            raise RuntimeError(error_there) from failure
    return [found for found, _ in every]


def _facts(task: Task, numbers: Sequence[int]) -> dict[str, Any]:
    """What must be the same on all ranks, by name."""
    norms = task.norm_batches
    return {
        "parameters": digest(dict(task.model.named_parameters())),
        "buffers": [tuple(buffer.shape) for buffer in task.model.buffers()],
        "a first batch": digest_of(islice(task.batches, 1)),
        "a first norm batch": None if norms is None else digest_of(islice(norms, 1)),
        "the trials": list(numbers),
        **facts_of(task),
    }


def _require_same(found: Sequence[dict[str, Any]]) -> None:
    first, *others = found
    for rank, facts in enumerate(others, start=1):
        for name, fact in facts.items():
            if fact != first[name]:
                raise ValueError(
                    f"Ranks must evaluate the same thing, but rank {rank} has {name} {fact!r}, and rank 0 "
                    f"{first[name]!r}. Load the same weights, give all of the data to each rank (no "
                    "DistributedSampler), and pass the same arguments."
                )
