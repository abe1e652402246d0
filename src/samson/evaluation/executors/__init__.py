"""Where trials run. Results are the same for any number of workers."""

from __future__ import annotations

from collections.abc import Callable

from samson._names import suggestion
from samson.evaluation.executors.base import Executor, Serial
from samson.evaluation.executors.kept import Kept
from samson.evaluation.executors.numerics import Numerics
from samson.evaluation.executors.ray import Ray
from samson.evaluation.executors.torchrun import Torchrun

__all__ = ["EXECUTORS", "Executor", "Kept", "Numerics", "Ray", "Serial", "Torchrun", "executor_name", "executor_named"]

EXECUTORS: dict[str, Callable[[], Executor]] = {"serial": Serial, "torchrun": Torchrun, "ray": Ray}
"""Executors by name, with their defaults."""


def executor_name(executor: Executor | None) -> str:
    """The name of an executor, or of that whose trials are saved.

    Example:
        >>> executor_name(Kept("runs/chips"))
        'serial'
    """
    if isinstance(executor, Kept):
        return executor_name(executor.executor)
    return "serial" if executor is None else type(executor).__name__.lower()


def executor_named(name: str) -> Executor:
    """An executor by name, with its defaults.

    Args:
        name: "serial", "torchrun" or "ray".

    Raises:
        ValueError: If the name is unknown.
        ImportError: If what it needs is not installed.

    Example:
        >>> executor_named("serial")
        Serial()
    """
    if name not in EXECUTORS:
        raise ValueError(f"`executor` must be a known one, got {name!r}. {suggestion(name, EXECUTORS)}")
    return EXECUTORS[name]()
