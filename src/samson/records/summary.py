"""The rows of a summary: what the records of a comparison say about each method at each noise level."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval; accuracies and their differences are fractions."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class SummaryRow:
    """One method at one noise level.

    Args:
        method: Name of the method.
        noise: Name of the noise family.
        level: Noise level; 0 is the noise-free network.
        accuracy: Mean over chips with its interval. The unit is the chip, averaged over the seeds' networks.
        over_seeds: The same mean with its interval over training seeds and chips: other networks, trained like these.
            None with one seed.
        std: Standard deviation between these chips' means; 0 at level 0.
        worst: The lowest accuracy of any one network on any one chip.
        trials: Chips per network (1 at level 0).
        seeds: Number of networks, one a training seed.
        by_seed: Each network's mean over chips, by training seed.
        gain: Paired difference to the baseline on the same chips and seeds; None for the baseline, or without it.
        gain_over_seeds: The same with its interval over training seeds and chips; None also with one seed.
    """

    method: str
    noise: str
    level: float
    accuracy: Estimate
    over_seeds: Estimate | None
    std: float
    worst: float
    trials: int
    seeds: int
    by_seed: dict[int, float]
    gain: Estimate | None
    gain_over_seeds: Estimate | None
