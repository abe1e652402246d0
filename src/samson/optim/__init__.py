"""Sharpness-aware training as an ordinary PyTorch optimizer: rules, the wrapper, noise injection, clipping."""

from samson.optim.clipping import WeightClipping
from samson.optim.groups import param_groups
from samson.optim.injection import NoiseInjection
from samson.optim.rules import ASAM, RULES, SAM, SAMSON, Rule
from samson.optim.wrapper import SharpnessAware

__all__ = [
    "ASAM",
    "RULES",
    "SAM",
    "SAMSON",
    "NoiseInjection",
    "Rule",
    "SharpnessAware",
    "WeightClipping",
    "param_groups",
]
