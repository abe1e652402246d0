"""samson: neural networks that stay accurate on noisy inference hardware, and the evidence for it."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samson.optim import (
        ASAM,
        SAM,
        SAMSON,
        FixedClipping,
        LearnedRange,
        Lookbehind,
        NoiseInjection,
        RangeSAM,
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
    "FixedClipping",
    "LearnedRange",
    "Lookbehind",
    "NoiseInjection",
    "RangeSAM",
    "RhoSchedule",
    "SharpnessAware",
    "WeightClipping",
    "norm_layers",
    "param_groups",
]


def __getattr__(name: str) -> Any:
    """What is in `__all__`, imported when it is first asked for: the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("samson.optim"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
