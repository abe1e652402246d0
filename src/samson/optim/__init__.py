"""Sharpness-aware training as an ordinary PyTorch optimizer: rules, the wrappers, noise injection, clipping."""

from samson.optim.climber import Ascent
from samson.optim.clipping import WeightClipping
from samson.optim.groups import norm_layers, param_groups
from samson.optim.injection import NoiseInjection
from samson.optim.lookbehind import Lookbehind
from samson.optim.rules import ASAM, RULES, SAM, SAMSON, Rule
from samson.optim.schedules import RhoSchedule
from samson.optim.wrapper import SharpnessAware

__all__ = [
    "ASAM",
    "RULES",
    "SAM",
    "SAMSON",
    "Ascent",
    "Lookbehind",
    "NoiseInjection",
    "RhoSchedule",
    "Rule",
    "SharpnessAware",
    "WeightClipping",
    "norm_layers",
    "param_groups",
]
