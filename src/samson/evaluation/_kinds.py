"""The kind of chip on which something was measured, as results hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from samson.evaluation._task import Task
from samson.noise import Compose, WeightNoise
from samson.records import ChipKind

LONGEST = 80
"""Letters of a noise in a label at most."""


def kind_of(task: Task) -> ChipKind:
    """The kind of chip of a task, with its noise and periphery in short for results."""
    when = task.noise.default_time_s if task.time_s is None else task.time_s
    around = None if task.periphery is None else repr(task.periphery)
    behind = None if task.periphery is None else brief(task.periphery)
    return ChipKind(
        _label(task.noise),
        repr(task.noise),
        time_s=when,
        periphery=around,
        behind=behind,
        alike=not task.is_random,
    )


def _label(noise: WeightNoise) -> str:
    if isinstance(noise, Compose):
        return f"{type(noise).__name__}({', '.join(map(_label, noise.noises))})"
    text = brief(noise)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def brief(value: Any) -> str:
    """A noise or a periphery by what was set of it, without a time, which a kind of chip holds by itself.

    Example:
        >>> from samson.noise import PCM, Periphery
        >>> brief(PCM(time_s=60.0, g_max_us=20.0)), brief(Periphery(dac_steps=254, input_ranges={"stem": 2.0}))
        ('PCM(g_max_us=20.0)', 'Periphery(dac_steps=254, input_ranges={…})')
    """
    if isinstance(value, Mapping):
        return "{…}"
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
