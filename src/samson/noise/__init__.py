"""Simulated hardware: what a noisy chip does to the weights of any PyTorch model, without converting it."""

from samson._select import Select, plain_name
from samson.noise._aihwkit import aihwkit_source
from samson.noise._attachment import hooked_layers
from samson.noise._base import FixedNoise, State, WeightNoise
from samson.noise._batch_norm import Moments, moments, reestimated_norms
from samson.noise._bit_errors import BitErrors
from samson.noise._calibration import calibrate, calibrate_adc
from samson.noise._calibration_files import Calibration, load_calibration
from samson.noise._catalogue import CLASSES, FAMILIES, NOISES, NoiseFamily
from samson.noise._chip import Chip, deploy
from samson.noise._chip_files import load_chip_model
from samson.noise._cmo import CMO, FALCONE, CMOConstants
from samson.noise._compose import Compose
from samson.noise._conductance import Mapping
from samson.noise._contract import check_noise
from samson.noise._curves import InversePower, Logarithmic, logarithm, polynomial
from samson.noise._description import Coverage, TensorDescription, coverage, describe
from samson.noise._device import DeviceNoise
from samson.noise._faults import DeadLines, StuckDevices
from samson.noise._gaussian import Gaussian
from samson.noise._lognormal import Lognormal
from samson.noise._measured import MeasuredDevices
from samson.noise._multiply_adds import Products, multiply_adds
from samson.noise._operations import Operation
from samson.noise._pcm import GENERIC, HERMES, PCM, CustomPCM, PCMHermes
from samson.noise._periphery import STANDARD_HWA, WIRES, Periphery
from samson.noise._phase_change import PhaseChange, PhaseChangeConstants
from samson.noise._presets import PRESETS, ChipModel, preset
from samson.noise._quantisation import Quantize
from samson.noise._random import generator_for, standard_normal
from samson.noise._reram import WAN2022, ReRAM, ReRAMConstants
from samson.noise._rescale import rescale
from samson.noise._selection import ChipTensor, on_chip
from samson.noise._training import ThroughChip
from samson.noise._variation import Variation
from samson.noise._voltage import RATES, RatesByVoltage, bit_error_rate, voltage_at

__all__ = [
    "CLASSES",
    "CMO",
    "FAMILIES",
    "NOISES",
    "PCM",
    "PRESETS",
    "RATES",
    "STANDARD_HWA",
    "BitErrors",
    "CMOConstants",
    "Calibration",
    "Chip",
    "ChipModel",
    "ChipTensor",
    "Compose",
    "Coverage",
    "CustomPCM",
    "DeadLines",
    "DeviceNoise",
    "FixedNoise",
    "Gaussian",
    "InversePower",
    "Logarithmic",
    "Lognormal",
    "Mapping",
    "MeasuredDevices",
    "NoiseFamily",
    "Operation",
    "PCMHermes",
    "Periphery",
    "PhaseChangeConstants",
    "Products",
    "Quantize",
    "RatesByVoltage",
    "ReRAM",
    "ReRAMConstants",
    "Select",
    "State",
    "StuckDevices",
    "TensorDescription",
    "ThroughChip",
    "Variation",
    "WeightNoise",
    "aihwkit_source",
    "bit_error_rate",
    "calibrate",
    "calibrate_adc",
    "check_noise",
    "coverage",
    "deploy",
    "describe",
    "generator_for",
    "hooked_layers",
    "load_calibration",
    "load_chip_model",
    "multiply_adds",
    "on_chip",
    "plain_name",
    "preset",
    "reestimated_norms",
    "rescale",
    "standard_normal",
    "voltage_at",
]
