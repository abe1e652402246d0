"""Records of how settings were found: by a search, and by a range test, one short training whose ρ rises."""

from __future__ import annotations

from dataclasses import dataclass

from samson._checks import require
from samson._shown import Shown
from samson.records._plan import VERSION, Candidates, Problem, Search, Settings
from samson.records._run import Environment


@dataclass(frozen=True)
class Tried:
    """One choice of settings, and what came of it.

    Args:
        settings: The settings that were searched.
        values: The metric on the validation split by seed; None where the training diverged or failed.
    """

    settings: Settings
    values: tuple[float | None, ...]


@dataclass(frozen=True, repr=False)
class SearchRecord(Shown):
    """How a method's settings were chosen on a problem.

    Args:
        problem: What was trained on.
        method: The method.
        search: How settings were drawn and compared.
        candidates: The values of each setting.
        tried: The choices, in the order of the search.
        chosen: The best of them.
        environment: What it ran on.
        split: The split that was measured.
        version: Version of this layout.
    """

    problem: Problem
    method: str
    search: Search
    candidates: Candidates
    tried: tuple[Tried, ...]
    chosen: Settings
    environment: Environment
    split: str = "validation"
    version: int = VERSION

    def __post_init__(self) -> None:
        known = self.chosen in [one.settings for one in self.tried]
        require(known, "chosen", "be one of those that were tried", self.chosen)
        require(self.split == "validation", "split", "be 'validation', which alone may choose", self.split)

    def __str__(self) -> str:
        chosen = ", ".join(f"{name} {value}" for name, value in self.chosen.items())
        return f"{self.problem.name}, {self.method}: {chosen}, of {len(self.tried)} that were tried"


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
