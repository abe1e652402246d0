"""SAM: the round ball."""

from __future__ import annotations

from dataclasses import dataclass

from samson.optim.rules._base import AscentRule


@dataclass(frozen=True)
class SAM(AscentRule):
    """Sharpness-aware minimisation: T = 1, a round ball.

    Args:
        rho: Radius ρ ≥ 0.

    Example:
        >>> SAM(rho=0.1)
        SAM(rho=0.1)

    Reference: Foret et al. 2021, arXiv 2010.01412, equation 2.
    """

    rho: float = 0.05
