"""The record of a range test: one short training whose ρ rises."""

from __future__ import annotations

from dataclasses import dataclass

from samson._shown import Shown
from samson.records._plan import VERSION, Problem, Settings
from samson.records._run import Environment


@dataclass(frozen=True)
class RhoPoint:
    """Some steps, one after another, of a range test.

    Args:
        rho: Their ρ, the geometric mean.
        clean_loss: Their mean loss at the weights.
        perturbed_loss: Their mean loss at the perturbed weights.
    """

    rho: float
    clean_loss: float
    perturbed_loss: float


@dataclass(frozen=True, repr=False)
class RhoRecord(Shown):
    """What a range test found.

    Args:
        problem: What was trained on.
        method: The method.
        settings: Its settings; their ρ plays no part.
        seed: Training seed.
        start_loss: The loss of the first step.
        points: Losses against ρ, which rises.
        suggested: The suggested ρ; None if the perturbed loss gives none.
        environment: What it ran on.
        version: Version of this layout.
    """

    problem: Problem
    method: str
    settings: Settings
    seed: int
    start_loss: float
    points: tuple[RhoPoint, ...]
    suggested: float | None
    environment: Environment
    version: int = VERSION

    def __str__(self) -> str:
        found = "no rho" if self.suggested is None else f"rho {self.suggested:.3g}"
        return f"{self.problem.name}, {self.method}: {found} suggested, by {len(self.points)} points of a range test"
