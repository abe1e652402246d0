"""Batch-norm statistics of a model as it lies on a chip, estimated anew from data: AdaBS and its kind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from samson._batches import Examples
from samson._interrupts import uninterrupted
from samson._select import layer_names
from samson.noise._random import working_dtype
from samson.noise._watching import require_numbers, watch


@uninterrupted
def reestimated_norms(model: nn.Module, batches: Examples) -> Iterator[float]:
    """Let batch-norm layers normalise by the statistics of the chip that the model lies on, until the block ends.

    One pass over the data, in evaluation mode and without gradients. A layer with n_b values a channel in batch b, of
    mean m_b and sum of squared deviations s_b, normalises this batch by m_b and s_b / (n_b - 1); the next layers see
    the result. After the pass, and until the block ends, it has the exact statistics of all its inputs in the pass:

        running_mean = m = Σ_b n_b·m_b / n,   n = Σ_b n_b
        running_var = Σ_b (s_b + n_b·(m_b - m)²) / (n - 1)

    That is the pooled, unbiased variance. Torch's cumulative average (`momentum=None`) averages the batches'
    variances instead and so leaves out how far their means lie apart.

    With all data in one batch the statistics are exactly those that the layers' inputs have in the block. With several
    batches they differ a little, by 1 % of the variance with batches of 256 on the digits (`docs/compensation.md`).

    Training modes, `num_batches_tracked` and global random state are left alone, so a shuffled DataLoader gives every
    chip the same batches. Compiled parts run as they were written during the pass, and are not compiled again. Instance
    norms, layers without running statistics and those that the pass does not reach stay as they are. With a periphery
    the pass draws noise of its reading. Under DistributedDataParallel each process estimates from its own batches, and
    the next forward pass takes the result of rank 0, unless the wrapper was made with `broadcast_buffers=False`.

    Args:
        model: The model, inside `chip.at()`; also wrapped or compiled.
        batches: Training or validation data, never what the model is then tested on, in any form that an evaluation
            takes; targets are left out, and a tuple of two tensors is inputs and targets. Run through once for each
            block. The larger the batches, the better.

    Yields:
        The seconds that the pass took.

    Raises:
        ValueError: If the model has no batch-norm layer with running statistics, there are no batches or they reach
            none of the layers, or a layer has fewer than 2 values a channel in a batch, or one that is not finite.

    Example:
        >>> from samson.noise import PCM, deploy
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
        >>> chip = deploy(model, PCM(), seed=7)
        >>> with chip.at(time_s=86_400), reestimated_norms(model, [torch.randn(32, 3)]):
        ...     y = model(torch.ones(1, 3))

    Reference: AdaBS, Joshi et al. 2020, Nature Communications 11, 2473, which updates a moving average over
    mini-batches [MEM]; ours pools, by the formula of Chan, Golub and LeVeque 1983, The American Statistician 37, 242.
    """
    layers = _tracking(model)
    kept = [(layer, [buffer.clone() for buffer in _statistics(layer)]) for layer in layers.values()]
    try:
        yield _reestimate(model, layers, batches)
    finally:
        for layer, before in kept:
            for buffer, value in zip(_statistics(layer), before, strict=True):  # the block may have moved the model
                buffer.copy_(value)


@dataclass(frozen=True)
class Moments:
    """Of each channel of a layer's inputs: number of values, mean, and sum of squared deviations from it."""

    count: int
    mean: Tensor
    squares: Tensor

    @property
    def variance(self) -> Tensor:
        """The unbiased variance."""
        return self.squares / (self.count - 1)

    def pooled(self, other: Moments) -> Moments:
        """The moments of both sets of values together."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + apart**2 * (self.count * other.count / count))


def moments(inputs: Tensor) -> Moments:
    """The moments of a batch of shape (batch, channels, …), in at least float32 and in any memory format."""
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    variance, mean = torch.var_mean(inputs.to(working_dtype(inputs)), axes, correction=0)
    count = inputs.numel() // inputs.shape[1]
    return Moments(count, mean, variance * count)


def _tracking(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers with running statistics, by name."""
    found = {
        name: module
        for name, module in layer_names(model).items()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not found:
        raise ValueError(
            f"`model` must have a batch-norm layer with running statistics, but this {type(model).__name__} has none. "
            "Leave the re-estimation out."
        )
    return found


def _reestimate(model: nn.Module, layers: dict[str, _BatchNorm], batches: Examples) -> float:
    """Run the pass and write the pooled statistics; the seconds that it took."""
    pooled: dict[str, Moments] = {}

    def normalise(name: str, inputs: Tensor) -> None:
        require_numbers(name, inputs)
        own = moments(inputs)
        if own.count < 2:
            raise ValueError(
                f"`batches` must give each batch-norm layer at least 2 values a channel in every batch, but `{name}` "
                f"had {own.count}. Use larger batches."
            )
        pooled[name] = pooled[name].pooled(own) if name in pooled else own
        _write(layers[name], own)

    device = _statistics(next(iter(layers.values())))[0].device
    started = _now(device)
    with torch.compiler.set_stance("force_eager"):  # what is compiled does not notice new hooks
        watch(model, layers, batches, normalise)
    if not pooled:
        raise ValueError(
            "`batches` must run the model's batch-norm layers, but none had an input. An iterator can be run through "
            "only once: give a list or a DataLoader."
        )
    for name, total in pooled.items():
        _write(layers[name], total)
    return _now(device) - started


def _write(layer: _BatchNorm, statistics: Moments) -> None:
    for buffer, value in zip(_statistics(layer), (statistics.mean, statistics.variance), strict=True):
        buffer.copy_(value)


def _statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer that has them."""
    return cast("Tensor", layer.running_mean), cast("Tensor", layer.running_var)


def _now(device: torch.device) -> float:
    """Seconds of a clock, once the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
