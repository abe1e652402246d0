"""Where trials run. Results are the same for any number of workers."""

from __future__ import annotations

from collections.abc import Callable

from samson.evaluation.executors._base import Executor, Serial
from samson.evaluation.executors._kept import Kept
from samson.evaluation.executors._numerics import Numerics
from samson.evaluation.executors._ray import Ray
from samson.evaluation.executors._torchrun import Torchrun

__all__ = ["EXECUTORS", "Executor", "Kept", "Numerics", "Ray", "Serial", "Torchrun"]

EXECUTORS: dict[str, Callable[[], Executor]] = {"serial": Serial, "torchrun": Torchrun, "ray": Ray}
"""Executors by name, with their defaults."""
