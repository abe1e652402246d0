"""What phase-change devices have in common: programming errors, drift, 1/f read noise, drift compensation."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samson._checks import require, require_positive
from samson.noise._base import State
from samson.noise._curves import InversePower, Logarithmic, check_coefficients, logarithm, polynomial
from samson.noise._device import DeviceNoise
from samson.noise._random import generator_for, normal
from samson.noise._types import require_types
from samson.noise._units import reduce_by


@dataclass(frozen=True)
class PhaseChangeConstants:
    """Constants of one phase-change device; every curve is over r = g/g_max.

    Args:
        g_max_us: The conductance at which `programming` was fitted, in µS, > 0.
        reference_s: t0, from programming to the reference read, from which `time_s` counts, in seconds, ≥ `read_s`.
        read_s: t_r, the length of one reading, in seconds, > 0.
        programming: Coefficients of σ of programming, in µS at the fitted g_max, the constant first.
        drift_mean: μ of the drift exponent.
        drift_deviation: σ of the drift exponent.
        read: Q, the size of the read noise.

    Raises:
        ValueError: If an argument is out of range.
    """

    g_max_us: float
    reference_s: float
    read_s: float
    programming: tuple[float, ...]
    drift_mean: Logarithmic
    drift_deviation: Logarithmic
    read: Logarithmic | InversePower

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(g_max_us=self.g_max_us, read_s=self.read_s)
        if not self.read_s <= self.reference_s < math.inf:
            raise ValueError(
                f"`reference_s` must be ≥ `read_s` and finite, got {self.reference_s!r} with read_s={self.read_s!r}."
            )
        check_coefficients("programming", self.programming, at_least=1)


@dataclass(frozen=True)
class PhaseChange(DeviceNoise):
    """What phase-change devices have in common; `PCM` and `PCMHermes` bring the constants.

    With r = g/g_max of the target, T = time_s + t0 and independent ξ ~ N(0, 1):

        programming   g_prog = max(0, g_target + σ_p(r)·ξ),  σ_p ≥ 0 scaled by g_max over the fitted g_max
        drift         g_drift = g_prog·(T/t0)^−ν,  ν = |μ(r) + σ(r)·ξ| drawn once a device, when it is programmed
        read          g = max(0, g_drift·(1 + Q(g_prog/g_max)·sqrt(ln((T + t_r)/(2 t_r)))·ξ)), ξ drawn for each reading

    A chip holds conductance and drift exponent of every device, in at least float32: four numbers a weight for a pair,
    16 bytes, so four times the memory of a float32 model beside it.

    Without a time the programmed state is read: no drift, no read noise. `time_s=0` is read noise without drift. Both
    devices of a pair are always drawn, also the one whose target is g_min.

    Compensation multiplies each part of the mapping ("global") or each output channel ("column") by
    α = mean|w_prog| / mean|w(t)|, 0/0 = 1. It is measured once per time, by a reading with its own read noise, and is
    the same for all readings of a chip at that time; readings themselves draw as they would without it. The chip
    multiplies its outputs by α digitally, so a `Periphery` computes with w(t), and its noise grows with α.
    """

    compensation: str | None = "global"

    @property
    @abstractmethod
    def constants(self) -> PhaseChangeConstants:
        """Of the device."""

    @property
    def largest_us(self) -> float:
        """`g_max_us` of the constants."""
        return self.constants.g_max_us

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.compensation in (None, "global", "column")
        require(known, "compensation", "be None, 'global' or 'column'", self.compensation)

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Draw programming errors, drift exponents and the seed of the compensation's own read noise."""
        c, r = self.constants, target_us / self.largest_us
        log_r = logarithm(r)
        coefficients = [coefficient * self.largest_us / c.g_max_us for coefficient in c.programming]
        programmed = normal(target_us, polynomial(coefficients, r).clamp_(min=0), generator).clamp_(min=0)
        exponent = normal(c.drift_mean(r, log_r), c.drift_deviation(r, log_r), generator).abs_()
        seed = torch.randint(2**62, (), generator=generator, device=target_us.device)
        return {"conductance_us": programmed, "drift_exponent": exponent, "compensation_seed": seed}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Let the devices drift, and read them."""
        if time_s is None:
            return state["conductance_us"]
        return normal(*self._drift(state, time_s), generator).clamp_(min=0)

    def _drift(self, state: State, time_s: float) -> tuple[Tensor, Tensor]:
        """The conductances at a time and the standard deviation of a reading of each, in µS."""
        programmed, c = state["conductance_us"], self.constants
        elapsed = time_s + c.reference_s
        spread = math.sqrt(math.log((elapsed + c.read_s) / (2 * c.read_s)))
        drifted = programmed
        if time_s:
            decay = state["drift_exponent"] * -math.log(elapsed / c.reference_s)
            drifted = decay.exp_().mul_(programmed)
        r = programmed / self.largest_us
        return drifted, c.read(r, logarithm(r)).mul_(spread).mul_(drifted)

    def _conductances(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        if time_s is None or self.compensation is None:
            return super()._conductances(state, time_s, generator)
        drift = self._drift(state, time_s)
        conductances = normal(*drift, generator).clamp_(min=0)
        own = generator_for(int(state["compensation_seed"]), repr(float(time_s)), device=conductances.device)
        measured = self._magnitude(normal(*drift, own).clamp_(min=0), state)
        programmed = self._magnitude(state["conductance_us"], state)
        return conductances, (programmed / measured).where(measured > 0, 1.0)

    def _magnitude(self, conductance_us: Tensor, state: State) -> Tensor:
        """The mean |w| of each part, up to the number of weights, which cancels."""
        magnitudes = self.mapping.weights(conductance_us, state, self.largest_us).abs_()
        per = "channel" if self.compensation == "column" else self.mapping.per
        return reduce_by(magnitudes, per, "sum", self.mapping.tile_inputs)
