"""How a network is trained: length, mini-batches, learning rate, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samson._checks import require, require_whole
from samson._errors import choose
from samson.records import Settings, finite

SCHEDULES = ("cosine", "one-cycle", "multi-step", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
MILESTONES = (0.25, 0.5, 0.75)
"""Shares of the training at which "multi-step" divides the learning rate by 10: epochs 50, 100 and 150 of 200."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same for all methods that are compared.

    Args:
        epochs: Passes over the training split, ≥ 1.
        batch_size: Examples in a mini-batch, ≥ 1; a smaller last one is left out.
        schedule: Of the learning rate: "cosine" down to zero, "one-cycle" (up over the first 30 %, then down, both by
            a cosine), "multi-step" (÷ 10 at 25, 50 and 75 %) or "constant".
        warmup: Share of the training in which the learning rate first rises from zero in a line, 0 to 1.
        label_smoothing: Of a cross-entropy, 0 to 1.
        clip_norm: Largest norm of the gradient, > 0; infinity leaves it as it is.
        accumulate: Parts into which a mini-batch is split, ≥ 1; their gradients are added.
        precision: "float32", "bfloat16" (autocast, with weights in float32), or "auto": bfloat16 where that is
            faster, on GPUs, and on processors with arithmetic for it if the network has dense convolutions.
        channels_last: Whether images lie in memory channel by channel last; True is faster for convolutions.
        compile: Whether the network is compiled.
        ema: Decay of an exponential moving average of the weights, which then is the result; 0 has none.
        augment: Names of augmentations joined by "+", "none", or "default" for those of the data set.

    Raises:
        ValueError: If a setting is out of its range.
    """

    epochs: int = 30
    batch_size: int = 128
    schedule: str = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float = math.inf
    accumulate: int = 1
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    ema: float = 0.0
    augment: str = "default"

    def __post_init__(self) -> None:
        require_whole(1, epochs=self.epochs, batch_size=self.batch_size, accumulate=self.accumulate)
        choose("`schedule`", self.schedule, SCHEDULES)
        choose("`precision`", self.precision, PRECISIONS)
        for name in ("warmup", "label_smoothing", "ema"):
            require(0 <= getattr(self, name) < 1, name, "be ≥ 0 and < 1", getattr(self, name))
        require(self.clip_norm > 0, "clip_norm", "be > 0", self.clip_norm)
        rises = self.schedule == "one-cycle" and self.warmup > 0
        require(not rises, "warmup", "be 0 with the schedule 'one-cycle', which rises itself", self.warmup)

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied with at a step, from 0, of so many."""
        done = step / steps
        if done < self.warmup:
            return (step + 1) / max(1, math.ceil(self.warmup * steps - ROUNDING))
        match self.schedule:
            case "cosine":
                rest = (done - self.warmup) / (1 - self.warmup)
                return (1 + math.cos(math.pi * rest)) / 2
            case "one-cycle":
                up = 0.3
                turn = done / up - 1 if done < up else (done - up) / (1 - up)
                return (1 + math.cos(math.pi * turn)) / 2
            case "multi-step":
                return float(0.1 ** sum(done >= milestone for milestone in MILESTONES))
        return 1.0

    def record(self) -> Settings:
        """The settings as a record holds them."""
        return {name: value if isinstance(value, str) else finite(float(value)) for name, value in vars(self).items()}


ROUNDING = 1e-9
"""By what a product of a share and a number of steps may be above a whole number."""

FIELDS: dict[str, type] = {name: type(value) for name, value in vars(Recipe()).items()}
"""The recipe's settings with their types."""

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(epochs=30, batch_size=64, precision="float32", channels_last=False),
    "japanese-vowels": Recipe(epochs=60, batch_size=32, precision="float32"),
    "tiny-shakespeare": Recipe(epochs=5, batch_size=32, warmup=0.1, clip_norm=1.0),
}
"""Recipes by data set, where the default would not suit it."""
