"""The loss over whole data as a function of where the weights are; everything is put back at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_map

from samson._batches import Examples, batches_of, raised, require_module
from samson._buffers import restored
from samson._modes import evaluation_mode
from samson.evaluation import (
    ExampleMetric,
    NotFiniteError,
    Watch,
    as_metric,
    same_draws,
    scores,
    value_of,
    with_targets,
)
from samson.optim import is_sharded

Displacement = Sequence[Tensor]
"""What is added to each weight, in float64."""


class Surface:
    """The loss of a model in evaluation mode, over all of the data, at its weights plus a displacement.

    Args:
        model: The model; only parameters that require a gradient are moved.
        batches: The data, in batches.
        loss: One differentiable value for each example; the loss is its mean, summed in float64.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Any], loss: ExampleMetric) -> None:
        found = movable(model)
        self.names = list(found)
        self.parameters: list[Tensor] = list(found.values())
        self.weights = [wide(p.detach()) for p in self.parameters]
        self.model, self._data, self._loss = model, batches, loss
        self._watch = Watch()

    @property
    def _batches(self) -> Iterable[Any]:
        """The data for a pass, which must be those of the first."""
        return self._watch.batches(self._data)

    def loss(self, displacement: Displacement | None = None) -> float:
        """The loss at w + displacement; infinite where it is not a number."""
        self._move(displacement)
        try:
            return value_of(scores(self.model, self._batches, self._loss))
        except NotFiniteError:
            return math.inf

    def loss_and_gradient(self, displacement: Displacement | None = None) -> tuple[float, list[Tensor]]:
        """The loss at w + displacement and its gradient, summed over batches in float64; `.grad` is not touched."""
        self._move(displacement)
        gradients = [torch.zeros_like(w) for w in self.weights]
        values: list[Tensor] = []
        with torch.enable_grad(), same_draws():
            for of_batch in self.losses_of_batches():
                values.append(of_batch.detach().double())
                found = torch.autograd.grad(of_batch.sum(), self.parameters, allow_unused=True)
                for total, gradient in zip(gradients, found, strict=True):
                    if gradient is not None:
                        total.add_(gradient)
        every = torch.cat(values)
        return value_of(every.cpu().numpy()), [total / len(every) for total in gradients]

    def losses_of_batches(self) -> Iterator[Tensor]:
        """The losses of each batch's examples where the weights are now, to be differentiated.

        Raises:
            ValueError: If the loss gives no differentiable value for each example, or there is no example.
        """
        batch = None
        for batch in with_targets(self._batches):
            moved = batch.to(self.parameters[0].device)
            with torch.enable_grad():
                output = self.model(*moved.inputs, **moved.keywords)
                of_batch = self._loss.score(*tree_map(raised, (output, moved.targets)))
            if of_batch.shape != (len(batch),) or not of_batch.requires_grad:
                raise ValueError(
                    f"`loss` {self._loss.name!r} must give one differentiable value for each example. "
                    "Use 'cross-entropy', 'mse', or an ExampleMetric of your own."
                )
            yield of_batch
        if batch is None:
            raise ValueError("`data` must hold at least one example, got none.")

    @torch.no_grad()
    def _move(self, displacement: Displacement | None) -> None:
        for number, (p, weight) in enumerate(zip(self.parameters, self.weights, strict=True)):
            p.copy_(weight if displacement is None else weight + displacement[number])
        torch.clear_autocast_cache()


@contextmanager
def loss_surface(model: nn.Module, data: Examples, loss: str | ExampleMetric = "cross-entropy") -> Iterator[Surface]:
    """The loss surface of a model, in evaluation mode: no dropout, and norm layers with their running statistics.

    At the end, also after an error, the weights have the very bits that they had, each module its mode, and global
    random state is as it was. Gradients are not touched.

    Args:
        model: Any model that the loss can look at.
        data: As for `evaluate`; whole tensors go through the model in batches of 256.
        loss: A name in `METRICS` or an `ExampleMetric`; its value must be differentiable.

    Raises:
        ValueError: If the loss has no value for each example, or no parameter requires a gradient.
        RuntimeError: Inside `parametrize.cached()`, where the model would go on with the cached weights.
    """
    if parametrize._cache_enabled:
        raise RuntimeError(
            "Inside `parametrize.cached()` a pass at moved weights would use those computed before. Leave that block "
            "first."
        )
    metric = differentiable(loss)
    surface = Surface(model, batches_of(data), metric)
    with undisturbed(model):
        try:
            with restored(surface.parameters):
                yield surface
        finally:
            torch.clear_autocast_cache()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; modes and global random state are as before afterwards.

    Recurrent layers compute without cuDNN, which has no gradient in evaluation mode, and no second one at all.
    """
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    enabled = torch.backends.cudnn.enabled
    with evaluation_mode(model), torch.random.fork_rng(devices=list(devices)):
        try:
            torch.backends.cudnn.enabled = enabled and not any(isinstance(m, nn.RNNBase) for m in model.modules())
            yield
        finally:
            torch.backends.cudnn.enabled = enabled


def movable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that require a gradient, by name.

    Raises:
        ValueError: If there is none, or they are sharded.
    """
    require_module(model)
    found: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            f"`model` must have a parameter that requires a gradient, got {type(model).__name__} with none. "
            "Call `model.requires_grad_()`."
        )
    if any(is_sharded(p) for p in found.values()):
        raise ValueError("`model` must have whole parameters, got sharded ones. Gather them in one process first.")
    return found


def differentiable(loss: Any) -> ExampleMetric:
    """A loss by name or from itself.

    Raises:
        ValueError: If it has no value for each example, or a higher one is better.
    """
    metric = as_metric(loss)
    if not isinstance(metric, ExampleMetric):
        raise ValueError(f"`loss` must have a value for each example, got {metric.name!r}. Use 'cross-entropy'.")
    if metric.higher_is_better:
        raise ValueError(
            f"`loss` must be better when lower, got {metric.name!r}. Give its negative, or 'cross-entropy'."
        )
    return metric


def wide(tensor: Tensor) -> Tensor:
    """A copy in float64, or complex128."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float64), copy=True)
