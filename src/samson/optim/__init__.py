"""Sharpness-aware training as an ordinary PyTorch optimizer: rules, the wrappers, noise injection, clipping."""

from samson.optim.ascent import Ascent
from samson.optim.clipping import WeightClipping
from samson.optim.groups import norm_layers, param_groups, scales
from samson.optim.lookbehind import Lookbehind
from samson.optim.memory import Copies
from samson.optim.rules import ASAM, RULES, SAM, SAMSON, AscentRule, NoiseInjection, Rule, ScalingRule
from samson.optim.schedules import RhoSchedule
from samson.optim.sharding import is_sharded
from samson.optim.wrapper import SharpnessAware

__all__ = [
    "ASAM",
    "RULES",
    "SAM",
    "SAMSON",
    "Ascent",
    "AscentRule",
    "Copies",
    "Lookbehind",
    "NoiseInjection",
    "RhoSchedule",
    "Rule",
    "ScalingRule",
    "SharpnessAware",
    "WeightClipping",
    "is_sharded",
    "norm_layers",
    "param_groups",
    "scales",
]
