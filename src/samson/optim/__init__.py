"""Sharpness-aware training as an ordinary PyTorch optimizer: rules, the wrappers, noise injection, clipping."""

from samson.optim._ascent import Ascent, Part, climb
from samson.optim._chip import chip_weights
from samson.optim._clipping import FixedClipping, WeightClipping
from samson.optim._compiled import compiled_climb
from samson.optim._contract import check_rule
from samson.optim._groups import norm_layers, param_groups
from samson.optim._learned_range import LearnedRange
from samson.optim._lookbehind import Lookbehind
from samson.optim._matrices import ChipWeight
from samson.optim._memory import Workspace
from samson.optim._scales import scales
from samson.optim._schedules import RhoSchedule
from samson.optim._sharding import is_sharded, local, process_groups, reshard
from samson.optim._wrapper import SharpnessAware
from samson.optim.rules import (
    ASAM,
    RULES,
    SAM,
    SAMSON,
    AscentRule,
    FastScale,
    NoiseInjection,
    Norms,
    RangeSAM,
    Rule,
    ScalingRule,
)

__all__ = [
    "ASAM",
    "RULES",
    "SAM",
    "SAMSON",
    "Ascent",
    "AscentRule",
    "FastScale",
    "FixedClipping",
    "LearnedRange",
    "Lookbehind",
    "NoiseInjection",
    "Norms",
    "RangeSAM",
    "RhoSchedule",
    "Rule",
    "ScalingRule",
    "SharpnessAware",
    "WeightClipping",
    "check_rule",
    "is_sharded",
    "norm_layers",
    "param_groups",
    "scales",
]
