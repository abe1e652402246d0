"""What all models of physical devices share: mapping and time around conductances that are written and read."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Generator, Tensor

from samson._checks import require, require_non_negative, require_positive
from samson.noise._base import State, WeightNoise
from samson.noise._conductance import ONE_PAIR, Mapping
from samson.noise._types import require_types


@dataclass(frozen=True)
class DeviceNoise(WeightNoise):
    """Weights held as conductances. A subclass says how its devices are programmed and read, in µS.

    Args:
        time_s: Time of a reading that names none, in seconds, ≥ 0; None is the programmed state.
        mapping: How weights are laid out on devices.
    """

    time_s: float | None = None
    mapping: Mapping = ONE_PAIR

    def __post_init__(self) -> None:
        require_types(self)
        if self.time_s is not None:
            self._check_time(self.time_s)
        require_positive(g_max_us=self.largest_us)
        self.mapping.smallest_us(self.largest_us)

    @property
    @abstractmethod
    def largest_us(self) -> float:
        """g_max, in µS."""

    @property
    def default_time_s(self) -> float | None:
        """`time_s`."""
        return self.time_s

    @abstractmethod
    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        """Write the targets, of shape (N, 2 or 1, *shape of the weight); not to be changed.

        Returns:
            What the devices hold, by any names but `scale` and `lowest`, which the mapping has.
        """

    @abstractmethod
    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Conductances at a time, in µS; None is the programmed state."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Map the weight to conductances and write them.

        Raises:
            ValueError: If the devices hold something by a name that the mapping has.
        """
        held = self.mapping.conductances(weight, self.largest_us)
        devices = self.program_devices(held.pop("conductance_us"), generator)
        taken = sorted(held.keys() & devices.keys())
        require(not taken, "program_devices", "give other names to what it returns than the mapping does", taken)
        return {**held, **devices}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Read the devices, and the weights from them.

        Raises:
            ValueError: If the devices have no model for that time.
        """
        return self.reading(state, time_s, generator)[0]

    def reading(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """The weights of `read`, and the drift compensation in them."""
        conductances, factor = self._reading(state, time_s, generator)
        weight = self.mapping.weights(conductances, state, self.largest_us)
        return (weight if factor is None else weight.mul_(factor)), factor

    def arrays(
        self, state: State, time_s: float | None, generator: Generator, per: str
    ) -> tuple[Tensor, list[float], Tensor | None]:
        """What `reading` reads, by arrays of devices (see `Mapping.arrays`), and the factor that is part of each."""
        conductances, factor = self._reading(state, time_s, generator)
        found, shares = self.mapping.arrays(conductances, state, self.largest_us, per)
        return (found if factor is None else found.mul_(factor)), shares, factor

    def targets(self, weight: Tensor, per: str) -> tuple[Tensor, list[float], Tensor]:
        """What the arrays of a weight are to hold, their shares, and the largest |weight| that a cell can hold."""
        held = self.mapping.conductances(weight, self.largest_us)
        arrays = self.mapping.arrays(held["conductance_us"], held, self.largest_us, per)
        return *arrays, self.mapping.full(held, self.largest_us, per)

    def _reading(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        when = self.time_s if time_s is None else time_s
        if when is not None:
            self._check_time(when)
        return self._conductances(state, when, generator)

    def _conductances(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """The devices as they are read, and the drift compensation of what they hold."""
        return self.read_devices(state, time_s, generator), None

    def _check_time(self, time_s: float) -> None:
        require_non_negative(time_s=time_s)
