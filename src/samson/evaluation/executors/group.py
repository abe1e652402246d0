"""A group of chips that are run at once: their weights stacked, and each batch of data run once for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from samson.evaluation.data import Batch, taken_apart
from samson.evaluation.metrics import ExampleMetric, prediction
from samson.evaluation.scoring import Scores, Tally, device_of, one_pass
from samson.evaluation.task import Task
from samson.noise import Chip
from samson.noise.calibration import evaluation_mode


@dataclass
class Group:
    """Chips that are run at once.

    Args:
        task: What is run on each.
        chips: The chips.
        stacked: Their weights and batch-norm statistics by the names of the model's tensors, stacked.
    """

    task: Task
    chips: Sequence[Chip]
    stacked: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task.norm_batches is not None:
            self._stack_norms()

    def verify(self) -> None:
        """Compare what the last chip gives for the first batch with what it gives alone.

        Raises:
            RuntimeError: If it gives something else: a weight then reaches the model by another way than its name.
        """
        task, chip = self.task, self.chips[-1]
        with torch.no_grad(), evaluation_mode(task.model), torch.random.fork_rng(devices=[]):
            first = next(taken_apart(task.batches), None)
            if first is None:
                return
            batch, again = (
                first.to(device_of(task.model), channels_last=task.layout.channels_last) for _ in range(2)
            )  # a model may write into its inputs
            with _plain_calls(), self._reading(0):
                found = self._outputs(batch, scored=False)
            with task.norms_of(chip), chip.at(task.time_s, reading=task.first_reading):
                alone = task.layout.forward(task.model)(*again.inputs, **again.keywords)
        for stack, own in zip(_tensors(found), _tensors(alone), strict=True):
            change = torch.linalg.vector_norm(stack[-1].double() - own.double())
            if change > (0.05 if task.layout.autocast else 1e-3) * torch.linalg.vector_norm(own.double()):
                raise RuntimeError(
                    "`executor` Batched must give each chip's outputs as it gives them alone, but those of one differ "
                    f"by {float(change):.3g} in their norm: the model reaches a weight by another way than its name, "
                    "such as a list or a view. Use executor=None."
                )

    def scores(self) -> list[Scores]:
        """The scores of each chip."""
        task, metric = self.task, self.task.metric
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

    def _outputs(self, batch: Batch, *, scored: bool = True) -> Any:
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
            found = metric.score(output, batch.targets) if scored and isinstance(metric, ExampleMetric) else output
            leaves, spec = tree_flatten(found)
            form[:] = len(leaves), spec
            return {place: leaf for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}

        try:
            with _own_attributes(model):
                stacks = vmap(one, randomness="error")(self.stacked)
        except Exception as error:  # of whatever kind the user's model and metric raise
            raise RuntimeError(
                f"`executor` Batched could not run model and metric on {len(self.chips)} chips at once: "
                f"{type(error).__name__}: {error}\nUse fewer `chips` if memory ran out, else executor=None."
            ) from error
        size, spec = form
        return tree_unflatten([stacks.get(place) for place in range(size)], spec)


def _tensors(output: Any) -> list[Tensor]:
    """The tensors that both ways of running give; caches of Transformers are left out."""
    found = prediction(output) if isinstance(output, Mapping) or hasattr(output, "logits") else output
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


@contextmanager
def _own_attributes(model: nn.Module) -> Iterator[None]:
    """Attributes that a forward pass sets, such as kept activations, are taken back: they would be dead tensors."""
    before = {module: dict(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, attributes in before.items():
            vars(module).clear()
            vars(module).update(attributes)


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
