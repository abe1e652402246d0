"""Resistive memory of Wan et al. 2022: the spread of conductances at three times after programming."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from torch import Generator, Tensor

from samson.noise.base import State
from samson.noise.curves import polynomial
from samson.noise.device import DeviceNoise
from samson.noise.random import standard_normal

FITTED_G_MAX_US = 40.0
DEVIATIONS_US = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    86_400.0: (0.701, 22.086, -50.773, 47.095, -16.458),
    172_800.0: (0.782, 20.274, -43.507, 37.062, -11.934),
}
"""σ in µS by seconds since programming: powers r^0 to r^4 at g_max 40 µS. Wan et al. 2022, by aihwkit's fit."""


@dataclass(frozen=True)
class ReRAM(DeviceNoise):
    """Resistive memory: g = max(0, g_target + σ_t(r)·ξ), r = g_target/g_max, with one ξ ~ N(0, 1) a device for life.

    The spread is known at 1 second, 1 day and 2 days after programming, and scales with g_max/40 µS (aihwkit's default
    leaves the scaling out: 1.6 times too much at 25 µS). It is not monotone in time, so it can't be a sum of
    increments: each device keeps its ξ, and there is no read noise of its own.

    Args:
        time_s: Time of a reading that names none, in seconds since programming.
        mapping: How weights are laid out on devices.
        g_max_us: Largest programmed conductance, in µS.
        interpolate: Whether times between the three are allowed; σ is then linear in the logarithm of time, which no
            measurement supports.

    Raises:
        ValueError: If an argument is out of range, or at a reading whose time has no model.

    Example:
        >>> import torch
        >>> noisy = ReRAM(time_s=86_400)(torch.ones(2, 3), torch.Generator().manual_seed(0))
        >>> noisy.shape
        torch.Size([2, 3])

    Reference: Wan et al. 2022, Nature 608, 504 [MEM]; aihwkit `inference/noise/reram.py`. Constants: `DEVIATIONS_US`.
    """

    time_s: float | None = 1.0
    g_max_us: float = FITTED_G_MAX_US
    interpolate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_s is None:
            raise ValueError("`time_s` must be a time, got None: there is no model of the programmed state. Use 1.0.")

    @property
    def largest_us(self) -> float:
        """`g_max_us`."""
        return self.g_max_us

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Keep the targets and one error a device."""
        return {"conductance_us": target_us, "error": standard_normal(target_us, generator)}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Add the errors in the size that they have at that time."""
        assert time_s is not None
        target = state["conductance_us"]
        deviation = polynomial(self._coefficients(time_s), target / self.g_max_us).clamp_(min=0)
        return deviation.mul_(self.g_max_us / FITTED_G_MAX_US).mul_(state["error"]).add_(target).clamp_(min=0)

    def _check_time(self, time_s: float) -> None:
        times = tuple(DEVIATIONS_US)
        if time_s not in DEVIATIONS_US and not (self.interpolate and times[0] < time_s < times[-1]):
            raise ValueError(
                f"`time_s` must be 1, 86400 or 172800 (1 s, 1 day, 2 days), got {time_s!r}: nothing else was measured. "
                "`interpolate=True` allows times between them."
            )

    def _coefficients(self, time_s: float) -> tuple[float, ...]:
        if time_s in DEVIATIONS_US:
            return DEVIATIONS_US[time_s]
        times = tuple(DEVIATIONS_US)
        after = times[bisect.bisect(times, time_s)]
        before = times[bisect.bisect(times, time_s) - 1]
        share = math.log(time_s / before) / math.log(after / before)
        pairs = zip(DEVIATIONS_US[before], DEVIATIONS_US[after], strict=True)
        return tuple((1 - share) * a + share * b for a, b in pairs)
