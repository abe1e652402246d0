"""What decides the trials of a task: each thing in words, or as a hash of its bits."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import fields
from hashlib import sha256
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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


def digest(value: Any) -> str:
    """A hash over all that a value holds: the bits of tensors and arrays, numbers, texts, and what objects pickle.

    Functions count by their names, defaults and what they close over, and what cannot be pickled by its attributes.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]), digest([torch.zeros(2)]) == digest([torch.zeros(1)])
        (True, False)
    """
    found = sha256()
    _Hasher(found).dump(value)
    return found.hexdigest()[:16]


class _Hasher(pickle._Pickler):  # torch's tensors pickle with addresses, and the fast one knows equal texts apart
    """Pickles into a hash; nothing is ever read back."""

    def __init__(self, found: Any) -> None:
        super().__init__(SimpleNamespace(write=found.update), protocol=4)

    def memoize(self, obj: Any) -> None:
        """Know an object again, but for those that may be one or several without a difference."""
        if not isinstance(obj, str | bytes | Tensor | np.ndarray):
            super().memoize(obj)  # type: ignore[misc]  # not in the stub

    def persistent_id(self, obj: Any) -> str | None:
        """The name of a class or a module of Python, and the kind of a device, of which each process has its own."""
        if isinstance(obj, torch.device):
            return obj.type
        if isinstance(obj, ModuleType):
            return obj.__name__
        return f"{obj.__module__}.{obj.__qualname__}" if isinstance(obj, type) else None

    def reducer_override(self, obj: Any) -> Any:
        """What is hashed of an object; NotImplemented is what pickle takes of numbers, texts and containers."""
        held: list[Any] | None = None
        if isinstance(obj, Tensor | np.ndarray):
            held = _numbers(obj)
        elif isinstance(obj, nn.Module):
            held = [(name, type(part), _public(part)) for name, part in obj.named_modules()]
        elif isinstance(obj, set | frozenset):
            held = sorted(map(plain, obj))  # in whose own order processes differ
        if held is not None:
            return list, (held,)
        if type(obj) in self.dispatch and not isinstance(obj, FunctionType):
            return NotImplemented
        try:
            if isinstance(obj, FunctionType):
                obj = getattr(obj, "_torchdynamo_orig_callable", obj)
                cells = [cell.cell_contents for cell in obj.__closure__ or ()]
                return tuple, (f"{obj.__module__}.{obj.__qualname__}", obj.__defaults__, obj.__kwdefaults__), cells
            found = obj.__reduce_ex__(4)
        except Exception:  # a lock, a weak reference, or what its class raises
            return str, (plain(obj),), getattr(obj, "__dict__", None)
        return (str, (found,)) if isinstance(found, str) else found


def _numbers(held: Tensor | NDArray[Any]) -> list[Any]:
    """Dtype, shape, and a hash of the bits; objects that are no numbers as they are."""
    if isinstance(held, np.ndarray):
        bits: Any = held.tolist() if held.dtype.hasobject else sha256(np.ascontiguousarray(held).tobytes()).hexdigest()
        return [str(held.dtype), held.shape, bits]
    if held.is_nested:
        return [*held.unbind()]
    dense = held.detach().cpu().resolve_conj()
    dense = dense if dense.layout is torch.strided else dense.to_dense()
    content = dense.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return [str(held.dtype), str(held.layout), tuple(held.shape), sha256(content).hexdigest()]


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
        parts = (tree_flatten_with_path((batch.inputs, batch.targets, batch.keywords))[0] for batch in each)
        return digest([digest([(keystr(path), leaf) for path, leaf in found]) for found in parts])


def facts_of(task: Task) -> dict[str, str]:
    """What decides a task's trials beside the bits of model and data, and the machine: each thing in words."""
    settings = {field.name: getattr(task, field.name) for field in fields(task) if field.repr}
    for hashed in ("model", "batches", "norm_batches"):
        del settings[hashed]
    settings |= {
        "kind": type(task).__name__,
        "modules": digest({plain_name(f"{name}."): _layer(part) for name, part in task.model.named_modules()}),
        "select": [tensor.name for tensor in on_chip(task.model, task.select)],
        **({"parts": digest(plain(settings["parts"]))} if "parts" in settings else {}),  # which names L layers L times
        **{f"process.{name}": own for name, own in vars(Numerics.here(device_of(task.model).type)).items()},
    }
    return {name: plain(value) for name, value in settings.items()} | {"metric": identity(task.metric)}


def _layer(part: nn.Module) -> str:
    """A layer as the `repr` of its model has it."""
    return plain(f"{type(part).__name__}({part.extra_repr()})")


def identity(metric: Metric) -> str:
    """What tells a metric from others: its `repr`, and a hash over its function, or over its accumulator.

    Example:
        >>> from samson.evaluation import MeanThen
        >>> means = [DataSetMetric("mean", MeanThen(torch.sub, f), True) for f in (torch.exp, torch.exp, torch.log)]
        >>> identity(means[0]) == identity(means[1]), identity(means[0]) == identity(means[2])
        (True, False)
    """
    held = metric.fresh(torch.device("cpu")) if isinstance(metric, DataSetMetric) else metric.score
    return f"{plain(metric)} {digest(held)}"


def _public(part: nn.Module) -> dict[str, Any]:
    """The public attributes of a module, with parameters and buffers; others, and functions, hold what it has seen."""
    every = vars(part) | dict(vars(part)["_parameters"]) | dict(vars(part)["_buffers"])
    seen = {name for name, value in every.items() if name[0] == "_" or isinstance(value, FunctionType | MethodType)}
    return {name: value for name, value in every.items() if name not in seen | {"training"}}
