"""Simulated hardware: what a noisy chip does to the weights of any PyTorch model, without converting it."""

from samson.noise.attachment import hooked_layers
from samson.noise.base import FixedNoise, State, WeightNoise
from samson.noise.batch_norm import reestimated_norms
from samson.noise.bit_errors import BitErrors
from samson.noise.calibration import calibrate, calibrate_adc
from samson.noise.catalogue import CLASSES, NOISES, NoiseFamily
from samson.noise.chip import Chip, deploy
from samson.noise.chip_files import load_chip_model
from samson.noise.cmo import CMO, CMOConstants
from samson.noise.compose import Compose
from samson.noise.conductance import Mapping
from samson.noise.curves import InversePower, Logarithmic
from samson.noise.description import TensorDescription, describe
from samson.noise.device import DeviceNoise
from samson.noise.faults import DeadLines, StuckDevices
from samson.noise.gaussian import Gaussian
from samson.noise.lognormal import Lognormal
from samson.noise.operations import Operation
from samson.noise.pcm import PCM, CustomPCM, PCMHermes
from samson.noise.periphery import STANDARD_HWA, Periphery
from samson.noise.phase_change import PhaseChangeConstants
from samson.noise.presets import PRESETS, ChipModel, preset
from samson.noise.quantisation import Quantize
from samson.noise.random import generator_for, standard_normal
from samson.noise.reram import ReRAM, ReRAMConstants
from samson.noise.selection import ChipTensor, Select, on_chip, plain_name
from samson.noise.storage import load_chip, save_chip
from samson.noise.variation import Variation
from samson.noise.voltage import bit_error_rate, voltage_at

__all__ = [
    "CLASSES",
    "CMO",
    "NOISES",
    "PCM",
    "PRESETS",
    "STANDARD_HWA",
    "BitErrors",
    "CMOConstants",
    "Chip",
    "ChipModel",
    "ChipTensor",
    "Compose",
    "CustomPCM",
    "DeadLines",
    "DeviceNoise",
    "FixedNoise",
    "Gaussian",
    "InversePower",
    "Logarithmic",
    "Lognormal",
    "Mapping",
    "NoiseFamily",
    "Operation",
    "PCMHermes",
    "Periphery",
    "PhaseChangeConstants",
    "Quantize",
    "ReRAM",
    "ReRAMConstants",
    "Select",
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
    "hooked_layers",
    "load_chip",
    "load_chip_model",
    "on_chip",
    "plain_name",
    "preset",
    "reestimated_norms",
    "save_chip",
    "standard_normal",
    "voltage_at",
]
