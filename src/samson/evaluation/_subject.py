"""What was measured, on what chips and how, as results and records hold it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from samson._environment import environment
from samson._select import Select
from samson.evaluation._result import Evaluation
from samson.evaluation._scoring import device_of
from samson.evaluation._sensitivity_result import Sensitivity
from samson.evaluation._setting import Setting
from samson.evaluation._task import unwrapped
from samson.evaluation.executors import Serial
from samson.evaluation.executors._exchange import digest_of_weights
from samson.optim import is_sharded
from samson.records import Subject


def make_subject(
    found: Evaluation | Sensitivity,
    model: nn.Module,
    setting: Setting,
    *,
    name: str,
    data: str,
    weights: str | None = None,
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
        weights: The file of its weights, if it had one of its own.
        norms_on: What `norm_data` is called.
        weights_hash: That of the model's weights, if known.
    """
    covered = found.coverage
    return Subject(
        model=name,
        weights=weights,
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
    several = select if isinstance(select, Sequence) and not isinstance(select, str) else [select]
    return tuple(
        one if isinstance(one, str) else getattr(one, "__qualname__", type(one).__name__)
        for one in several
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
