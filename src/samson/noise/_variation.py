"""What a chip, a tile or a column has in common: gain, offset and the mean drift exponent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samson._checks import require_non_negative, require_positive
from samson.noise._base import State, WeightNoise
from samson.noise._random import normals
from samson.noise._types import require_types
from samson.noise._units import reduce_by, require_granularity, spread_tiles, tile_count


@dataclass(frozen=True)
class Variation(WeightNoise):
    """Errors that many weights share, drawn once a chip; all off by default.

    w·(1 + gain·ξ₁)·(T/t0)^(−drift_exponent·ξ₃) + offset·max|w_l|·ξ₂, with T = time_s + t0 and ξ ~ N(0, 1), three for
    each part: the whole chip, a layer (weight tensor), a tile or an output channel (a column). Independent errors of
    devices average out as networks grow; these do not. Put it after a device model in `Compose`; what it adds to the
    drift is then not seen by the device model's own compensation. A tile is counted along the weight's own axes: the
    groups of a grouped convolution count as sharing their rows.

    Called on one tensor alone, a chip-wide draw is that tensor's own; a chip shares it among its tensors
    (`program_chip`).

    Args:
        gain: Standard deviation of the relative gain, ≥ 0.
        offset: Standard deviation of the offset, ≥ 0, relative to the largest |w| of the layer.
        drift_exponent: Standard deviation of the mean drift exponent, ≥ 0.
        per: What shares a draw: "chip", "layer", "tile" or "channel".
        tile_inputs: Inputs of a tile.
        reference_s: t0, in seconds, > 0; None is that of the phase-change device before, in `Compose`, or else 20.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> noisy = Variation(gain=0.1)(torch.ones(1, 3), torch.Generator().manual_seed(0))
        >>> bool((noisy == noisy[0, 0]).all())
        True

    Reference: real chips vary as a whole too, which independent errors of devices leave out; no published constants.
    """

    gain: float = 0.0
    offset: float = 0.0
    drift_exponent: float = 0.0
    per: str = "chip"
    tile_inputs: int | None = None
    reference_s: float | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_non_negative(gain=self.gain, offset=self.offset, drift_exponent=self.drift_exponent)
        if self.reference_s is not None:
            require_positive(reference_s=self.reference_s)
        require_granularity(self.per, self.tile_inputs, ("chip", "layer", "tile", "channel"))

    def program_chip(self, generator: Generator) -> State:
        """The three numbers of the whole chip, if it shares a draw."""
        if self.per != "chip":
            return {}
        return {"shared": normals((3,), generator, generator.device)}

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Draw three numbers for each part."""
        tiles = tile_count(weight.shape, self.tile_inputs) if self.tile_inputs and weight.ndim > 1 else 1
        channels = weight.shape[0] if self.per == "channel" and weight.ndim > 1 else 1
        drawn = normals((3, channels * tiles), generator, weight.device)
        return {"weight": weight, "shared": drawn.squeeze(1) if self.per == "chip" else drawn}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Apply them; there is no drift without a time."""
        if time_s is not None:
            require_non_negative(time_s=time_s)
        weight = state["weight"]
        gain, offset, exponent = (self._spread(numbers, weight) for numbers in state["shared"].to(weight))
        factor = 1 + self.gain * gain
        if time_s:
            reference_s = self.reference_s or 20.0
            log_time = math.log((time_s + reference_s) / reference_s)
            factor = factor * torch.exp(-self.drift_exponent * log_time * exponent)
        largest = reduce_by(weight.abs(), "layer", "amax")
        return weight * factor + self.offset * largest * offset

    def _spread(self, numbers: Tensor, weight: Tensor) -> Tensor:
        if self.tile_inputs and weight.ndim > 1:
            return spread_tiles(numbers, weight.shape, self.tile_inputs)
        if self.per == "channel" and weight.ndim > 1:
            return numbers.view(-1, *(1,) * (weight.ndim - 1))
        return numbers.reshape(())
