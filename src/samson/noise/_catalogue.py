"""The catalogue of noises: families by their level, and the classes that a chip file may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from samson.noise._base import WeightNoise
from samson.noise._bit_errors import BitErrors
from samson.noise._cmo import CMO
from samson.noise._faults import DeadLines, StuckDevices
from samson.noise._gaussian import Gaussian
from samson.noise._lognormal import Lognormal
from samson.noise._measured import MeasuredDevices
from samson.noise._pcm import PCM, CustomPCM, PCMHermes
from samson.noise._quantisation import Quantize
from samson.noise._reram import ReRAM
from samson.noise._variation import Variation


@dataclass(frozen=True)
class NoiseFamily:
    """Noises that differ in one number, their level.

    Args:
        make: Gives the noise of a level ≥ 0.
        unit: What the level is: "level" (relative, 0 is no noise), "bit error rate" or "s" (age of the chip).
        low: The lowest level at which a budget is looked for by default.
        high: The highest.

    Example:
        >>> NOISES["gaussian"](0.1)
        Gaussian(sigma=0.1, per='layer')
    """

    make: Callable[[float], WeightNoise]
    unit: str = "level"
    low: float = 0.001
    high: float = 1.0

    def __call__(self, level: float) -> WeightNoise:
        """The noise of a level; ValueError if it is out of range."""
        return self.make(level)


_bit_errors = partial(NoiseFamily, unit="bit error rate", low=1e-5, high=0.2)
_ages = partial(NoiseFamily, unit="s", low=1.0, high=10 * 365 * 86_400.0)
FAMILIES: dict[str, Callable[[Callable[[float], WeightNoise]], NoiseFamily]] = {
    "level": NoiseFamily,
    "bit error rate": _bit_errors,
    "s": _ages,
}
"""Makes a family of what gives a noise from a level, by what the level is."""

NOISES: dict[str, NoiseFamily] = {
    "gaussian": NoiseFamily(Gaussian),
    "gaussian-channel": NoiseFamily(partial(Gaussian, per="channel")),
    "gaussian-filter": NoiseFamily(partial(Gaussian, per="filter")),
    "gaussian-multiplicative": NoiseFamily(partial(Gaussian, per="weight")),
    "lognormal": NoiseFamily(Lognormal),
    "lognormal-corrected": NoiseFamily(partial(Lognormal, corrected=True)),
    "bit-errors": _bit_errors(BitErrors),
    "bit-errors-4bit": _bit_errors(partial(BitErrors, bits=4)),
    "stuck-bits": _bit_errors(partial(BitErrors, fault="stuck", persistent=True)),
    "stuck-low": NoiseFamily(lambda share: StuckDevices(low=share)),
    "stuck-high": NoiseFamily(lambda share: StuckDevices(high=share)),
    "dead-rows": NoiseFamily(lambda share: DeadLines(rows=share)),
    "dead-columns": NoiseFamily(lambda share: DeadLines(columns=share)),
    "chip-gain": NoiseFamily(lambda sigma: Variation(gain=sigma)),
    "pcm": _ages(PCM),
    "pcm-uncompensated": _ages(partial(PCM, compensation=None)),
}
"""Families by name; a row joins the command line and the contract tests. Chips without a level are in `PRESETS`."""

CLASSES: dict[str, type[WeightNoise]] = {
    "gaussian": Gaussian,
    "lognormal": Lognormal,
    "pcm": PCM,
    "pcm-uncompensated": PCM,
    "pcm-hermes": PCMHermes,
    "pcm-hermes-uncompensated": PCMHermes,
    "pcm-custom": CustomPCM,
    "pcm-custom-uncompensated": CustomPCM,
    "measured": MeasuredDevices,
    "reram": ReRAM,
    "cmo": CMO,
    "quantize": Quantize,
    "bit-errors": BitErrors,
    "stuck-devices": StuckDevices,
    "dead-lines": DeadLines,
    "variation": Variation,
}
"""The weight noises that a chip file may name; a frozen dataclass joins by a row."""

UNCOMPENSATED = "-uncompensated"
"""How the names in `CLASSES` end whose drift is not compensated."""
