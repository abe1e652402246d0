"""One pass over the data: a model's scores, leaving model and random state as they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from samson._batches import TARGET_KEYS, Batch, Examples, batches_of, raised
from samson._interrupts import uninterrupted
from samson._modes import evaluation_mode
from samson.evaluation._metric import DataSetMetric, ExampleMetric, Metric, NotFiniteError
from samson.evaluation._metrics import as_metric, prediction
from samson.records import LARGEST

Scores = NDArray[Any] | float
"""One value for each example (booleans or float64), or one for the data set."""

Reading = Callable[[int], AbstractContextManager[object]]


def scores(
    model: nn.Module,
    batches: Iterable[Any],
    metric: Metric,
    *,
    channels_last: bool = False,
    read_block: int | None = None,
    reading: Reading | None = None,
    forward: Callable[..., Any] | None = None,
    before: Callable[[Batch], None] | None = None,
) -> Scores:
    """Run a model over all batches in evaluation mode.

    Each call draws the same numbers from global random state, which comes back as it was.

    Args:
        model: Any model that the metric can look at.
        batches: Batches (see `Batch`); moved to the model's device.
        metric: What is measured.
        channels_last: Whether 4-d inputs are put in channels-last order.
        read_block: Examples of one reading; None is one reading for all.
        reading: The block in which the model runs, from the number of a reading.
        forward: What is called instead of the model.
        before: Called with the first batch, before the first reading.

    Raises:
        ValueError: If there is no example, or a metric gives no finite value for each.
    """
    device, run = device_of(model), model if forward is None else forward  # a compiled model has no truth
    tally = Tally(metric, device)
    with evaluation_mode(model), torch.no_grad(), same_draws():
        if before is not None:
            source = iter(batches)
            first = list(with_targets(islice(source, 1)))
            for batch in first:
                before(batch)
            batches = chain(first, source)
        for number, pieces in readings(batches, read_block):
            with nullcontext() if reading is None else reading(number):
                for piece in pieces:
                    batch = piece.to(device, channels_last=channels_last)
                    tally.update(run(*batch.inputs, **batch.keywords), batch)
        return tally.scores()


@uninterrupted
def same_draws() -> Iterator[None]:
    """A block in which global random state, from which a DataLoader draws, begins as in every other; GPUs' too.

    It comes back as it was.
    """
    before = torch.get_rng_state()
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    of_gpus = torch.cuda.get_rng_state_all() if begun else []
    try:
        torch.default_generator.manual_seed(0)
        if of_gpus:
            torch.cuda.manual_seed_all(0)
        yield
    finally:
        torch.set_rng_state(before)
        torch.cuda.set_rng_state_all(of_gpus)


class Tally:
    """What a metric says of one pass over the data, batch by batch.

    Args:
        metric: What is measured.
        device: Where the model computes.
    """

    def __init__(self, metric: Metric, device: torch.device) -> None:
        self.metric, self._device, self._examples = metric, device, 0
        self._parts: list[Tensor] = []
        self._accumulator = metric.fresh(device) if isinstance(metric, DataSetMetric) else None

    def update(self, output: Any, batch: Batch) -> None:
        """Take in the output for a batch; it and targets in at least float32, in which a metric does not overflow."""
        output, targets = tree_map(raised, (output, batch.targets))
        named = isinstance(output, Mapping) and "logits" in output
        judged = tree_leaves(output["logits"] if named else output)
        devices = [leaf.device for leaf in judged if isinstance(leaf, Tensor)]
        if devices and not devices.count(self._device):  # a model that is split ends on another
            targets = tree_map(lambda leaf: leaf.to(devices[0]) if isinstance(leaf, Tensor) else leaf, targets)
        if isinstance(self.metric, ExampleMetric):
            self._parts.append(_checked(self.metric.score(output, targets), batch, self.metric))
        elif self._accumulator is not None:
            updates = next((one for one in type(self._accumulator).__mro__ if "update" in vars(one)), object)
            torchmetric = updates.__module__.startswith("torchmetrics.")  # it takes tensors, not models' own outputs
            self._accumulator.update(prediction(output) if torchmetric else output, targets)
        self._examples += len(batch)

    def scores(self) -> Scores:
        """One value for each example, or one for the data set."""
        if not self._examples:
            raise ValueError("`data` must hold at least one example, got none.")
        if self._accumulator is not None:
            found: Scores = _one_number(self._accumulator.compute(), self.metric)
        else:
            values = torch.cat(self._parts).cpu()  # not every device has float64
            found = (values if values.dtype == torch.bool else values.double()).numpy()
        if not (np.abs(found) <= LARGEST).all():
            raise NotFiniteError(
                f"`metric` {self.metric.name!r} must be finite, got NaN or infinity, or a number beyond {LARGEST:g}: "
                "the network overflows on this chip, or an example has no target that counts. A metric of your own can "
                "bound them."
            )
        low, high = self.metric.bounds or (-math.inf, math.inf)
        slack = 1e-6 * (high - low)  # of float32
        if np.min(found) < low - slack or np.max(found) > high + slack:
            raise ValueError(
                f"`metric` {self.metric.name!r} must stay within its `bounds` {self.metric.bounds}, got values from "
                f"{np.min(found):g} to {np.max(found):g}. Correct the bounds, or the unit of the metric."
            )
        if isinstance(found, float):
            return min(max(found, low), high)
        return found if found.dtype == np.bool_ else found.clip(low, high)


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def value_of(found: Scores) -> float:
    """The metric's value: itself, or the mean over examples."""
    return found if isinstance(found, float) else float(np.mean(found, dtype=np.float64))


def clean_value(model: nn.Module, data: Examples, metric: str | Metric | Any = "accuracy") -> float:
    """A metric without noise, in evaluation mode.

    Args:
        model: Any model whose output the metric can look at.
        data: Inputs and targets (see `Examples`); moved to the model's device.
        metric: As for `evaluate`.

    Raises:
        ValueError: If there is no example.
    """
    return value_of(scores(model, batches_of(data), as_metric(metric)))


def readings(batches: Iterable[Any], size: int | None) -> Iterator[tuple[int, Iterator[Batch]]]:
    """The batches by the number of the reading of the chip that they are computed with."""
    if size is None:
        yield 0, with_targets(batches)
        return
    for number, group in groupby(_in_blocks(with_targets(batches), size), key=lambda pair: pair[0]):
        yield number, (batch for _, batch in group)


def with_targets(batches: Iterable[Any]) -> Iterator[Batch]:
    """Each batch as a `Batch`.

    Raises:
        ValueError: If one has no targets.
    """
    for raw in batches:
        batch = Batch.of(raw)
        if batch.targets is None:
            found = f"the keys {', '.join(map(str, batch.keywords))}" if batch.keywords else "inputs alone"
            raise ValueError(
                f"A batch of `data` must have targets, as (inputs, targets) or under one of {', '.join(TARGET_KEYS)} "
                f"in a dict, got {found}. Add them, rename the column, or put a single batch in a list: "
                "[(inputs, targets)]."
            )
        if not hasattr(batch.targets, "__len__") or (isinstance(batch.targets, Tensor) and not batch.targets.ndim):
            raise ValueError(
                "A batch of `data` must have a target for each of its examples, got a single one, "
                f"{batch.targets!r:.40}. Give batches, not examples: DataLoader(data, batch_size) makes them."
            )
        yield batch


def _in_blocks(batches: Iterable[Batch], size: int) -> Iterator[tuple[int, Batch]]:
    """Batches cut where a block of `size` examples ends, each with the number of its block."""
    start = 0
    for batch in batches:
        done = 0
        while done < len(batch):
            end = min(len(batch), done + size - (start + done) % size)
            yield (start + done) // size, batch.part(done, end)
            done = end
        start += len(batch)


def _one_number(value: Any, metric: Metric) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"`metric` {metric.name!r} must give one number for the data set, got {value!r:.80}. Take a mean over "
            "classes (average='macro'), or one class."
        ) from error


def _checked(values: Any, batch: Batch, metric: ExampleMetric) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"`metric` {metric.name!r} must give a tensor with one value for each example, got "
            f"{type(values).__name__}. Compute with torch, or wrap it in torch.as_tensor."
        )
    if values.is_complex():
        raise TypeError(
            f"`metric` {metric.name!r} must give real values, got a tensor of {values.dtype}. Take its abs() or real."
        )
    if values.shape != (len(batch),):
        raise ValueError(
            f"`metric` {metric.name!r} must give one value for each of {len(batch)} examples, got a tensor of shape "
            f"{tuple(values.shape)}. A metric of the whole data set is a DataSetMetric."
        )
    return values
