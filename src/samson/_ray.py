"""Work spread over a Ray cluster: connecting to it, and tasks in flight until all is done."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from samson._errors import WorkerLostError, reason

T = TypeVar("T")


def connected(address: str | None = None) -> tuple[Any, bool]:
    """The module `ray`, and whether it was connected to here rather than before.

    Args:
        address: Of the cluster; None takes the environment's `RAY_ADDRESS`, else starts one on this machine.

    Raises:
        ImportError: If it is not installed.
    """
    # Set before the import: what samson starts reports nothing to Ray's makers, unless the user wants it to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_module("ray")
    if ray.is_initialized():
        return ray, False
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        ray.init(address="local", include_dashboard=False)
    else:
        ray.init(address=address)
    return ray, True


def spread(
    ray: Any, pieces: Mapping[str, T], submit: Callable[[T], Any], room: int, attempts: int
) -> Generator[tuple[T, Any], None, None]:
    """Each piece of work with its result, as they come; those of a lost worker or node are done again elsewhere.

    What is in flight when this is closed, or an error comes, is cancelled.

    Args:
        ray: The module.
        pieces: The work by what it is called, in the order in which it is begun.
        submit: Begins a piece; gives Ray's reference to its result.
        room: Pieces in flight at most, ≥ 1.
        attempts: How often a piece is begun before it counts as what kills its workers, ≥ 1.

    Raises:
        WorkerLostError: If a piece was lost `attempts` times.
        Exception: What a piece raises.
    """
    errors = ray.exceptions
    losing = (
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.LocalRayletDiedError,
        errors.ObjectLostError,
        errors.OutOfMemoryError,
    )
    waiting, running = deque(pieces), dict[Any, str]()
    lost = Counter[str]()
    try:
        while waiting or running:
            while waiting and len(running) < room:
                name = waiting.popleft()
                running[submit(pieces[name])] = name
            ready = ray.wait(list(running))[0][0]
            name = running.pop(ready)
            try:
                found = ray.get(ready)
            except losing as error:
                lost[name] += 1
                if lost[name] == attempts:
                    raise WorkerLostError(
                        f"Lost with the worker {attempts} times, at last by {reason(error)}: {name}.\nLook for what "
                        "ends the process: too little memory, or a crash."
                    ) from error
                waiting.appendleft(name)
            except errors.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from error
            else:
                yield pieces[name], found
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
