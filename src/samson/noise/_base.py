"""What every weight noise is: two pure functions, programming and reading."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from inspect import get_annotations, isfunction

import torch
from torch import Generator, Tensor

from samson._checks import require
from samson.noise._random import exactly, working_dtype

State = dict[str, Tensor]
"""Tensors that are fixed for the life of a chip, by name."""


def _annotated(cls: type) -> Iterable[str]:
    """What the body of a class annotates, without a look at the types."""
    if sys.version_info >= (3, 14):  # which evaluates the types, unless asked for their text
        from annotationlib import Format

        return get_annotations(cls, format=Format.STRING)
    return get_annotations(cls)


class WeightNoise(ABC):
    """The noise of one kind of hardware on one weight tensor, whose output channels lie along its first axis.

    A subclass is a frozen dataclass. Both functions are pure: all randomness comes from the generator, and no
    argument is changed. They see weights with elements, in at least float32 (see `program_weight`). Where a reading
    names no time, the noise's own `default_time_s` holds; without one the programmed state is read. `check_noise`
    checks all this.

    Raises:
        TypeError: Where a subclass is defined, if it has a field by the name of a method, which it would replace.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        for name in {*own, *_annotated(cls)}:
            replaces = isfunction(getattr(super(cls, cls), name, None)) and name[:2] != "__"
            if replaces and not hasattr(own.get(name), "__get__"):
                raise TypeError(
                    f"`{cls.__name__}` must have no field called `{name}`: it would replace the method of that name. "
                    "Give the field another name."
                )

    @property
    def default_time_s(self) -> float | None:
        """The time of a reading that names none."""
        return None

    @property
    def is_fixed(self) -> bool:
        """Whether every reading of a chip is the same, at any time: then a chip holds the reading alone."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether chips may differ; where none does, an evaluation computes one of them for all."""
        return True

    @abstractmethod
    def program(self, weight: Tensor, generator: Generator) -> State:
        """Write a weight to a chip: at the same state of the generator always the same.

        Args:
            weight: Of any shape, in at least float32.
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
            The noisy weight, of the shape and dtype that `program` was given.
        """

    def reading(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Read the weight, and say by what the chip multiplies its outputs digitally.

        Returns:
            The weight of `read`, and the factor that is part of it (drift compensation), in a shape that broadcasts
            with it; None for none. Noise of outputs and steps of converters grow with the factor.
        """
        return self.read(state, time_s, generator), None

    def program_chip(self, generator: Generator) -> State:
        """Draw what all tensors of one chip share.

        Most noises share nothing. A chip lays these entries over the state of each of its tensors.

        Args:
            generator: On the CPU, the same for every tensor of the chip.
        """
        return {}

    def __call__(self, weight: Tensor, generator: Generator) -> Tensor:
        """Program and read at once: a noisy copy of the weight, of its dtype."""
        return read_weight(self, program_weight(self, weight, generator), weight.shape, None, generator)[0]


class FixedNoise(WeightNoise):
    """A noise that is settled when the chip is programmed: no drift, and the same weight from reading to reading."""

    @property
    def is_fixed(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """The weight on the chip, from arguments as those of `program`."""

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Compute the noisy weight."""
        return {"weight": self.noisy(weight, generator)}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Give the programmed weight."""
        return state["weight"]


def program_weight(
    noise: WeightNoise, weight: Tensor, generator: Generator, shared: State | None = None, *, whole: bool = False
) -> State:
    """Program a weight of any floating-point dtype, also one without elements, which stays as it is.

    The noise sees a copy in at least float32, outside of autocast. Where all readings are the same, they are computed
    here and the state is their weight alone, in its own dtype.

    Args:
        noise: The noise.
        weight: The weight, with its output channels along the first axis.
        generator: On the weight's device.
        shared: What `program_chip` of the noise returned.
        whole: Whether the state is kept whole also where all readings are the same.

    Raises:
        ValueError: If the weight holds complex or whole numbers, or the noise returns no dict, calls a tensor of it
            `dtype`, or is read here and gives no tensor of the weight's shape.
    """
    require(weight.is_floating_point(), "weight", "hold real floating-point numbers", weight.dtype)
    if not weight.numel():
        return {"weight": weight.detach().clone()}
    with exactly(weight.device):
        exact = weight.detach().to(working_dtype(weight), copy=True)
        common = {key: value.to(weight.device) for key, value in (shared or {}).items()}
        state = {**programmed(noise, exact, generator), **common}
        require("dtype" not in state, "program", "return no `dtype`, which a chip keeps for itself", sorted(state))
        if noise.is_fixed and not whole:
            return {"weight": require_reading(noise, noise.read(state, None, generator), weight.shape).to(weight.dtype)}
    return {**state, "dtype": weight.new_empty(0)}


def programmed(noise: WeightNoise, weight: Tensor, generator: Generator) -> State:
    """What a noise programmed, if it is a dict.

    Raises:
        ValueError: If it is not.
    """
    state = noise.program(weight, generator)
    if isinstance(state, Mapping):
        return state
    raise ValueError(
        f"`noise` must return a dict of tensors from `program`, but {type(noise).__name__} gave a "
        f"{type(state).__name__}. Give it a name: {{'weight': …}}."
    )


def read_weight(
    noise: WeightNoise, state: State, shape: torch.Size, time_s: float | None, generator: Generator
) -> tuple[Tensor, Tensor | None]:
    """Read a weight in its own dtype from a state of `program_weight`, and the factor in it (see `reading`).

    Raises:
        ValueError: If the noise gives no tensor of the weight's shape.
    """
    if "dtype" not in state:
        return state["weight"], None
    with exactly(generator.device):
        weight, factor = noise.reading(state, time_s, generator)
        return require_reading(noise, weight, shape).to(state["dtype"].dtype), factor


def require_reading(noise: WeightNoise, weight: object, shape: torch.Size) -> Tensor:
    """What a noise read, if it is a tensor of the weight's shape: another would be spread over the weight in silence.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(weight, Tensor) and weight.shape == shape:
        return weight
    gave = tuple(weight.shape) if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
    raise ValueError(f"`noise` must read a tensor of the weight's shape {tuple(shape)}, but {noise} gave {gave}.")
