"""Scale that moves between consecutive layers, so that the inputs of layers on a chip fit their converters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from samson._batches import Batch, Examples, batches_of
from samson._checks import require
from samson._interrupts import uninterrupted
from samson._layers import INPUT_RANGE
from samson._modes import evaluation_mode
from samson._select import Select
from samson.noise._chip import require_free
from samson.noise._following import Following, Scaled, tensors_in
from samson.noise._operations import Operation
from samson.noise._random import exactly
from samson.noise._selection import on_chip
from samson.noise._types import require_type

_DEAD = 1e-5
"""Share of the layer's largest inputs or weights below which a channel counts as dead."""


@torch.no_grad()
def rescale(model: nn.Module, batches: Examples, select: Select = None, *, strength: float = 0.5) -> dict[str, float]:
    """Even out the inputs of layers on a chip, channel by channel; the model computes the same up to rounding.

    A converter with one range for a layer wastes its steps where few channels are far larger than the others. So the
    output of an owner is divided by a factor s_j for each channel, and the weights of the layers that read it are
    multiplied by it:

        s_j = max|x_j|^strength / max|w_:,j|^(1 - strength), over its geometric mean

    x_j are the readers' inputs in the data, w their weights as they were. An owner is a norm layer (its weight and
    bias), a linear or convolution layer (its output channels and bias), or a weight of one axis by which the model
    multiplies activations along the last axis, as the RMS norms of Transformers do. Its output must reach linear and
    convolution layers on the chip and nothing else, through no more than rectifiers (also leaky ones), dropout, pooling
    and changes of shape that leave channels whole. What is added to a shortcut, returned, read by torch's attention,
    shared, parametrised, pruned or hooked stays as it is. What the data do not reach is not looked at.

    That brings much where channels are outliers, as in large language models, and nothing where inputs are even already
    (`benchmarks/records/rescaling.json`).

    Rescale after training and calibrate afterwards: ranges from before do not fit, nor do states of optimizers.

    Args:
        model: The model, whose weights change in place. It runs in evaluation mode, twice.
        batches: Training or validation data, in any form that an evaluation takes; targets are left out. A few batches
            do; they and their outputs are kept in memory.
        select: As for `deploy`: the layers that may read.
        strength: How far inputs are evened out, at the cost of weights, in [0, 1]: 1 makes all inputs of a layer
            equally large, 0 all its weights.

    Returns:
        The largest factor over the smallest, by the name of the owner's weight. Channels whose inputs or weights are
        below 1e-5 of the layer's largest are dead: their factor is 1.

    Raises:
        ValueError: If `strength` is out of range, there are no outputs to compare, inputs are not finite, or there is
            no owner.
        RuntimeError: If the model lies on a chip or is trained through one, or an output changes by more than √ε of its
            largest: 3e-4 in float32, 0.03 where a GPU may compute in TF32. After an error, and Ctrl-C before it is
            done, the weights are as they were, bit for bit.

    Example:
        >>> model = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([16.0, 1.0])), model[1].weight.data.fill_(0.5)
        >>> rescale(model, [torch.tensor([[-1.0, 1.0], [2.0, 0.0]])])
        {'0.weight': 4.0}
        >>> model[0].weight.tolist(), model[1].weight.tolist()
        ([8.0, 2.0], [[1.0, 0.25]])

    Reference: Xiao et al. 2023, SmoothQuant, arXiv 2211.10438, equation 4, and NORA (DATE 2025) for analog chips. There
    the owners are norm layers of transformers and named by hand; ours are found, and outputs are compared.
    """
    require_type("strength", strength, float)
    require(0 <= strength <= 1, "strength", "be in [0, 1]", strength)
    tensors = on_chip(model, select)
    require_free(tensors)
    taken = next((path for path, module in model.named_modules() if INPUT_RANGE in module._parameters), None)
    if taken is not None:
        raise RuntimeError(
            f"`{taken}` is trained through a chip, whose input ranges would not fit. `remove()` it first."
        )
    following = Following(model, {module for t in tensors for module in t.place.modules})
    with evaluation_mode(model):  # reading data may draw numbers
        data = list(batches_of(batches, name="batches"))
    before = _outputs(model, data, following)
    readers = following.readers
    if not readers:
        raise ValueError(
            f"`model` must have a layer whose output only layers on the chip read, but this {type(model).__name__} has "
            "none: nothing would be rescaled."
        )
    factors = {owner: _factors(following.largest[owner], layers, strength) for owner, layers in readers.items()}
    with _kept(chain(factors, *readers.values())):
        for owner, factor in factors.items():
            _scale(owner, outputs=1 / factor)
            for reader in readers[owner]:
                _scale(reader, inputs=factor)
        _require_same(before, _outputs(model, data), list(factors))
    return {owner.name: float(factor.max() / factor.min()) for owner, factor in factors.items()}


def _factors(inputs: Tensor, readers: Iterable[Scaled], strength: float) -> Tensor:
    """The factor of each channel from its largest |x| and the weights of the layers that read it."""
    columns = [_split(one.weight, one.operation).abs().amax(dim=(1, 3)).flatten() for one in readers if one.operation]
    weights = torch.stack([each.to(inputs) for each in columns]).amax(dim=0)
    live = (inputs > _DEAD * inputs.max()) & (weights > _DEAD * weights.max())
    logarithms = strength * inputs.log() - (1 - strength) * weights.log()
    return torch.where(live, (logarithms - logarithms[live].mean()).exp(), 1.0)


def _split(weight: Tensor, operation: Operation) -> Tensor:
    """A layer's weight as (groups, outputs, inputs, kernel)."""
    matrices = operation.matrices(weight)
    return matrices.reshape(*matrices.shape[:2], -1, math.prod(operation.kernel))


def _scale(layer: Scaled, *, inputs: Tensor | None = None, outputs: Tensor | None = None) -> None:
    """Multiply the weights of each input channel, or those of each output channel and its bias."""
    weight, bias, operation = layer.weight, layer.bias, layer.operation
    factor, shape = (outputs, (-1, 1, 1)) if inputs is None else (inputs, (1, -1, 1))
    assert factor is not None
    factor = factor.to(weight.device)
    if operation is None:
        weight.copy_(weight * factor)
    else:
        scaled = _split(weight, operation) * factor.view(operation.groups, *shape)
        weight.copy_(operation.stored(scaled.flatten(2), weight))
    if bias is not None and inputs is None:
        bias.copy_(bias * factor)


def _outputs(model: nn.Module, data: Iterable[Any], following: Following | None = None) -> list[Tensor]:
    """All numbers that a model gives for data, batch after batch."""
    device = next(chain(model.parameters(), model.buffers())).device
    found = []
    hooked = following.hooked() if following else nullcontext()
    # Within what is compiled no function would be seen.
    with evaluation_mode(model), exactly(device), hooked, torch.compiler.set_stance("force_eager"):
        for raw in data:
            batch = Batch.of(raw).to(device)
            with _followed(model, batch, following) as outputs:
                found += [one.clone() for one in outputs if one.is_floating_point()]
    if not found:
        raise ValueError(
            "`batches` and `model` must give outputs to compare, tensors of floating-point numbers in tuples, lists or "
            "dicts, but there were none."
        )
    return found


@uninterrupted
def _followed(model: nn.Module, batch: Batch, following: Following | None) -> Iterator[list[Tensor]]:
    """What a model gives for a batch. Ctrl-C waits for it: within a function of torch it would leave a mode behind."""
    with following or nullcontext():
        outputs = tensors_in(model(*batch.inputs, **batch.keywords))
    if following:
        following.returned(outputs)
    yield outputs


@uninterrupted
def _kept(layers: Iterable[Scaled]) -> Iterator[None]:
    """Weights and biases that come back if the block ends in an error; at its end autocast keeps no casts of them."""
    tensors = {tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None}
    kept = [(tensor, tensor.clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        for tensor, value in kept:
            tensor.copy_(value)
        raise
    finally:
        torch.clear_autocast_cache()


def _require_same(before: Sequence[Tensor], after: Sequence[Tensor], owners: Sequence[Scaled]) -> None:
    """Refuse outputs that differ by more than rounding."""
    for old, new in zip(before, after, strict=True):
        kinds = {old.dtype, *(owner.weight.dtype for owner in owners)}
        rounding = max(torch.finfo(kind).eps for kind in kinds)
        if old.device.type == "cuda":
            rounding = max(rounding, 2**-10)  # convolutions and products in TF32
        largest = float(old[old.isfinite()].abs().max()) if old.isfinite().any() else 0.0
        if not old.isclose(new, rtol=0.0, atol=rounding**0.5 * largest, equal_nan=True).all():
            worst = float((new - old).abs().max()) / (largest or 1.0)
            names = ", ".join(f"`{owner.name}`" for owner in owners[:3]) + ", …" * (len(owners) > 3)
            raise RuntimeError(
                f"`model` must compute the same after it is rescaled, but an output changes by {worst:.1e} of the "
                f"largest, more than {rounding**0.5:.0e}: it uses an output of {names} where torch does not show it, "
                "or computes something else each time. All weights are as they were. Leave the layers that read that "
                "output out with `select`."
            )
