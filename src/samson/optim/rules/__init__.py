"""Rules: how weights are perturbed before a gradient is taken. One formula a file, its fast form beside it."""

from samson.optim.rules._asam import ASAM
from samson.optim.rules._base import (
    AscentRule,
    FastScale,
    Norms,
    Rule,
    ScalingRule,
    fast_scale,
    require_ascent,
)
from samson.optim.rules._noise_injection import NoiseInjection
from samson.optim.rules._policies import NAMELESS, POLICIES
from samson.optim.rules._range import RangeSAM, sizes_of
from samson.optim.rules._sam import SAM
from samson.optim.rules._samson import SAMSON

RULES: dict[str, type[Rule]] = {"sam": SAM, "asam": ASAM, "samson": SAMSON, "rangesam": RangeSAM}
"""The ascent rules by name: one that joins them joins the contract tests and the command line."""

__all__ = [
    "ASAM",
    "NAMELESS",
    "POLICIES",
    "RULES",
    "SAM",
    "SAMSON",
    "AscentRule",
    "FastScale",
    "NoiseInjection",
    "Norms",
    "RangeSAM",
    "Rule",
    "ScalingRule",
    "fast_scale",
    "require_ascent",
    "sizes_of",
]
