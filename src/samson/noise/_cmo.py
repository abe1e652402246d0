"""CMO/HfOx resistive memory: one device to a weight, with programming tolerance, relaxation and read noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from samson._checks import require, require_finite, require_non_negative, require_positive
from samson.noise._base import State
from samson.noise._conductance import Mapping
from samson.noise._device import DeviceNoise
from samson.noise._random import normal, standard_normal
from samson.noise._types import require_types


@dataclass(frozen=True)
class CMOConstants:
    """Constants of one CMO/HfOx device.

    Args:
        g_min_us: Smallest conductance, in µS, > 0.
        g_max_us: Largest conductance, in µS, > `g_min_us`.
        acceptances: Tolerances at which programming may stop, fractions.
        programming_us: For each of these, σ of programming in µS: intercept and slope over g in µS.
        relaxation_us: Mean of the relaxation, in µS for each unit of ln t.
        relaxation_deviation_us: Its σ in µS: intercept and slope over ln t.
        read_us: Size of the read noise, in µS, ≥ 0.
        read_s: t_r, the length of one reading, in seconds, > 0.

    Raises:
        ValueError: If an argument is out of range.
    """

    g_min_us: float
    g_max_us: float
    acceptances: tuple[float, ...]
    programming_us: tuple[tuple[float, ...], ...]
    relaxation_us: float
    relaxation_deviation_us: tuple[float, ...]
    read_us: float
    read_s: float

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 < self.g_min_us < self.g_max_us < math.inf:
            raise ValueError(
                f"`g_min_us` must be > 0 and below `g_max_us`, got {self.g_min_us!r} and {self.g_max_us!r}."
            )
        if not self.acceptances or len(self.programming_us) != len(self.acceptances):
            raise ValueError(
                f"`programming_us` must hold a line for each of `acceptances`, got {self.programming_us!r} for "
                f"{self.acceptances!r}."
            )
        for name, line in (
            *(("programming_us", line) for line in self.programming_us),
            ("relaxation_deviation_us", self.relaxation_deviation_us),
        ):
            straight = len(line) == 2 and all(map(math.isfinite, line))
            require(straight, name, "hold an intercept and a slope, both finite", line)
        require_finite(relaxation_us=self.relaxation_us)
        require_non_negative(read_us=self.read_us)
        require_positive(read_s=self.read_s)


FALCONE = CMOConstants(
    g_min_us=9.0,
    g_max_us=88.2,
    acceptances=(0.002, 0.02),
    programming_us=((0.00081107, 0.00106879), (0.0112185391, 0.01129027418)),
    relaxation_us=-0.08900206,
    relaxation_deviation_us=(0.41183342, 0.04201137),
    read_us=0.0277316483,
    read_s=1e-6,
)
"""aihwkit `inference/noise/reram.py`, after Falcone et al. (in review), as named there."""

ONE_DEVICE = Mapping(g_min_us=FALCONE.g_min_us, pair=False)
"""A device to a weight, with one scale for the whole tensor; g_min is that of the constants, if it is not given."""


@dataclass(frozen=True)
class CMO(DeviceNoise):
    """CMO/HfOx devices between 9.0 and 88.2 µS, one to a weight: [min w, max w] of a part lies on that range.

    With t seconds since programming, independent ξ ~ N(0, 1) and the numbers of the default constants:

        programming   g + σ(g)·ξ, σ linear in the target g, by the acceptance tolerance
        relaxation    from t = 1 s on: − .089 ln t + (.412 + .042 ln t)·ξ µS, one ξ a device for life
        read          + .0277·log10(g)·sqrt(ln((t + 1e-6)/2e-6))·ξ µS, ξ drawn for each reading, g the relaxed
                      conductance, and never less than no noise

    The result is clamped to [9.0, 88.2] µS, last. Without a time the programmed state is read, without read noise.
    Before 1 s there is read noise alone: the fit starts there.

    Where aihwkit differs: its default acceptance of 2e-2 matches no key of its table and silently means .2 %; here 0.02
    means 2 %. It draws relaxation anew for each time; here a chip keeps it. For 0 < t < 1 s it relaxes with ln t < 0:
    conductances rise above the programmed ones. At t = 0 it gives the programmed state, not clamped.

    Args:
        time_s: Time of a reading that names none, in seconds since programming, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices; by default one to a weight, from g_min of the constants, 9 µS. Any
            other must have at least that g_min.
        acceptance: Tolerance of programming, a fraction, one of the constants': 0.002 or 0.02.
        constants: Of the device; by default `FALCONE`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> CMO(time_s=3600.0)(torch.eye(3), torch.Generator().manual_seed(0)).shape
        torch.Size([3, 3])

    Reference: aihwkit `inference/noise/reram.py`, after Falcone et al. (in review), as named there. Constants:
    `FALCONE`.
    """

    mapping: Mapping = ONE_DEVICE
    acceptance: float = 0.002
    constants: CMOConstants = FALCONE

    def __post_init__(self) -> None:
        require_types(self)
        c = self.constants
        if self.mapping is ONE_DEVICE and c.g_min_us != ONE_DEVICE.g_min_us:  # an equal one that is given stays
            object.__setattr__(self, "mapping", replace(ONE_DEVICE, g_min_us=c.g_min_us))
        super().__post_init__()
        known = " or ".join(map(repr, c.acceptances))
        require(self.acceptance in c.acceptances, "acceptance", f"be {known}", self.acceptance)
        g_min = self.mapping.smallest_us(c.g_max_us)
        require(g_min >= c.g_min_us, "mapping.g_min_us", f"be ≥ {c.g_min_us} µS for these devices", g_min)

    @property
    def largest_us(self) -> float:
        """88.2 µS, or `g_max_us` of the constants."""
        return self.constants.g_max_us

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Draw programming errors, and one deviation of relaxation a device."""
        intercept, slope = self.constants.programming_us[self.constants.acceptances.index(self.acceptance)]
        deviation = (target_us * slope).add_(intercept)
        programmed = normal(target_us, deviation, generator)
        return {"conductance_us": programmed, "relaxation": standard_normal(target_us, generator)}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Let the devices relax, and read them."""
        g, c = state["conductance_us"], self.constants
        if time_s is None:
            return g.clamp(c.g_min_us, c.g_max_us)
        if time_s >= 1:
            log_time, (intercept, slope) = math.log(time_s), c.relaxation_deviation_us
            g = (state["relaxation"] * (intercept + slope * log_time)).add_(g).add_(c.relaxation_us * log_time)
        spread = math.sqrt(max(math.log((time_s + c.read_s) / (2 * c.read_s)), 0.0))
        deviation = g.clamp(min=1).log10_().mul_(c.read_us * spread)
        return normal(g, deviation, generator).clamp_(c.g_min_us, c.g_max_us)
