"""Devices by a table of what was measured on them: the error at several conductances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from samson._checks import require
from samson.noise._base import State
from samson.noise._curves import check_coefficients
from samson.noise._device import DeviceNoise
from samson.noise._random import normal
from samson.noise._types import require_types


@dataclass(frozen=True, kw_only=True)
class MeasuredDevices(DeviceNoise):
    """Devices with measured errors: g = max(0, g_target + mean(g_target) + σ(g_target)·ξ), ξ ~ N(0, 1) once a device.

    Mean and σ are linear between the conductances of the table and constant beyond its ends. Nothing changes after
    programming: readings are the same at any time.

    Args:
        time_s: Time of a reading that names none, in seconds, ≥ 0; it changes nothing.
        mapping: How weights are laid out on devices.
        targets_us: Conductances at which the error was measured, in µS, ≥ 0, ascending.
        deviations_us: For each of these, σ of the error in µS, ≥ 0.
        mean_errors_us: For each of these, the mean error in µS; None is 0.
        g_max_us: Largest programmed conductance, in µS; None is the last of `targets_us`.

    Raises:
        ValueError: If an argument is out of range, or the numbers of values differ.

    Example:
        >>> array = MeasuredDevices(targets_us=(0.0, 25.0), deviations_us=(0.4, 0.7), mean_errors_us=(0.1, -0.5))
        >>> array(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])

    No constants.
    """

    targets_us: tuple[float, ...]
    deviations_us: tuple[float, ...]
    mean_errors_us: tuple[float, ...] | None = None
    g_max_us: float | None = None

    def __post_init__(self) -> None:
        require_types(self)
        targets, deviations, means = self.targets_us, self.deviations_us, self._means
        check_coefficients("targets_us", targets, at_least=1)
        ascending = targets[0] >= 0 and all(a < b for a, b in pairwise(targets))
        require(ascending, "targets_us", "be ≥ 0 and ascending", targets)
        for name, values in (("deviations_us", deviations), ("mean_errors_us", means)):
            check_coefficients(name, values)
            require(len(values) == len(targets), name, f"hold a number for each of {targets!r} µS", values)
        require(min(deviations) >= 0, "deviations_us", "be ≥ 0", deviations)
        super().__post_init__()

    @property
    def largest_us(self) -> float:
        """`g_max_us`, by default the last of `targets_us`."""
        return self.targets_us[-1] if self.g_max_us is None else self.g_max_us

    @property
    def is_fixed(self) -> bool:
        """True."""
        return True

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Draw the errors."""
        mean = _between(self.targets_us, self._means, target_us).add_(target_us)
        deviation = _between(self.targets_us, self.deviations_us, target_us)
        return {"conductance_us": normal(mean, deviation, generator).clamp_(min=0)}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Give the programmed conductances."""
        return state["conductance_us"]

    @property
    def _means(self) -> tuple[float, ...]:
        return (0.0,) * len(self.targets_us) if self.mean_errors_us is None else self.mean_errors_us


def _between(points: Sequence[float], values: Sequence[float], at: Tensor) -> Tensor:
    """Linear between points and constant beyond them, as a new tensor."""
    found = torch.full_like(at, values[0])
    for (left, right), (low, high) in zip(pairwise(points), pairwise(values), strict=True):
        found.add_((at - left).clamp_(0, right - left), alpha=(high - low) / (right - left))
    return found
