"""Tasks that go wrong on the way, in whichever process runs them."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from samson.evaluation import Executor, Scores, Task


@dataclass(frozen=True, eq=False)
class Watched(Task):
    """Writes down each trial that is begun and ended.

    It may take its time, fail, end its process the first time it is run, or end every node of a Ray cluster but one.
    """

    folder: Path = Path()
    seconds: float = 0.0
    fails: int = -1
    kills: int = -1
    spares: str = ""

    def __call__(self, number: int) -> Scores:
        first = not self.begun(number)
        (self.folder / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        if number == self.fails:
            raise ValueError(f"trial {number} is bad")
        if self.spares:
            self._lose_other_nodes()
        if number == self.kills and first:
            os.kill(os.getpid(), signal.SIGKILL)
        scores = super().__call__(number)
        (self.folder / f"end-{number}").touch()
        return scores

    def _lose_other_nodes(self) -> None:
        """The node that is spared waits for the loss of another, however long a worker takes to start there."""
        lost = self.folder / "lost"
        if _node() != self.spares:
            lost.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not lost.exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def begun(self, number: int) -> int:
        return len(list(self.folder.glob(f"{number}-*")))


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


class Watching(Executor):
    """An executor whose trials are watched."""

    def __init__(self, executor: Executor, folder: Path, **settings: float | str) -> None:
        self.executor, self.folder, self.settings = executor, folder, settings
        folder.mkdir(exist_ok=True)
        self.task: Watched | None = None

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[dict[int, Scores]]:
        if self.task is None:
            whole = {f.name: getattr(task, f.name) for f in fields(task)}
            self.task = Watched(**whole, folder=self.folder, **self.settings)
        return self.executor.finished(self.task, numbers)

    def broadcast(self, compute: Callable[[], object]) -> object:
        return self.executor.broadcast(compute)

    def begun(self) -> dict[int, int]:
        """How often each trial was begun."""
        numbers = [int(path.name.split("-")[0]) for path in self.folder.glob("[0-9]*")]
        return {number: numbers.count(number) for number in sorted(set(numbers))}

    def processes(self) -> int:
        """How many processes ran trials."""
        return len({path.name.split("-")[1] for path in self.folder.glob("[0-9]*")})

    def ended(self) -> int:
        """How many trials came to their end."""
        return len(list(self.folder.glob("end-*")))
