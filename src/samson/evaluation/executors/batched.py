"""Trials of several chips at once: their weights stacked, and each batch of data run once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from samson.evaluation.executors.base import Executor, Finished, on_its_own
from samson.evaluation.executors.group import Group
from samson.evaluation.task import Task

UNREACHABLE = (nn.RNNBase, nn.DataParallel, torch.jit.ScriptModule)
"""Modules that do not take their weights from outside, or compute by calls that cannot be batched."""


@dataclass(frozen=True)
class Batched(Executor):
    """Several chips at once, in this process: for small networks on a GPU, which one chip does not keep busy.

    The weights of `chips` chips are stacked, each exactly as it would be alone, and `torch.func.vmap` runs the model,
    and a metric of examples, once for all on each batch. Sums are taken in another order than for one chip at a time,
    so scores are equal up to rounding, not bit for bit; a prediction may differ where two logits are nearly equal.

    It takes the memory of `chips` sets of weights on the chip, chip states and activations of a batch; the model's
    other weights are shared. Programming is not batched, so it gains little where a chip takes longer to program than
    to run. On a CPU it is slower for convolutions (`benchmarks/batched_chips.py`). Parts that are compiled run as they
    were written.

    Args:
        chips: Chips at once, ≥ 1; the last ones may be fewer.

    Raises:
        ValueError: If `chips` is out of range; when run, before any trial, if there is a periphery, whose noise depends
            on each chip's activations, a recurrent layer, a scripted model or a layout that compiles, or if the
            question takes several passes a chip (`sensitivity`).
        RuntimeError: When run, if model or metric cannot be batched: control flow that depends on values, writes into
            buffers, random numbers, weights that are reached in ways of their own (the first batch of one chip is
            compared with that chip alone); or if memory runs out.

    Example:
        >>> from samson.evaluation import evaluate
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> len(evaluate(nn.Linear(4, 3), data, Gaussian(0.1), trials=5, executor=Batched(chips=4)).trials)
        5
    """

    chips: int = 16

    def __post_init__(self) -> None:
        if self.chips < 1:
            raise ValueError(f"`chips` must be ≥ 1, got {self.chips!r}.")

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Run them here, `chips` at a time."""
        task = on_its_own(task)
        _require_batchable(task)
        groups = [numbers[start : start + self.chips] for start in range(0, len(numbers), self.chips)]
        return (self._scores(task, group, first=group is groups[0]) for group in groups)

    @staticmethod
    def _scores(task: Task, numbers: Sequence[int], *, first: bool) -> Finished:
        group = Group(task, [task.chip(number) for number in numbers])
        if first and len(numbers) > 1:
            group.verify()
        return dict(zip(numbers, group.scores(), strict=True))


def _require_batchable(task: Task) -> None:
    if type(task).__call__ is not Task.__call__:
        raise ValueError(
            "`executor` Batched runs one pass a chip, but this question (such as `sensitivity`) has trials of its own "
            "kind. Use executor=None."
        )
    if task.periphery is not None:
        raise ValueError(
            "`executor` Batched must have chips without periphery, whose noise is drawn for each chip's activations. "
            "Use executor=None."
        )
    if task.layout.compiled:
        raise ValueError(
            "`layout` must not be compiled with `executor` Batched, which takes the model apart. Use executor=None, or "
            "layout.plain."
        )
    for path, module in task.model.named_modules():
        if isinstance(module, UNREACHABLE):
            raise ValueError(
                f"`executor` Batched cannot give the weights of several chips to {f'`{path}`' if path else 'the model'}"
                f", a {type(module).__name__}. Use executor=None."
            )
