"""Input ranges of layers from data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from samson.noise.attachment import hooked_layers, layer_input
from samson.noise.selection import Select, on_chip


@torch.no_grad()
def calibrate(
    model: nn.Module, batches: Iterable[Tensor], select: Select = None, *, quantile: float = 1.0
) -> dict[str, float]:
    """Find the range of each layer's inputs, for `Periphery(input_ranges=…)`.

    The model runs in evaluation mode, with its own weights; it and global random state come back as they were.

    Args:
        model: Any model whose layers on the chip are linear or convolution layers.
        batches: Inputs of the model, from training or validation data.
        select: As for `deploy`.
        quantile: Share of a batch's |inputs| that the range covers, in (0, 1]; 1 is the largest. The range is the
            largest over batches.

    Returns:
        The range by the name of the layer; 1 where all inputs are zero.

    Raises:
        ValueError: If `quantile` is out of range, there are no batches, or a layer cannot be reached.

    Example:
        >>> calibrate(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), [torch.tensor([[-3.0, 2.0]])])
        {'1': 2.0}
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"`quantile` must be in (0, 1], got {quantile!r}.")
    largest: dict[str, float] = {}

    def watch(name: str, _: nn.Module, args: tuple[Tensor, ...], keywords: dict[str, Tensor]) -> None:
        values = layer_input(args, keywords).abs().flatten().float()
        if values.numel():
            rank = max(1, round(quantile * values.numel()))
            largest[name] = max(largest.get(name, 0.0), float(values.kthvalue(rank).values))

    layers = hooked_layers(model, on_chip(model, select))
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        for name, layer in layers.items():
            stack.enter_context(layer.register_forward_pre_hook(partial(watch, name), with_kwargs=True))
        for inputs in batches:
            model(inputs)
    missed = [name for name in layers if name not in largest]
    if missed:
        raise ValueError(f"`batches` must run every layer on the chip, but `{missed[0]}` had no input.")
    return {name: value or 1.0 for name, value in largest.items()}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
