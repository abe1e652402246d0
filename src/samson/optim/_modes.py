"""What a sharpness-aware step consists of, as settings that combine freely."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from samson._checks import require, require_non_negative, require_number, require_one_of, require_whole
from samson.optim._directions import DIRECTIONS, PREVIOUS
from samson.optim._reuse import ACROSS


@dataclass(frozen=True)
class Modes:
    """The modes of `SharpnessAware`, checked as a whole.

    Args:
        injects: Whether the rule draws the perturbation, so that no direction is needed.
        ascent: This and the others as for `SharpnessAware`.

    Raises:
        ValueError: If a setting is out of its range, or two do not go together.
    """

    injects: bool
    ascent: str
    every: int
    reuse: float
    mix: float
    own_ascent: bool

    def __post_init__(self) -> None:
        two = not self.one_pass
        require_one_of(DIRECTIONS, ascent=self.ascent)
        require(not self.injects or self.ascent == "gradient", "ascent", "be left out with NoiseInjection", self.ascent)
        require_whole(1, every=self.every)
        require_non_negative(reuse=self.reuse)
        require_number("mix", self.mix)
        require(0 <= self.mix <= 1, "mix", "be between 0 and 1", self.mix)
        between = two and self.every > 1
        require(not self.reuse or between, "reuse", "be 0 without `every` > 1 and a first pass", self.reuse)
        require(not self.own_ascent or two, "own_ascent", "be False in a mode without a first pass", self.own_ascent)
        require(
            not self.own_ascent or not self.keeps_clean_gradient,
            "own_ascent",
            "be False with `mix` < 1 or `reuse`, which step with the clean gradient that each process has for itself",
            self.own_ascent,
        )

    @property
    def one_pass(self) -> bool:
        """Whether the direction of the ascent needs no pass of its own."""
        return self.injects or self.ascent != "gradient"

    @property
    def keeps_clean_gradient(self) -> bool:
        """Whether the step needs the gradient of the clean pass once more."""
        return self.mix < 1 or self.reuse > 0

    @property
    def kept(self) -> str | None:
        """The key of what a parameter's state keeps for the steps to come."""
        return PREVIOUS if self.ascent == "previous" else ACROSS if self.reuse else None


def require_replicas(model: nn.Module | None) -> None:
    """Refuse, for `own_ascent`, a model that cannot do without communication in the first pass.

    Raises:
        ValueError: If it is not wrapped in DistributedDataParallel, or has a static graph there.
    """
    if not hasattr(model, "no_sync"):
        raise ValueError(
            "`own_ascent=True` needs the model as DistributedDataParallel wraps it: pass `model=ddp`, got "
            f"{type(model).__name__}."
        )
    if getattr(model, "static_graph", False):
        raise ValueError(
            "`own_ascent` must be False with DistributedDataParallel(static_graph=True), which needs the first pass "
            "to communicate. Leave one out."
        )
