"""Broken parts of an array: devices stuck at their lowest or highest conductance, dead rows and columns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from samson._checks import require, require_positive
from samson.noise._base import FixedNoise, State
from samson.noise._conductance import ONE_PAIR, Mapping
from samson.noise._device import DeviceNoise
from samson.noise._random import uniform
from samson.noise._types import require_types
from samson.noise._units import spread_tiles, tile_count, where_ge


def check_rates(**rates: float) -> None:
    """Require fractions from 0 to 1, by the names of the arguments."""
    for name, rate in rates.items():
        require(rate >= 0, name, "be ≥ 0", rate)
        require(rate <= 1, name, "be ≤ 1", rate)


@dataclass(frozen=True)
class StuckDevices(FixedNoise):
    """Devices stuck at g_min (`low`) or at g_max (`high`), each independently, for the chip's life.

    Weights lie on devices as `mapping` says. A weight without a stuck device is left exactly as it is; in one with a
    stuck device, the others are at the nearest of the mapping's levels. Stuck devices at smaller rates are a subset of
    those at larger rates. In `Compose` they are devices of the last `DeviceNoise` before them, and its reading is what
    is mapped: g_max is the largest weight that is read, so that stuck devices drift as the others do. Only where a
    `Periphery` has ADCs for each slice or device do they stay where they are.

    Args:
        low: Share of devices stuck at g_min, from 0 to 1.
        high: Share stuck at g_max; at most 1 with `low`.
        mapping: How weights are laid out on devices; None is as those of the `DeviceNoise` before, or else in pairs.
        g_max_us: Largest programmed conductance, in µS, > 0; None is that of the `DeviceNoise` before, or else 25. It
            matters only beside a `g_min_us`.

    Raises:
        ValueError: If an argument is out of range; in `Compose`, if one is not that of the `DeviceNoise` before.

    Example:
        >>> StuckDevices(high=1.0)(torch.ones(1, 3), torch.Generator().manual_seed(0))
        tensor([[0., 0., 0.]])

    Reference: the names say what they do, as conventions for "SA0" differ. An early resistive chip had around 10 %
    faulty devices, SA0 1.75 % and SA1 9.04 % [MEM].
    """

    low: float = 0.0
    high: float = 0.0
    mapping: Mapping | None = None
    g_max_us: float | None = None

    def __post_init__(self) -> None:
        require_types(self)
        check_rates(low=self.low, high=self.high)
        if self.low + self.high > 1:
            raise ValueError(f"`low` + `high` must be ≤ 1, got {self.low!r} + {self.high!r}.")
        if self.g_max_us is not None:
            require_positive(g_max_us=self.g_max_us)
            (self.mapping or ONE_PAIR).smallest_us(self.g_max_us)

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """Move the stuck devices, and read the weights that lie on them."""
        mapping, g_max = self.mapping or ONE_PAIR, self.g_max_us or 25.0
        held = mapping.conductances(weight, g_max)
        devices = held["conductance_us"]
        stuck = self.stick(devices, mapping.smallest_us(g_max), g_max, generator)
        moved = (stuck != devices).flatten(0, 1).any(dim=0)
        return mapping.weights(stuck, held, g_max).where(moved, weight)

    def stick(self, devices: Tensor, lowest: float, highest: float, generator: Generator) -> Tensor:
        """Draw which devices are stuck, and give those stuck low and high these values."""
        drawn = uniform(devices.shape, generator, devices.device).to(devices.dtype)
        low, high = (devices.new_full((), value) for value in (lowest, highest))
        return where_ge(drawn, 1 - self.high, high, where_ge(drawn, self.low, devices, low))


@dataclass(frozen=True)
class FaultyDevices(DeviceNoise):
    """Devices of a model of which some are stuck: `Compose` of both where arrays have ADCs of their own.

    A stuck device stays at its conductance, which no drift changes.

    Args:
        devices: The model.
        stuck: Which are stuck; the last of several counts.
    """

    devices: DeviceNoise = field(kw_only=True)
    stuck: tuple[StuckDevices, ...] = field(kw_only=True)

    @property
    def largest_us(self) -> float:
        """That of the devices."""
        return self.devices.largest_us

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Program the devices, and draw which are stuck: at 0 for g_min, at 1 for g_max, ½ for none."""
        state = self.devices.program_devices(target_us, generator)
        at = torch.full_like(target_us, 0.5)
        for faults in self.stuck:
            at = faults.stick(at, 0.0, 1.0, generator)
        return {**state, "stuck_at": at}

    def _check_time(self, time_s: float) -> None:
        self.devices._check_time(time_s)

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Read the devices, and the stuck ones as they are."""
        return self._conductances(state, time_s, generator)[0]

    def _conductances(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        conductances, factor = self.devices._conductances(state, time_s, generator)
        at, lowest = state["stuck_at"], self.mapping.smallest_us(self.largest_us)
        return conductances.where(at == 0.5, lowest + at * (self.largest_us - lowest)), factor


@dataclass(frozen=True)
class DeadLines(FixedNoise):
    """Dead rows (an input that reaches no output) and dead columns (an output that reads 0), for the chip's life.

    Rows are the inputs along all axes of a weight but the first, columns the output channels. With `tile_inputs` a
    column of each tile fails on its own. Dead lines at smaller rates are a subset of those at larger rates. Rows and
    tiles are counted along the weight's own axes: the groups of a grouped convolution count as sharing their rows.

    Args:
        rows: Share of dead rows, from 0 to 1.
        columns: Share of dead columns, from 0 to 1.
        tile_inputs: Inputs of a tile, ≥ 1; None is one tile of any size.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> DeadLines(columns=1.0)(torch.ones(1, 3), torch.Generator().manual_seed(0))
        tensor([[0., 0., 0.]])

    No published constants.
    """

    rows: float = 0.0
    columns: float = 0.0
    tile_inputs: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        check_rates(rows=self.rows, columns=self.columns)
        sized = self.tile_inputs is None or self.tile_inputs >= 1
        require(sized, "tile_inputs", "be a whole number ≥ 1, or None", self.tile_inputs)

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """Set dead lines to 0."""
        shape = weight.shape if weight.ndim else torch.Size((1,))
        inputs = self.tile_inputs or max(1, shape[1:].numel())
        row = uniform((1, *shape[1:]), generator, weight.device) < self.rows
        drawn = uniform((shape[0], tile_count(shape, inputs)), generator, weight.device)
        column = spread_tiles(drawn < self.columns, shape, inputs)
        return weight.masked_fill((row | column).view(weight.shape), 0.0)
