"""What every weight noise is: two pure functions, programming and reading."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Generator, Tensor

State = dict[str, Tensor]
"""Tensors that are fixed for the life of a chip, by name."""


class WeightNoise(ABC):
    """The noise of one kind of hardware on one weight tensor, whose output channels lie along its first axis.

    A subclass is a frozen dataclass. Both functions are pure: all randomness comes from the generator, and no
    argument is changed.
    """

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
            time_s: Seconds since the reference read; None reads the programmed state.
            generator: On the state's device.

        Returns:
            The noisy weight, of the weight's shape and dtype.
        """

    def __call__(self, weight: Tensor, generator: Generator) -> Tensor:
        """Program and read at once: a noisy copy of the weight."""
        return self.read(self.program(weight, generator), None, generator)
