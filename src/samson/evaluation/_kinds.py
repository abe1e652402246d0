"""The kind of chip on which something was measured, as results hold it."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from samson.evaluation._task import Task
from samson.records import ChipKind

LONGEST = 80
"""Letters of a label at most."""


def kind_of(task: Task) -> ChipKind:
    """The kind of chip of a task, with its noise in short for a label."""
    when = task.noise.default_time_s if task.time_s is None else task.time_s
    around = None if task.periphery is None else repr(task.periphery)
    label = brief(task.noise)
    label = label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
    return ChipKind(label, repr(task.noise), time_s=when, periphery=around)


def brief(value: Any) -> str:
    """A noise by what was set of it, without its time, which a kind of chip holds by itself.

    Example:
        >>> from samson.noise import PCM, Compose, Gaussian
        >>> brief(Compose(Gaussian(0.1), PCM(time_s=60.0)))
        'Compose(noises=(Gaussian(sigma=0.1), PCM))'
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))})"
    if not is_dataclass(value):
        return repr(value)
    values = {field.name: (getattr(value, field.name), _default(field)) for field in fields(value) if field.repr}
    values.pop("time_s", None)
    said = [f"{name}={brief(own)}" for name, (own, default) in values.items() if repr(own) != repr(default)]
    return type(value).__name__ + (f"({', '.join(said)})" if said else "")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
