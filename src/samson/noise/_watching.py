"""Inputs of layers: a look at them while data run through the model, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from samson._batches import Batch, Examples, batches_of
from samson._interrupts import interruptible, uninterrupted
from samson._modes import evaluation_mode, training_mode
from samson.noise._unpacked import unpacked


@torch.no_grad()
def watch(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    data: Examples,
    look: Callable[[str, Tensor], None],
    *,
    training: bool = False,
) -> None:
    """Run a model over data, and give `look` the name and the input of each of the layers before it runs.

    The model runs on its device, in evaluation or training mode and without gradients. Modes, buffers and the CPU's
    random state come back.
    """
    device = next(chain(model.parameters(), model.buffers())).device
    mode = training_mode(model) if training else evaluation_mode(model)
    with mode, _looking(model, layers, look), torch.random.fork_rng(devices=[]):  # DataLoaders draw seeds
        _run(model, data, device)


@interruptible
def _run(model: nn.Module, data: Examples, device: torch.device) -> None:
    for raw in batches_of(data):
        batch = Batch.of(raw).to(device)
        model(*batch.inputs, **batch.keywords)


@uninterrupted
def _looking(model: nn.Module, layers: Mapping[str, nn.Module], look: Callable[[str, Tensor], None]) -> Iterator[None]:
    def before(name: str, _: nn.Module, args: tuple[Tensor, ...], keywords: dict[str, Tensor]) -> None:
        look(name, _layer_input(args, keywords))

    with unpacked(model, layers) as live, ExitStack() as stack:
        for name, layer in live.items():
            stack.enter_context(layer.register_forward_pre_hook(partial(before, name), with_kwargs=True))
        yield


def _layer_input(args: tuple[Tensor, ...], keywords: Mapping[str, Tensor]) -> Tensor:
    """The input of a layer with one input, however it was called."""
    return args[0] if args else next(iter(keywords.values()))


def input_alone(what: str, args: tuple[Tensor, ...], keywords: Mapping[str, Tensor]) -> Tensor:
    """The input of a layer that must be given nothing else.

    Raises:
        RuntimeError: If it is given more.
    """
    if len(args) + len(keywords) != 1:
        raise RuntimeError(
            f"{what} must be called with its input alone. Set the size of its output by `output_padding` when it is "
            "made."
        )
    return _layer_input(args, keywords)


def require_reached(layers: Iterable[str], reached: Container[str]) -> None:
    """Refuse data that did not run every layer.

    Raises:
        ValueError: If they left one out.
    """
    missed = [name for name in layers if name not in reached]
    if missed:
        raise ValueError(f"`batches` must run every layer on the chip, but `{missed[0] or 'model'}` had no input.")


def require_numbers(name: str, inputs: Tensor) -> None:
    """Refuse what a layer sees of a batch if it is not finite, which one number is enough for."""
    if not inputs.isfinite().all():
        raise ValueError(
            f"`batches` must give every layer finite numbers, but `{name or 'model'}` had NaN or infinity. Clean the "
            "data, or look where the model makes them."
        )
