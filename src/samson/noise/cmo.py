"""CMO/HfOx resistive memory: one device to a weight, with programming tolerance, relaxation and read noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from samson.noise.base import State
from samson.noise.conductance import Mapping
from samson.noise.device import DeviceNoise
from samson.noise.random import normal, standard_normal

G_MIN_US, G_MAX_US = 9.0, 88.2
PROGRAMMING = {0.002: (0.00081107, 0.00106879), 0.02: (0.0112185391, 0.01129027418)}
"""σ in µS as intercept and slope over g in µS, by the tolerance at which programming stops."""
RELAXATION_MEAN = -0.08900206
"""µS for each unit of ln t."""
RELAXATION_DEVIATION = (0.41183342, 0.04201137)
"""σ in µS as intercept and slope over ln t."""
READ = 0.0277316483
READ_S = 1e-6

ONE_DEVICE = Mapping(g_min_us=G_MIN_US, pair=False)
"""A device to a weight, with one scale for the whole tensor."""


@dataclass(frozen=True)
class CMO(DeviceNoise):
    """CMO/HfOx devices between 9.0 and 88.2 µS, one to a weight: [min w, max w] of a unit lies on that range.

    With t seconds since programming and independent ξ ~ N(0, 1):

        programming   g + σ(g)·ξ, σ linear in the target g, by the acceptance tolerance
        relaxation    from t = 1 s on: − .089 ln t + (.412 + .042 ln t)·ξ µS, one ξ a device for life
        read          + .0277·log10(g)·sqrt(ln((t + 1e-6)/2e-6))·ξ µS, ξ drawn for each reading, g the relaxed
                      conductance, and never less than no noise

    The result is clamped to [9.0, 88.2] µS, last. Without a time the programmed state is read, without read noise.
    Before 1 s there is read noise alone: the fit starts there. aihwkit's default acceptance of 2e-2 matches no key of
    its table and silently means .2 %; here 0.02 means 2 %. At t = 0 aihwkit does not clamp, and it
    draws relaxation anew for each time; here a chip keeps it.

    Args:
        time_s: Time of a reading that names none, in seconds since programming, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices; its g_min must be at least 9 µS.
        acceptance: Tolerance of programming, a fraction: 0.002 or 0.02.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> noisy = CMO(time_s=3600.0)(torch.eye(3), torch.Generator().manual_seed(0))
        >>> noisy.shape
        torch.Size([3, 3])

    Reference: Falcone et al. [MEM]; aihwkit `inference/noise/reram.py`. Constants: of this
    module.
    """

    mapping: Mapping = ONE_DEVICE
    acceptance: float = 0.002

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.acceptance not in PROGRAMMING:
            raise ValueError(f"`acceptance` must be 0.002 or 0.02, got {self.acceptance!r}.")
        if self.mapping.smallest_us(G_MAX_US) < G_MIN_US:
            raise ValueError(
                f"`g_min_us` of the mapping must be ≥ {G_MIN_US} µS for these devices, got "
                f"{self.mapping.smallest_us(G_MAX_US)!r}."
            )

    @property
    def largest_us(self) -> float:
        """88.2 µS."""
        return G_MAX_US

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Draw programming errors, and one deviation of relaxation a device."""
        intercept, slope = PROGRAMMING[self.acceptance]
        deviation = (target_us * slope).add_(intercept)
        programmed = normal(target_us, deviation, generator)
        return {"conductance_us": programmed, "relaxation": standard_normal(target_us, generator)}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Let the devices relax, and read them."""
        g = state["conductance_us"]
        if time_s is None:
            return g.clamp(G_MIN_US, G_MAX_US)
        if time_s >= 1:
            log_time, (intercept, slope) = math.log(time_s), RELAXATION_DEVIATION
            g = (state["relaxation"] * (intercept + slope * log_time)).add_(g).add_(RELAXATION_MEAN * log_time)
        spread = math.sqrt(max(math.log((time_s + READ_S) / (2 * READ_S)), 0.0))
        deviation = g.clamp(min=1).log10_().mul_(READ * spread)
        return normal(g, deviation, generator).clamp_(G_MIN_US, G_MAX_US)
