"""What decides the trials of a task: each thing in words, or as a hash of its bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from samson._batches import Batch
from samson._select import plain_name
from samson._shown import plain
from samson.evaluation._metric import DataSetMetric, Metric
from samson.evaluation._scoring import device_of, same_draws
from samson.evaluation._task import Task
from samson.evaluation.executors._numerics import Numerics
from samson.noise import on_chip


def digest(value: Any, inside: tuple[int, ...] = ()) -> str:
    """A hash over the bits, dtypes and shapes of all tensors and arrays in a value, and over its numbers and texts.

    Of an object of another class, such as a graph, it takes what pickle would; `inside` are those that hold the value.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]), digest([torch.zeros(2)]) == digest([torch.zeros(1)])
        (True, False)
    """
    found = sha256()
    for path, leaf in tree_flatten_with_path(value)[0]:
        if isinstance(leaf, Tensor | np.ndarray):
            held = torch.as_tensor(leaf).detach().cpu().resolve_conj().contiguous()
            found.update(f"{keystr(path)} {held.dtype} {tuple(held.shape)}\n".encode())
            found.update(held.reshape(-1).view(torch.uint8).numpy().data)
        else:
            parts = () if id(leaf) in inside else _parts_of(leaf)
            own = digest(parts, (*inside, id(leaf))) if parts else ""
            found.update(f"{keystr(path)} {plain(leaf)} {own}\n".encode())
    return found.hexdigest()[:16]


def _parts_of(value: Any) -> list[Any]:
    """What pickle would take of an object; nothing of one that is all in its `repr`, or cannot be pickled."""
    if isinstance(value, type) or type(value).__module__ in ("builtins", "torch"):
        return []
    try:
        _, *parts = value.__reduce_ex__(2)
    except Exception:  # a lock, a weak reference, or what its class raises
        return []
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def digest_of_weights(model: nn.Module) -> str:
    """A hash over the bits of a model's parameters and buffers, with their names without the prefixes of wrappers."""
    return digest({plain_name(name): t for name, t in (*model.named_parameters(), *model.named_buffers())})


def digest_of(batches: Iterable[Any]) -> str:
    """A hash over batches, whatever holds their tensors (see `Batch.of`); one is in memory at a time.

    Example:
        >>> x, y = torch.zeros(2, 1), torch.zeros(2)
        >>> digest_of([(x, y)]) == digest_of([Batch((x,), y)])
        True
    """
    with same_draws():
        each = map(Batch.of, batches)
        return digest([digest((batch.inputs, batch.targets, batch.keywords)) for batch in each])


def facts_of(task: Task) -> dict[str, str]:
    """What decides a task's trials beside the bits of model and data, and the machine: each thing in words."""
    settings = {field.name: getattr(task, field.name) for field in fields(task) if field.repr}
    for hashed in ("model", "batches", "norm_batches"):
        del settings[hashed]
    settings |= {
        "kind": type(task).__name__,
        "select": [tensor.name for tensor in on_chip(task.model, task.select)],
        **{f"process.{name}": own for name, own in vars(Numerics.here(device_of(task.model).type)).items()},
    }
    return {name: plain(value) for name, value in settings.items()} | {"metric": identity(task.metric)}


def identity(metric: Metric) -> str:
    """What tells a metric from others: its `repr`, and a hash over its accumulator's settings, which that leaves out.

    Example:
        >>> from samson.evaluation import MeanThen
        >>> means = [DataSetMetric("mean", MeanThen(torch.sub, f), True) for f in (torch.exp, torch.exp, torch.log)]
        >>> identity(means[0]) == identity(means[1]), identity(means[0]) == identity(means[2])
        (True, False)
    """
    if not isinstance(metric, DataSetMetric):
        return plain(metric)
    empty = metric.fresh(torch.device("cpu"))
    parts = dict(empty.named_modules()) if isinstance(empty, nn.Module) else {"": empty}
    settings = {name: (type(part).__qualname__, _public(part)) for name, part in parts.items()}
    return f"{plain(metric)} {digest(settings)}"


def _public(part: object) -> dict[str, Any]:
    """The public attributes of an object, with parameters and buffers if it is a module."""
    held: dict[str, Any] = getattr(part, "__dict__", {})
    every = held | held.get("_parameters", {}) | held.get("_buffers", {})
    return {name: value for name, value in every.items() if not name.startswith("_")}
