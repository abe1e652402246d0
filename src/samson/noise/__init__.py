"""Simulated hardware: what a noisy chip does to the weights of any PyTorch model, without converting it."""

from collections.abc import Callable
from functools import partial

from samson.noise.base import FixedNoise, State, WeightNoise
from samson.noise.batch_norm import reestimated_norms
from samson.noise.bit_errors import BitErrors
from samson.noise.calibration import calibrate, calibrate_adc
from samson.noise.chip import Chip, deploy
from samson.noise.chip_files import load_chip_model
from samson.noise.cmo import CMO
from samson.noise.compose import Compose
from samson.noise.conductance import Mapping
from samson.noise.description import TensorDescription, describe
from samson.noise.device import DeviceNoise
from samson.noise.faults import DeadLines, StuckDevices
from samson.noise.gaussian import Gaussian
from samson.noise.lognormal import Lognormal
from samson.noise.pcm import PCM, CustomPCM, PCMHermes
from samson.noise.periphery import STANDARD_HWA, Periphery
from samson.noise.presets import PRESETS, ChipModel, preset
from samson.noise.quantisation import Quantize
from samson.noise.random import generator_for, standard_normal
from samson.noise.reram import ReRAM
from samson.noise.selection import ChipTensor, on_chip
from samson.noise.storage import load_chip, save_chip
from samson.noise.variation import Variation
from samson.noise.voltage import bit_error_rate, voltage_at

NOISES: dict[str, Callable[[float], WeightNoise]] = {
    "gaussian": Gaussian,
    "gaussian-channel": partial(Gaussian, per="channel"),
    "gaussian-filter": partial(Gaussian, per="filter"),
    "gaussian-multiplicative": partial(Gaussian, per="weight"),
    "lognormal": Lognormal,
    "lognormal-corrected": partial(Lognormal, corrected=True),
    "bit-errors": BitErrors,
    "bit-errors-4bit": partial(BitErrors, bits=4),
    "stuck-bits": partial(BitErrors, fault="stuck"),
    "stuck-low": lambda share: StuckDevices(low=share),
    "stuck-high": lambda share: StuckDevices(high=share),
    "dead-rows": lambda share: DeadLines(rows=share),
    "dead-columns": lambda share: DeadLines(columns=share),
    "chip-gain": lambda sigma: Variation(gain=sigma),
}
"""The catalogue: a family of noises by name, from a level; a row here joins the command line and contract tests.

Devices without a level are in `PRESETS`.
"""

__all__ = [
    "CMO",
    "NOISES",
    "PCM",
    "PRESETS",
    "STANDARD_HWA",
    "BitErrors",
    "Chip",
    "ChipModel",
    "ChipTensor",
    "Compose",
    "CustomPCM",
    "DeadLines",
    "DeviceNoise",
    "FixedNoise",
    "Gaussian",
    "Lognormal",
    "Mapping",
    "PCMHermes",
    "Periphery",
    "Quantize",
    "ReRAM",
    "State",
    "StuckDevices",
    "TensorDescription",
    "Variation",
    "WeightNoise",
    "bit_error_rate",
    "calibrate",
    "calibrate_adc",
    "deploy",
    "describe",
    "generator_for",
    "load_chip",
    "load_chip_model",
    "on_chip",
    "preset",
    "reestimated_norms",
    "save_chip",
    "standard_normal",
    "voltage_at",
]
