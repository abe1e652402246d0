"""Trials of several chips at once: their weights stacked, and each batch of data run once for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from samson.evaluation.data import Batch
from samson.evaluation.executors.base import OneProcess, on_its_own
from samson.evaluation.metrics import ExampleMetric
from samson.evaluation.scoring import Scores, Tally, device_of, one_pass
from samson.evaluation.task import Task
from samson.noise import Chip

UNREACHABLE = (nn.RNNBase, nn.DataParallel, torch.jit.ScriptModule)
"""Modules that do not take their weights from outside, or compute by calls that cannot be batched."""


@dataclass(frozen=True)
class Batched(OneProcess):
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
            buffers, random numbers; or if memory runs out.

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

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        """Run them here; progress comes `chips` at a time."""
        task = on_its_own(task)
        _require_batchable(task)
        groups = [numbers[start : start + self.chips] for start in range(0, len(numbers), self.chips)]
        return (row for group in groups for row in _Group(task, [task.chip(n) for n in group]).scores())


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


@dataclass
class _Group:
    """Chips that are run at once.

    Args:
        task: What is run on each.
        chips: The chips.
        stacked: Their weights and batch-norm statistics by the names of the model's tensors, stacked.
    """

    task: Task
    chips: Sequence[Chip]
    stacked: dict[str, Tensor] = field(default_factory=dict)

    def scores(self) -> list[Scores]:
        """The scores of each chip."""
        task, metric = self.task, self.task.metric
        if task.norm_batches is not None:
            self._stack_norms()
        if isinstance(metric, ExampleMetric):  # its scores come out of `_outputs` themselves
            metric = replace(metric, score=lambda values, targets: values)
        tallies = [Tally(metric, device_of(task.model)) for _ in self.chips]

        def run(batch: Batch) -> None:
            outputs = self._outputs(batch)
            for number, tally in enumerate(tallies):
                tally.update(tree_map_only(Tensor, itemgetter(number), outputs), batch)

        with _plain_calls():
            one_pass(
                task.model,
                task.batches,
                run,
                channels_last=task.layout.channels_last,
                read_block=task.read_block,
                reading=self._reading,
            )
        return [tally.scores() for tally in tallies]

    def _stack_norms(self) -> None:
        found: dict[str, list[Tensor]] = {}
        for chip in self.chips:
            with self.task.norms_of(chip):
                for path, module in self.task.model.named_modules():
                    for name, buffer in module.named_buffers(path) if isinstance(module, _BatchNorm) else ():
                        found.setdefault(name, []).append(buffer.clone())
        self.stacked |= {name: torch.stack(buffers) for name, buffers in found.items()}

    @contextmanager
    def _reading(self, block: int) -> Iterator[None]:
        """The weights of a reading of each chip, and the model as on the first, also where a weight is computed."""
        time_s, reading = self.task.time_s, block + self.task.first_reading
        values = [chip.read(time_s, reading) for chip in self.chips]
        with self.chips[0].at(time_s, reading=reading):
            paths = {module: path for path, module in self.task.model.named_modules()}
            for place, *of_place in zip(values[0], *(of_chip.values() for of_chip in values), strict=True):
                stack = torch.stack(of_place)
                for module, name in place.carriers:
                    own = getattr(module, name)
                    self.stacked[f"{paths[module]}.{name}".lstrip(".")] = stack.to(own.dtype)
            yield

    def _outputs(self, batch: Batch) -> Any:
        """The model's outputs for a batch, or the scores of its examples, with an axis of chips first.

        Of outputs only tensors are kept: what else there is, such as caches of Transformers, comes as None.
        """
        model, metric, layout = self.task.model, self.task.metric, self.task.layout
        form: list[Any] = []

        def one(tensors: dict[str, Tensor]) -> Any:
            # Tensors that layers share are named one by one, and a chip's weight may be on one of the layers only.
            with layout.lowered(model):
                output = functional_call(model, tensors, batch.inputs, batch.keywords, tie_weights=False)
            output = layout.raised(output)
            found = metric.score(output, batch.targets) if isinstance(metric, ExampleMetric) else output
            leaves, spec = tree_flatten(found)
            form[:] = len(leaves), spec
            return {place: leaf for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}

        try:
            stacks = vmap(one, randomness="error")(self.stacked)
        except Exception as error:
            raise RuntimeError(
                f"`executor` Batched could not run model and metric on {len(self.chips)} chips at once: "
                f"{type(error).__name__}: {error}\nUse fewer `chips` if memory ran out, else executor=None."
            ) from error
        size, spec = form
        return tree_unflatten([stacks.get(place) for place in range(size)], spec)


@contextmanager
def _plain_calls() -> Iterator[None]:
    """Compiled parts as they were written, and attention in separate calls: fused ones would be run chip by chip."""
    fused = torch.backends.mha.get_fastpath_enabled()
    with sdpa_kernel(SDPBackend.MATH), ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to ask for it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        torch.backends.mha.set_fastpath_enabled(False)
        yield
