"""What every weight noise is: two pure functions, programming and reading."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Generator, Tensor

from samson.noise.random import working_dtype

State = dict[str, Tensor]
"""Tensors that are fixed for the life of a chip, by name."""


class WeightNoise(ABC):
    """The noise of one kind of hardware on one weight tensor, whose output channels lie along its first axis.

    A subclass is a frozen dataclass. Both functions are pure: all randomness comes from the generator, and no
    argument is changed. Where a reading names no time, the noise's own `default_time_s` holds; without one the
    programmed state is read.
    """

    @property
    def default_time_s(self) -> float | None:
        """The time of a reading that names none."""
        return None

    @property
    def is_fixed(self) -> bool:
        """Whether every reading of a chip is the same, at any time: then `Compose` programs what follows only once."""
        return False

    @abstractmethod
    def program(self, weight: Tensor, generator: Generator) -> State:
        """Write a weight to a chip, once in the chip's life.

        Args:
            weight: Real weights of any shape.
            generator: On the weight's device.

        Returns:
            What the chip holds.
        """

    @abstractmethod
    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Read the weight back from the chip.

        Args:
            state: What `program` returned.
            time_s: Seconds since the reference read, ≥ 0; None is the noise's `default_time_s`.
            generator: On the state's device.

        Returns:
            The noisy weight, of the weight's shape and dtype.
        """

    def program_chip(self, generator: Generator) -> State:
        """Draw what all tensors of one chip share, once in the chip's life.

        Most noises share nothing. A chip lays these entries over the state of each of its tensors.

        Args:
            generator: On the CPU, the same for every tensor of the chip.
        """
        return {}

    def __call__(self, weight: Tensor, generator: Generator) -> Tensor:
        """Program and read at once: a noisy copy of the weight."""
        return self.read(self.program(weight, generator), None, generator)


class FixedNoise(WeightNoise):
    """A noise that is settled when the chip is programmed: no drift, and the same weight from reading to reading."""

    @property
    def is_fixed(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """The weight on the chip.

        Args:
            weight: In at least float32; not to be changed.
            generator: On the weight's device.
        """

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Compute the noisy weight in at least float32; it is kept in the weight's dtype."""
        exact = weight.detach().to(working_dtype(weight))
        return {"weight": self.noisy(exact, generator).to(weight.dtype)}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Give the programmed weight."""
        return state["weight"]
