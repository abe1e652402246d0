"""What was measured, on what chips and how, as results and records hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from samson._environment import environment
from samson._select import Select, entries
from samson.evaluation._result import Evaluation
from samson.evaluation._scoring import device_of
from samson.evaluation._sensitivity_result import Sensitivity
from samson.evaluation._setting import Setting
from samson.evaluation._task import Task, unwrapped
from samson.evaluation.executors import Serial
from samson.evaluation.executors._facts import digest_of_weights
from samson.noise import Compose, WeightNoise
from samson.optim import is_sharded
from samson.records import ChipKind, Subject

LONGEST = 80
"""Letters of a noise in a label at most."""


def make_subject(
    found: Evaluation | Sensitivity,
    model: nn.Module,
    setting: Setting,
    *,
    name: str,
    data: str,
    norms_on: str | None = None,
    weights_hash: str | None = None,
) -> Subject:
    """The record of what was measured, on what, and how.

    Args:
        found: What came out.
        model: The model.
        setting: How its trials were run.
        name: What the model is called.
        data: What the data are called.
        norms_on: What `norm_data` is called.
        weights_hash: That of the model's weights, if known.
    """
    covered = found.coverage
    return Subject(
        model=name,
        weights=None,
        data=data,
        examples=found.examples,
        metric=found.metric.name,
        higher_is_better=found.metric.higher_is_better,
        is_fraction=found.metric.bounds == (0, 1),
        about=found.about if isinstance(found, Evaluation) else "test_set",
        confidence=found.confidence,
        chip_seed=setting.get("seed", 0),
        select=_patterns(setting.get("select")),
        read_block=setting.get("read_block"),
        norms_on=norms_on,
        batch_size=found.layout.batch_size,
        channels_last=found.layout.channels_last,
        autocast=setting.get("autocast"),
        executor=(setting.get("executor") or Serial()).name,
        environment=environment(device_of(model).type),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        coverage=None if covered is None else covered.share,
        multiply_adds=None if covered is None else covered.multiply_adds,
        weights_hash=weights_hash,
    )


def subject_of(found: Evaluation | Sensitivity, model: nn.Module, data: Any, setting: Setting) -> Subject:
    """The record for a model and data that were given in Python (see `make_subject`)."""
    norms = setting.get("norm_data")
    norms_on = None if norms is None else data_name(norms)
    name, named, weights = type(model).__name__, data_name(data), _weights_hash(model)
    return make_subject(found, model, setting, name=name, data=named, norms_on=norms_on, weights_hash=weights)


def _weights_hash(model: nn.Module) -> str | None:
    """That of the manifest of `Kept`; None if the model is sharded, or some tensor has no plain bits."""
    if any(map(is_sharded, model.parameters())):
        return None
    try:
        return digest_of_weights(unwrapped(model))
    except (RuntimeError, TypeError, ValueError):  # of a tensor that is quantised, sparse or a subclass
        return None


def _patterns(select: Select) -> tuple[str, ...]:
    """What was selected, by pattern or name."""
    return tuple(
        one if isinstance(one, str) else getattr(one, "__qualname__", type(one).__name__)
        for one in entries(select)
        if one is not None
    )


def data_name(data: Any) -> str:
    """What data are called that have no name.

    Example:
        >>> from torch import randn, zeros
        >>> data_name((randn(64, 4), zeros(64))), data_name([])
        ('tensors of 64 x 4, 64', 'list')
    """
    if isinstance(data, DataLoader):
        return f"DataLoader of {type(data.dataset).__name__}"
    if isinstance(data, tuple) and data and all(isinstance(one, Tensor) for one in data):
        return f"tensors of {', '.join(' x '.join(map(str, one.shape)) for one in data)}"
    return type(data).__name__


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
