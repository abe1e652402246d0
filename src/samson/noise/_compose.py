"""Several noises on one chip, one after the other, in an order that is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from samson._checks import require
from samson.noise._base import State, WeightNoise, programmed
from samson.noise._bit_errors import BitErrors
from samson.noise._device import DeviceNoise
from samson.noise._faults import StuckDevices
from samson.noise._phase_change import PhaseChange
from samson.noise._quantisation import Quantize
from samson.noise._types import require_type
from samson.noise._variation import Variation


@dataclass(frozen=True, init=False)
class Compose(WeightNoise):
    """Noises in order: each is programmed with the weight that the one before it reads.

    All of it is drawn once a chip. What follows a noise that changes with time or from reading to reading acts on each
    of those readings, with the draws that it had when the chip was programmed: stuck devices stay the same devices.

    `StuckDevices` are devices of the last `DeviceNoise` before them: its mapping and g_max are theirs. A `Variation` of
    the drift without a `reference_s` has the t0 of these devices, if they are phase-change ones.

    A reading that names no time has the first `default_time_s` among the noises, and all of them have that time.

    Args:
        noises: At least one, in order; a `Compose` among them counts as its own noises.

    Raises:
        ValueError: If there is none, or `BitErrors` follows a `Quantize` of another format or other `BitErrors`: it
            owns its quantiser, and would round what was rounded. A faulty weight may widen the range, so that even
            the format of the first would round again. Or if `StuckDevices` have a mapping or g_max of their own.

    Example:
        >>> from samson.noise import PCM, Quantize
        >>> chip = Compose(Quantize(8), PCM(time_s=3600.0))
        >>> chip(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """

    noises: tuple[WeightNoise, ...]

    def __init__(self, *noises: WeightNoise) -> None:
        require_type("noises", noises, tuple[WeightNoise, ...])
        require(bool(noises), "noises", "hold at least one noise", noises)
        noises = tuple(part for noise in noises for part in (noise.noises if isinstance(noise, Compose) else (noise,)))
        for position, noise in enumerate(noises):
            for before in noises[:position]:
                if isinstance(noise, BitErrors):
                    _require_one_rounding(before, noise)
        device: DeviceNoise | None = None
        whole: list[WeightNoise] = []
        for noise in noises:
            device = noise if isinstance(noise, DeviceNoise) else device
            whole.append(_behind(device, noise) if device else noise)
        object.__setattr__(self, "noises", tuple(whole))

    @property
    def default_time_s(self) -> float | None:
        """The first of a noise that has one."""
        return next((noise.default_time_s for noise in self.noises if noise.default_time_s is not None), None)

    @property
    def is_fixed(self) -> bool:
        """Whether all noises are."""
        return all(noise.is_fixed for noise in self.noises)

    @property
    def is_random(self) -> bool:
        """Whether any noise is."""
        return type(self) is not Compose or any(noise.is_random for noise in self.noises)

    def program_chip(self, generator: Generator) -> State:
        """What each noise shares, after its position."""
        return {
            f"{position}.{key}": value
            for position, noise in enumerate(self.noises)
            for key, value in noise.program_chip(generator).items()
        }

    def program(self, weight: Tensor, generator: Generator) -> State:
        """Program up to the first noise that is not the same at each reading; draw a seed for each one behind it."""
        for position in range(self._first):
            fixed = self.noises[position]
            weight = fixed.read(programmed(fixed, weight, generator), None, generator)
        state = {f"{self._first}.{k}": v for k, v in programmed(self.noises[self._first], weight, generator).items()}
        later = len(self.noises) - self._first - 1
        if later:
            state["seeds"] = torch.randint(2**62, (later,), generator=generator, device=weight.device)
        return state

    def read(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        """Read the noise up to which `program` came, and put the reading through those behind it."""
        return self.reading(state, time_s, generator)[0]

    def reading(self, state: State, time_s: float | None, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """The weight of `read`, and the product of the factors of the noises."""
        when = self.default_time_s if time_s is None else time_s
        weight, factor = self.noises[self._first].reading(self._part(state, self._first), when, generator)
        seeds = state["seeds"].tolist() if "seeds" in state else []
        for position, seed in enumerate(seeds, start=self._first + 1):
            noise = self.noises[position]
            written = programmed(noise, weight, Generator(weight.device).manual_seed(seed))
            weight, own = noise.reading({**written, **self._part(state, position)}, when, generator)
            factor = own if factor is None else factor if own is None else factor * own
        return weight, factor

    @property
    def _first(self) -> int:
        """Position of the first noise that is not fixed, or has draws that the chip's tensors share; or the last."""
        every = enumerate(self.noises)
        return next((i for i, noise in every if not noise.is_fixed or _shares(noise)), len(self.noises) - 1)

    @staticmethod
    def _part(state: State, position: int) -> State:
        prefix = f"{position}."
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _shares(noise: WeightNoise) -> bool:
    """Whether tensors of a chip have draws in common, which reach it in `read` alone."""
    return type(noise).program_chip is not WeightNoise.program_chip


def _require_one_rounding(before: WeightNoise, noise: BitErrors) -> None:
    twice = isinstance(before, BitErrors)
    if twice or (isinstance(before, Quantize) and Quantize(before.bits, before.scheme, before.per) != noise.format):
        rule = "BitErrors twice" if twice else "a quantiser before BitErrors in another format"
        mend = "Give one of them all the errors" if twice else "Leave the `Quantize` out"
        raise ValueError(
            f"`noises` must not hold {rule}, got {before} before {noise}: BitErrors owns its quantiser, and would "
            f"round what was rounded. {mend}."
        )


def _behind(device: DeviceNoise, noise: WeightNoise) -> WeightNoise:
    """A noise with what it takes from the devices before it."""
    if isinstance(noise, StuckDevices):
        return _stuck_on(device, noise)
    if isinstance(device, PhaseChange) and isinstance(noise, Variation) and noise.drift_exponent:
        return replace(noise, reference_s=noise.reference_s or device.constants.reference_s)
    return noise


def _stuck_on(device: DeviceNoise, noise: StuckDevices) -> StuckDevices:
    """Stuck devices as devices of a model."""
    for name, given, own in (
        ("mapping", noise.mapping, device.mapping),
        ("g_max_us", noise.g_max_us, device.largest_us),
    ):
        if given not in (None, own):
            raise ValueError(
                f"`{name}` of StuckDevices must be that of the devices before, {own!r} of {type(device).__name__}, "
                f"got {given!r}. Leave it out."
            )
    return replace(noise, mapping=device.mapping, g_max_us=device.largest_us)
