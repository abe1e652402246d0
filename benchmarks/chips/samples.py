"""What the pictures measure: errors of programmed and read weights, and their moments with standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samson.noise import Mapping, WeightNoise, generator_for

SINGLE = Mapping(pair=False)
"""One device a weight: weights from 0 to 1 are read as conductances from 0 to g_max, over g_max."""


def generator(*path: str | int) -> Generator:
    """A generator of its own for each draw of a picture."""
    return generator_for(2211, *path)


def layer_weights() -> Tensor:
    """Normal weights, clipped at 2.5 standard deviations, over their largest."""
    return torch.randn(64, 1024, generator=generator("weights"), dtype=torch.float64).clamp_(-2.5, 2.5) / 2.5


def reading(noise: WeightNoise, weight: Tensor, *path: str | int, time_s: float | None = None) -> Tensor:
    """Program a weight on the chip of that path and read it once."""
    return noise.read(noise.program(weight, generator("program", *path)), time_s, generator("read", *path))


def error_size(noise: WeightNoise, time_s: float | None = None) -> float:
    """Root mean square of the errors of the weights of `layer_weights`, over the largest weight."""
    weight = layer_weights()
    return float((reading(noise, weight, time_s=time_s) - weight).square().mean().sqrt())


@dataclass(frozen=True)
class Moments:
    """Over the last axis of a sample: mean and standard deviation, each with its standard error."""

    mean: Tensor
    mean_error: Tensor
    deviation: Tensor
    deviation_error: Tensor


def moments(sample: Tensor) -> Moments:
    """Measure; the standard error of the deviation comes from the fourth moment."""
    n, mean, variance = sample.shape[-1], sample.mean(-1), sample.var(-1)
    fourth = (sample - mean.unsqueeze(-1)).pow(4).mean(-1)
    of_variance = ((fourth - variance**2).clamp(min=0) / n).sqrt()
    deviation = variance.sqrt()
    return Moments(mean, deviation / math.sqrt(n), deviation, of_variance / (2 * deviation).clamp(min=1e-300))


def rectified(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of max(0, N(mean, deviation²)): the closed form beside measured points."""
    a = mean / deviation.clamp(min=1e-12)
    below, height = torch.special.ndtr(-a), (-(a**2) / 2).exp() / math.sqrt(2 * math.pi)
    one = mean * (1 - below) + deviation * height
    square = (mean**2 + deviation**2) * (1 - below) + mean * deviation * height
    return one, (square - one**2).clamp(min=0).sqrt()


def copies(values: Tensor, number: int) -> Tensor:
    """Each value many times, along a new last axis."""
    return values.unsqueeze(-1).repeat_interleave(number, -1)


def conductances(g_max_us: float, points: int = 26) -> Tensor:
    """Targets from 0 to g_max, in µS."""
    return torch.linspace(0, g_max_us, points, dtype=torch.float64)
