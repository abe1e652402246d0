"""Trials spread over a Ray cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.utils._pytree import tree_map

from samson._checks import require_whole
from samson._errors import installing
from samson._ray import connected, spread
from samson.evaluation._scoring import Scores, device_of, same_draws
from samson.evaluation._task import Task
from samson.evaluation.executors._base import Executor, Finished, on_its_own
from samson.evaluation.executors._numerics import Numerics


@dataclass(eq=False)
class Ray(Executor):
    """Workers of a Ray cluster run the trials; the scores are those of one process, bit for bit.

    Uses the Ray that this program is connected to; else connects to `address`, or the environment's `RAY_ADDRESS`; else
    starts one on this machine, which ends with the program, or at Ctrl-C. Every node needs samson and the same torch.

    The model, the data, the noise and the metric are sent once and kept by each worker: a DataLoader is read to its end
    here first, so the data must fit in the memory of this process, of Ray's object store on each node and of each
    worker. A worker has as many threads as this process (`torch.get_num_threads()`), and asks Ray for as many CPUs;
    with one thread, a machine has as many workers as cores. For a model on a GPU it asks for one GPU.

    When a worker or a node is lost, its trials are run again elsewhere. An error in a trial is raised at once.

    Args:
        workers: Tasks that are in flight at most, ≥ 1; None is what the cluster has room for.
        address: Of the cluster, as `ray.init` takes it.
        chunk: Trials in one task of Ray, ≥ 1; more make sense for trials of a few milliseconds.
        attempts: How often trials are run before they count as what kills the workers, ≥ 1.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If a number is out of range; when run, if no node has CPUs enough for one worker.
        TypeError: When run, if model, data, noise or metric cannot be pickled.
        RuntimeError: When run, if the same trials were lost with their worker `attempts` times.
    """

    workers: int | None = None
    address: str | None = None
    chunk: int = 1
    attempts: int = 3
    _sent: WeakKeyDictionary[Task, Any] = field(default_factory=WeakKeyDictionary, init=False, repr=False)
    _started: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        require_whole(1, chunk=self.chunk, attempts=self.attempts)
        if self.workers is not None:
            require_whole(1, workers=self.workers)
        if find_spec("ray") is None:
            raise ImportError(f"`executor` Ray needs a package: {installing('ray')}.")

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Run them on the cluster."""
        if not numbers:
            return
        ray, here = connected(self.address)
        if here:
            self._sent.clear()
            self._started = True
        numerics = Numerics.here(device_of(task.model).type)
        submit, room = _submitter(ray, numerics)
        sent = self._send(ray, task)
        chunks = [numbers[start : start + self.chunk] for start in range(0, len(numbers), self.chunk)]
        named = {f"trials {list(chunk)}": chunk for chunk in chunks}
        found = spread(ray, named, lambda c: submit(sent, list(c), numerics), self.workers or room, self.attempts)
        try:
            with closing(found):
                for chunk, rows in found:
                    yield dict(zip(chunk, rows, strict=True))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget what was sent, and end the Ray that was started or connected to here."""
        self._sent.clear()
        if self._started:
            self._started = False
            import_module("ray").shutdown()

    def _send(self, ray: Any, task: Task) -> list[Any]:
        """A list with a reference to the task, so that Ray leaves it to the worker whether to fetch it."""
        if task not in self._sent:
            task_alone = on_its_own(task)
            model = task_alone.model if device_of(task.model).type == "cpu" else copy.deepcopy(task_alone.model).cpu()
            norms = None if task.norm_batches is None else _whole(task.norm_batches)
            whole = replace(task_alone, model=model, batches=_whole(task.batches), norm_batches=norms)
            try:
                self._sent[task] = ray.put(whole)
            except Exception as error:
                raise TypeError(
                    "`executor` Ray must be able to pickle model, data, noise and metric, but: "
                    f"{error}\nUse functions and classes of a module, without open files or locks."
                ) from error
        return [self._sent[task]]


_KEPT: dict[str, Task] = {}
"""In a worker: the latest task by its reference."""


def run_trials(sent: list[Any], numbers: Sequence[int], numerics: Numerics) -> list[Scores]:
    """Run trials in a worker.

    Args:
        sent: One reference to a task.
        numbers: The trials.
        numerics: Settings of the driver.
    """
    with numerics.held():
        key = sent[0].hex()
        if key not in _KEPT:
            _KEPT.clear()
            task: Task = import_module("ray").get(sent[0])
            task.model.to(numerics.device_type)
            _KEPT[key] = task
        return [_KEPT[key](number) for number in numbers]


def _whole(batches: Iterable[Any]) -> Any:
    """A list of batches in memory of their own: with each that is cut from larger tensors, pickle would send these.

    None in tuples, lists and dictionaries lies on a GPU: a worker may see another.
    """

    def own(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        here = value.cpu()
        return here.clone() if here.untyped_storage().nbytes() > here.nbytes else here

    with same_draws():
        return tree_map(own, list(batches))


def _submitter(ray: Any, numerics: Numerics) -> tuple[Any, int]:
    """What submits trials, and how many tasks the cluster has room for."""
    needs = {"CPU": float(numerics.threads), "GPU": 0.0 if numerics.device_type == "cpu" else 1.0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    rooms = [int(min(node.get(kind, 0.0) // n for kind, n in needs.items() if n)) for node in nodes]
    if not any(rooms):
        wants = " and ".join(f"{n:g} {kind}s" for kind, n in needs.items() if n)
        raise ValueError(
            f"`executor` Ray needs a node with {wants} for each worker, and this cluster has none. The CPUs are this "
            "process's threads: call torch.set_num_threads(1) for workers with one."
        )
    function = ray.remote(run_trials).options(
        num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_retries=0, name="samson trials"
    )
    return function.remote, sum(rooms)
