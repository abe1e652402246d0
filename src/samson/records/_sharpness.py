"""The record of how sharp the networks of a comparison are, and how that goes with their robustness."""

from __future__ import annotations

from dataclasses import dataclass

from samson._checks import require
from samson.records._interval import Interval
from samson.records._run import Configuration, Environment, Settings


@dataclass(frozen=True)
class SharpnessSettings:
    """How sharpness is measured.

    Args:
        split: The split on which it is measured.
        examples: Number of its examples.
        rules: The settings of each rule whose ball is looked at, by name.
        steps: Steps of the ascent for the worst case of several steps.
        noise: Name of the noise family of the average rise.
        level: Its level.
        trials: Chips of the average rise.
        seed: Seed of these chips, of the probes and of the resampling.
    """

    split: str
    examples: int
    rules: dict[str, Settings]
    steps: int
    noise: str
    level: float
    trials: int
    seed: int


@dataclass(frozen=True)
class NetworkSharpness:
    """One network of a comparison.

    Args:
        method: Its training method.
        seed: Its training seed.
        measures: Each measure, by name; one without randomness has an interval of width 0.
        accuracies: Its mean accuracy over chips at each level of the comparison, a fraction.
    """

    method: str
    seed: int
    measures: dict[str, Interval]
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class CorrelationRow:
    """How a measure of sharpness goes with the accuracy at one noise level: below 0, if sharper is less accurate.

    Args:
        measure: Name of the measure.
        level: Noise level; 0 is the noise-free network.
        kendall: Kendall's τ-b over networks; the interval resamples whole methods.
        spearman: Spearman's ρ, likewise.
        kendall_of_means: τ-b over the methods' means.
        spearman_of_means: ρ over the methods' means.
        networks: Number of networks.
        methods: Number of methods.
    """

    measure: str
    level: float
    kendall: Interval
    spearman: Interval
    kendall_of_means: float
    spearman_of_means: float
    networks: int
    methods: int


@dataclass(frozen=True)
class SharpnessRecord:
    """Sharpness and robustness of the networks of one comparison.

    Args:
        configuration: The comparison.
        settings: How sharpness was measured.
        robustness_split: The split on which accuracies were measured.
        networks: What was measured so far, in the order of methods and seeds.
        correlations: One row for each measure and level; none while networks are missing or with too few methods.
        confidence: Of their intervals.
        environment: What it ran on.
        version: Version of this layout.
    """

    configuration: Configuration
    settings: SharpnessSettings
    robustness_split: str
    networks: tuple[NetworkSharpness, ...]
    correlations: tuple[CorrelationRow, ...]
    confidence: float
    environment: Environment
    version: int = 1

    def __post_init__(self) -> None:
        require(self.version == 1, "version", "be 1, the only one that this release reads", self.version)
        for network in self.networks:
            if len(network.accuracies) != len(self.configuration.levels):
                raise ValueError(
                    f"`accuracies` must be one for each of {len(self.configuration.levels)} levels, got "
                    f"{len(network.accuracies)} for {network.method}, seed {network.seed}."
                )

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that every network has, in order."""
        first = self.networks[0].measures if self.networks else {}
        return tuple(name for name in first if all(name in network.measures for network in self.networks))
