"""Resistive memory of Wan et al. 2022: the spread of conductances at three times after programming."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from samson._checks import require, require_positive
from samson._times import age_text
from samson.noise._base import State
from samson.noise._curves import check_coefficients, polynomial
from samson.noise._device import DeviceNoise
from samson.noise._random import standard_normal
from samson.noise._types import require_types


@dataclass(frozen=True)
class ReRAMConstants:
    """The spread of a resistive device at some times after programming.

    Args:
        g_max_us: The conductance at which the spread was fitted, in µS, > 0.
        times_s: Seconds since programming, > 0, ascending.
        deviations_us: For each of these times, coefficients of σ in µS over r = g/g_max, the constant first; equally
            many.

    Raises:
        ValueError: If an argument is out of range.
    """

    g_max_us: float
    times_s: tuple[float, ...]
    deviations_us: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(g_max_us=self.g_max_us)
        check_coefficients("times_s", self.times_s, at_least=1)
        ascending = all(a < b for a, b in pairwise((0.0, *self.times_s)))
        require(ascending, "times_s", "be > 0 and ascending", self.times_s)
        for coefficients in self.deviations_us:
            check_coefficients("deviations_us", coefficients, at_least=1)
        if len(self.deviations_us) != len(self.times_s) or len({len(c) for c in self.deviations_us}) > 1:
            raise ValueError(
                "`deviations_us` must hold equally many coefficients for each of `times_s`, got "
                f"{self.deviations_us!r} for {self.times_s!r}."
            )


WAN2022 = ReRAMConstants(
    g_max_us=40.0,
    times_s=(1.0, 86_400.0, 172_800.0),
    deviations_us=(
        (0.348, 16.030, -43.853, 45.393, -16.815),
        (0.701, 22.086, -50.773, 47.095, -16.458),
        (0.782, 20.274, -43.507, 37.062, -11.934),
    ),
)
"""After 1 second, 1 day and 2 days: Wan et al. 2022, by aihwkit's fit."""


@dataclass(frozen=True)
class ReRAM(DeviceNoise):
    """Resistive memory: g = max(0, g_target + σ_t(r)·ξ), r = g_target/g_max, with one ξ ~ N(0, 1) a device for life.

    The spread is known at 1 second, 1 day and 2 days after programming, and scales with g_max over the fitted one, 40
    µS. It is not monotone in time, so it can't be a sum of increments: each device keeps its ξ, and there is no read
    noise of its own.

    Where aihwkit differs: its default leaves the scaling out, which is 1.6 times too much at 25 µS. It draws a new ξ at
    each time, around the target, and ignores what was programmed; here a device errs the same way at all times.

    Args:
        time_s: Time of a reading that names none, in seconds since programming.
        mapping: How weights are laid out on devices.
        g_max_us: Largest programmed conductance, in µS; None is that of the constants.
        interpolate: Whether times between those of the constants are allowed; σ is then linear in the logarithm of
            time, which no measurement supports.
        constants: Of the device; by default `WAN2022`.

    Raises:
        ValueError: If an argument is out of range, or at a reading whose time has no model.

    Example:
        >>> import torch
        >>> ReRAM(time_s=86_400)(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    Reference: Wan et al. 2022, Nature 608, 504 [MEM]; aihwkit `inference/noise/reram.py`. Constants: `WAN2022`.
    """

    time_s: float | None = 1.0
    g_max_us: float | None = None
    interpolate: bool = False
    constants: ReRAMConstants = WAN2022

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_s is None:
            raise ValueError("`time_s` must be a time, got None: there is no model of the programmed state. Use 1.0.")

    @property
    def largest_us(self) -> float:
        """`g_max_us`, by default that of the constants."""
        return self.constants.g_max_us if self.g_max_us is None else self.g_max_us

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Keep the targets and one error a device."""
        return {"conductance_us": target_us, "error": standard_normal(target_us, generator)}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Add the errors in the size that they have at that time."""
        assert time_s is not None
        target = state["conductance_us"]
        deviation = polynomial(self._coefficients(time_s), target / self.largest_us).clamp_(min=0)
        scale = self.largest_us / self.constants.g_max_us
        return deviation.mul_(scale).mul_(state["error"]).add_(target).clamp_(min=0)

    def _check_time(self, time_s: float) -> None:
        times = self.constants.times_s
        if time_s not in times and not (self.interpolate and times[0] < time_s < times[-1]):
            known, ages = (_listed(map(form, times)) for form in ("{:.15g}".format, age_text))
            also = " or between them" if self.interpolate else ""
            mend = "" if self.interpolate else " `interpolate` (true, in a chip file) allows times between them."
            raise ValueError(
                f"`time_s` must be {known} seconds since programming ({ages}){also}, got {time_s!r} "
                f"({age_text(time_s)}): nothing else was measured.{mend}"
            )

    def _coefficients(self, time_s: float) -> tuple[float, ...]:
        times, deviations = self.constants.times_s, self.constants.deviations_us
        after = bisect.bisect_left(times, time_s)
        if times[after] == time_s:
            return deviations[after]
        share = math.log(time_s / times[after - 1]) / math.log(times[after] / times[after - 1])
        pairs = zip(deviations[after - 1], deviations[after], strict=True)
        return tuple((1 - share) * a + share * b for a, b in pairs)


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
