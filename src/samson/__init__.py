"""samson: neural networks that stay accurate on noisy inference hardware, and the evidence for it."""

from importlib.metadata import PackageNotFoundError, version

from samson.optim import (
    ASAM,
    SAM,
    SAMSON,
    Lookbehind,
    NoiseInjection,
    RhoSchedule,
    SharpnessAware,
    WeightClipping,
    norm_layers,
    param_groups,
)

try:
    __version__ = version("samson-torch")
except PackageNotFoundError:  # the source tree on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "ASAM",
    "SAM",
    "SAMSON",
    "Lookbehind",
    "NoiseInjection",
    "RhoSchedule",
    "SharpnessAware",
    "WeightClipping",
    "norm_layers",
    "param_groups",
]
