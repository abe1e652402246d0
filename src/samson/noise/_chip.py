"""A model on one simulated chip: noise put into its own layers, and taken out again bitwise."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from weakref import WeakSet

import torch
from torch import Tensor, nn

from samson._checks import require, require_non_negative, require_whole
from samson._interrupts import interruptible, uninterrupted
from samson._select import Select
from samson.noise._arrays import Array, arrays_of, devices_of, read_arrays
from samson.noise._attachment import attached, held_by, hooked_layers, operations_of
from samson.noise._base import State, WeightNoise, program_weight, read_weight
from samson.noise._periphery import Periphery
from samson.noise._places import Place
from samson.noise._presets import ChipModel
from samson.noise._random import generator_for
from samson.noise._selection import ChipTensor, on_chip
from samson.noise._types import require_type

_OCCUPIED: WeakSet[nn.Module] = WeakSet()
"""Layers that lie on a chip just now."""
_LOCK = threading.RLock()
"""Held while layers are looked at to be programmed, and while `_OCCUPIED` changes: for one thread at a time."""

_Held = Sequence[Tensor | None]
"""What the arrays of a weight hold in a reading; None is the weight itself."""


class Chip:
    """One deployment of a model: its weights as one chip holds them. Made by `deploy`.

    Args:
        model: The model.
        noise: What the hardware does to a weight.
        seed: Seed of the set of chips.
        trial: Number of the chip within the set.
        tensors: The weights on the chip.
        states: What the chip holds, by the weights' names; None programs them at every reading.
        periphery: What surrounds the weights; None computes exactly with them.

    Attributes:
        readings: Number of the next reading.
        reached: How often each layer's periphery computed in the latest block, by the layer's name.
    """

    def __init__(
        self,
        model: nn.Module,
        noise: WeightNoise,
        seed: int,
        trial: int,
        tensors: Sequence[ChipTensor],
        states: Mapping[str, State] | None = None,
        periphery: Periphery | None = None,
    ) -> None:
        self.model, self.noise, self.seed, self.trial = model, noise, seed, trial
        self.tensors, self.readings = list(tensors), 0
        self.periphery, self.reached = periphery, Counter[str]()
        self._shapes = {t.name: t.output_first(t.weight).shape for t in tensors}  # a reading computes no weight
        self._devices = devices_of(noise, periphery)
        self._keep(states)
        self._layers: dict[str, nn.Module] = {}
        self._arrays: dict[str, list[Array]] = {}
        self._held: dict[str, ChipTensor] = {}
        if periphery is not None:
            self._layers = hooked_layers(model, tensors)
            self._held = held_by(self._layers, tensors)
            self._lay_out(periphery)

    def _lay_out(self, periphery: Periphery) -> None:
        """Find the arrays of each layer, from the weights as they are now."""
        for name, operation in operations_of(self.model, self._layers, periphery).items():
            arrays = arrays_of(self._devices, self._held[name], operation, periphery)
            self._arrays[name] = [replace(one, weight=None) for one in arrays]  # what they hold is read

    def _keep(self, states: Mapping[str, State] | None) -> None:
        """Hold what was programmed, if it is to be held, and which shapes that has: states may be written to."""
        self.states, self._kept = dict(states or {}), states is not None
        self._programmed = {
            name: {key: getattr(value, "shape", ()) for key, value in state.items()}
            for name, state in self.states.items()
        }

    @cached_property
    def _shared(self) -> State:
        """What the weights of the chip have in common."""
        return self.noise.program_chip(generator_for(self.seed, self.trial, "program"))

    def _program(self, t: ChipTensor) -> State:
        """What the chip holds of a weight, from the weight as it is now."""
        weight = t.output_first(t.weight)
        if weight.shape != self._shapes[t.name]:
            raise RuntimeError(f"`{t.name}` has another shape since `deploy`. Deploy the model as it is now.")
        generator = self._generator("program", t.name, device=weight.device)
        own = self._devices is not None
        return program_weight(self._devices or self.noise, weight, generator, self._shared, whole=own)

    def __repr__(self) -> str:
        return f"Chip: number {self.trial} of seed {self.seed}, {len(self.tensors)} weight matrices, {self.noise!r}"

    @uninterrupted
    def at(self, time_s: float | None = None, *, reading: int | None = None) -> Iterator[nn.Module]:
        """Run the model as this chip reads at a time.

        Every block is a reading of its own: noise that changes from read to read is drawn anew, from the chip's
        seed and the reading's number, so the second block of any chip of this seed and trial reads the same. Ctrl-C
        while the block is entered or left waits until that is done.

        Args:
            time_s: Seconds since the reference read, ≥ 0; None is the noise's own time, or the programmed state.
            reading: Number of the reading, ≥ 0; None counts up from 0, and a number given here is not counted.

        Yields:
            The model itself, with noisy weights until the block ends; then the same bits as before come back.

        Raises:
            ValueError: If `time_s` or `reading` is out of range, `states` holds other weights or entries than were
                programmed, or devices in another shape, or the noise reads no tensor of a weight's shape; with
                keep=False as for `deploy`, too.
            RuntimeError: If a layer of the model lies on a chip already: a block inside another; if one was replaced
                since the chip was made. With a periphery, at the end of the block, if a layer on the chip was not
                reached by it.

        Example:
            >>> from samson.noise import Gaussian
            >>> chip = deploy(nn.Linear(3, 2), Gaussian(0.1), seed=7)
            >>> with chip.at(time_s=86_400) as model:
            ...     y = model(torch.ones(1, 3))
        """
        time_s, number = _moment(time_s, self.readings if reading is None else reading)
        there = set(self.model.modules())
        gone = next((t.name for t in self.tensors if not there.issuperset(t.place.modules)), None)
        if gone is not None:
            raise RuntimeError(f"The layer of `{gone}` was replaced after `deploy`. Deploy the model as it is now.")
        with ExitStack() as stack:
            stack.enter_context(_occupied(self.tensors))
            with torch.no_grad():
                if self.periphery is not None and not self._kept:
                    self._lay_out(self.periphery)
                values, held, factors = self._read(time_s, number)
            stack.callback(torch.clear_autocast_cache)  # it keeps casts of weights, and would go on with those
            for place in list(values):
                stack.enter_context(place.holding(values.pop(place)))  # which is then nowhere else in memory
            torch.clear_autocast_cache()
            if self.periphery is not None:
                stack.enter_context(self._surrounded(self.periphery, held, factors, number))
            if reading is None:
                self.readings += 1
            yield self.model

    def _surrounded(
        self, periphery: Periphery, held: Mapping[str, _Held], factors: Mapping[str, Tensor], reading: int
    ) -> AbstractContextManager[None]:
        """Layers compute as the periphery does with what their arrays hold in a reading, until the block ends."""
        self.reached.clear()
        read, generators = {}, {}
        for name, arrays in self._arrays.items():
            tensor = self._held[name].name
            factor = periphery.factors(arrays[0].operation, factors[tensor]) if tensor in factors else 1.0
            read[name] = [
                replace(one, weight=weight, column=one.column * factor)
                for one, weight in zip(arrays, held[tensor], strict=True)
            ]
            generators[name] = self._generator("periphery", reading, name, device=arrays[0].column.device)
        return attached(self.model, self._layers, periphery, read, generators, self.reached)

    @torch.no_grad()
    def read(self, time_s: float | None = None, *, reading: int = 0) -> dict[str, Tensor]:
        """Every weight as the chip reads it, by its name and in its layer's layout; the model stays as it is.

        Args:
            time_s: As for `at`.
            reading: Number of the reading, ≥ 0.

        Raises:
            ValueError: As for `at`.

        Example:
            >>> from samson.noise import Gaussian
            >>> {name: weight.numpy().shape for name, weight in deploy(nn.Linear(3, 2), Gaussian(0.1)).read().items()}
            {'weight': (2, 3)}
        """
        moment = _moment(time_s, reading)
        with nullcontext() if self._kept else _LOCK:  # nobody enters a chip while weights are the model's own
            if not self._kept:
                require_free(self.tensors)
            values = self._read(*moment)[0]
        return {t.name: t.matrix.within(values[t.place]).clone() for t in self.tensors}

    @interruptible
    def _read(
        self, time_s: float | None, reading: int
    ) -> tuple[dict[Place, Tensor], dict[str, _Held], dict[str, Tensor]]:
        """Every weight as the chip reads it, by its place; by its name, its arrays and the drift compensation in it."""
        values: dict[Place, Tensor] = {}
        arrays: dict[str, _Held] = {}
        factors: dict[str, Tensor] = {}
        others = sorted(map(str, self.states.keys() ^ self._programmed.keys()))
        what = "hold every weight on the chip by its name, and nothing else"
        require(not others, "states", what if self._kept else "be empty in a chip with keep=False", others)
        for t in self.tensors:
            state, shape = self._state(t.name) if self._kept else self._program(t), self._shapes[t.name]
            device = next(iter(state.values())).device
            generator = self._generator("read", reading, t.name, device=device)
            if self._devices is None or self.periphery is None:
                arrays[t.name], (weight, factor) = [None], read_weight(self.noise, state, shape, time_s, generator)
            else:
                per = self.periphery.adc_per
                weight, arrays[t.name], factor = read_arrays(self._devices, t, state, shape, time_s, generator, per)
            if factor is not None:
                factors[t.name] = t.stored(factor.expand(weight.shape))
            value = t.stored(weight)
            if t.matrix.rows is None:
                values[t.place] = value
            else:
                if t.place not in values:
                    values[t.place] = t.place.weight.clone()
                values[t.place][t.matrix.rows] = value
        return values, arrays, factors

    def _state(self, name: str) -> State:
        """What the chip holds of a weight, if it is what was programmed: no reading would see more."""
        state, programmed = self.states[name], self._programmed[name]
        if state.keys() != programmed.keys():
            alike = "Write `weight`: that is what every reading of this chip gives"
            mend = alike if list(programmed) == ["weight"] else "Write to those"
            raise ValueError(
                f"`states[{name!r}]` must hold what the chip was programmed with, {', '.join(sorted(programmed))}, got "
                f"{', '.join(sorted(state))}. {mend}."
            )
        for key, shape in programmed.items():
            held, per_device = state[key], len(shape) > len(self._shapes[name])  # others may broadcast with the weight
            if per_device and not (isinstance(held, Tensor) and held.shape == shape):
                gave = tuple(held.shape) if isinstance(held, Tensor) else f"a {type(held).__name__}"
                what = f"`states[{name!r}][{key!r}]` must be a tensor of the shape {tuple(shape)} that was programmed"
                raise ValueError(f"{what}, got {gave}.")
        return state

    def _generator(self, *path: str | int, device: torch.device) -> torch.Generator:
        return generator_for(self.seed, self.trial, *path, device=device)


def _moment(time_s: float | None, reading: int) -> tuple[float | None, int]:
    """Time and number of a reading, if they are ones."""
    require_type("time_s", time_s, float | None)
    require_type("reading", reading, int)
    if time_s is not None:
        require_non_negative(time_s=time_s)
    require(reading >= 0, "reading", "be ≥ 0, or None to count", reading)
    return time_s, int(reading)


@contextmanager
def _occupied(tensors: Sequence[ChipTensor]) -> Iterator[None]:
    """Mark the layers of weights as lying on a chip, if none of them does, until the block ends."""
    modules = [module for t in tensors for module in t.place.modules]
    with _LOCK:
        require_free(tensors)
        _OCCUPIED.update(modules)
    try:
        yield
    finally:
        with _LOCK:
            _OCCUPIED.difference_update(modules)


def require_free(tensors: Sequence[ChipTensor]) -> None:
    """Refuse weights that lie on a chip just now, whose values are not their own.

    Raises:
        RuntimeError: If there is one.
    """
    for t in tensors:
        if any(module in _OCCUPIED for module in t.place.modules):
            raise RuntimeError(f"`{t.name}` lies on a chip already. Leave that chip's `at` block first.")


def deploy(
    model: nn.Module,
    noise: WeightNoise | ChipModel,
    *,
    seed: int = 0,
    trial: int = 0,
    select: Select = None,
    periphery: Periphery | None = None,
    keep: bool = True,
) -> Chip:
    """Program a model onto one simulated chip.

    The same seed and trial are the same chip for every model with tensors of these names and shapes, and for every
    level of a noise: that is what makes comparisons paired.

    Args:
        model: Any model; it is not converted, and it is unchanged outside `chip.at()`.
        noise: What the hardware does to a weight, or a kind of chip (`preset("pcm")`) with its periphery.
        seed: Seed of the set of chips, ≥ 0.
        trial: Number of the chip within the set, ≥ 0.
        select: Which layers lie on the chip (see `on_chip`).
        periphery: What surrounds the weights of linear, convolution and recurrent layers and of attention; None
            computes exactly with them.
        keep: Whether the chip keeps what it was programmed with, in `chip.states`. Else it programs one weight after
            the other at every reading, from the weights that the model has then: the same chip. That takes a fraction
            of the memory, which for `PCM` is 16 bytes a weight, and the time of programming once a reading.

    Raises:
        ValueError: If no tensor would lie on the chip, or one could not be written (see `on_chip`), or a layer could
            not be reached by the periphery: other layers, compiled models.
        RuntimeError: If the model lies on a chip just now.

    Example:
        >>> from samson.noise import Gaussian
        >>> model, x = nn.Linear(3, 2), torch.ones(1, 3)
        >>> chip = deploy(model, Gaussian(0.1), seed=7)
        >>> with chip.at():
        ...     y = model(x)
    """
    require_whole(0, seed=seed, trial=trial)
    seed, trial = int(seed), int(trial)
    require_type("noise", noise, WeightNoise | ChipModel)
    require_type("periphery", periphery, Periphery | None)
    if isinstance(noise, ChipModel):
        periphery, noise = periphery or noise.periphery, noise.noise
    require_type("keep", keep, bool)
    with _LOCK, torch.no_grad():
        tensors = on_chip(model, select)
        require_free(tensors)
        chip = Chip(model, noise, seed, trial, tensors, periphery=periphery)
        if keep:
            chip._keep({t.name: chip._program(t) for t in tensors})
        return chip
