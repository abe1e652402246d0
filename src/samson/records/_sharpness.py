"""The record of how sharp the networks of a comparison are, and how that goes with their robustness."""

from __future__ import annotations

from dataclasses import dataclass

from samson._shown import Shown
from samson.records._chips import CLEAN, ChipFamily
from samson.records._interval import Interval
from samson.records._plan import VERSION, Problem, Settings
from samson.records._run import Environment


@dataclass(frozen=True)
class SharpnessSettings:
    """How sharpness is measured.

    Args:
        split: The split on which it is measured.
        examples: Number of its examples.
        rules: The settings of each rule whose ball is looked at, by name.
        steps: Steps of the ascent for the worst case of several steps.
        noise: Name of the family of chips of the average rise.
        kind: Which of its kinds, by its label.
        trials: Chips of the average rise.
        seed: Seed of these chips, of the probes and of the resampling.
    """

    split: str
    examples: int
    rules: dict[str, Settings]
    steps: int
    noise: str
    kind: str
    trials: int
    seed: int


@dataclass(frozen=True)
class NetworkSharpness:
    """One network of a comparison.

    Args:
        method: Its training method.
        seed: Its training seed.
        measures: Each measure, by name; one without randomness has an interval of width 0.
        accuracies: Its metric without noise, and then the mean over chips for each kind of the family.
    """

    method: str
    seed: int
    measures: dict[str, Interval]
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class CorrelationRow:
    """How a measure of sharpness goes with the metric on one kind of chip: below 0, if sharper is worse.

    Args:
        measure: Name of the measure.
        kind: Label of the kind; `CLEAN` is the noise-free network.
        kendall: Kendall's τ-b over networks; the interval resamples whole methods.
        spearman: Spearman's ρ, likewise.
        kendall_of_means: τ-b over the methods' means; 0 where these are all the same.
        spearman_of_means: ρ over the methods' means, likewise.
        networks: Number of networks.
        methods: Number of methods.
    """

    measure: str
    kind: str
    kendall: Interval
    spearman: Interval
    kendall_of_means: float
    spearman_of_means: float
    networks: int
    methods: int


@dataclass(frozen=True, repr=False)
class SharpnessRecord(Shown):
    """Sharpness and robustness of the networks of one problem of a comparison.

    Args:
        problem: The problem.
        family: The family of chips on which the networks were measured.
        chips: Chips of each of its kinds.
        settings: How sharpness was measured.
        robustness_split: The split on which accuracies were measured.
        networks: What was measured so far, in the order of methods and seeds.
        correlations: One row for each measure and kind; none while networks are missing or with too few methods.
        confidence: Of their intervals.
        environment: What it ran on.
        version: Version of this layout.
    """

    problem: Problem
    family: ChipFamily
    chips: int
    settings: SharpnessSettings
    robustness_split: str
    networks: tuple[NetworkSharpness, ...]
    correlations: tuple[CorrelationRow, ...]
    confidence: float
    environment: Environment
    version: int = VERSION

    def __post_init__(self) -> None:
        for network in self.networks:
            if len(network.accuracies) != len(self.kinds):
                raise ValueError(
                    f"`accuracies` must be one for each of {len(self.kinds)} kinds, got "
                    f"{len(network.accuracies)} for {network.method}, seed {network.seed}."
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The labels of the kinds, after the noise-free network."""
        return CLEAN, *(kind.label for kind in self.family.kinds)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that every network has, in order."""
        first = self.networks[0].measures if self.networks else {}
        return tuple(name for name in first if all(name in network.measures for network in self.networks))

    def __str__(self) -> str:
        what = f"{len(self.networks)} networks of {self.problem.name} by {self.family.name}"
        lines = [
            f"{row.measure} and {self.problem.metric}, {'without noise' if row.kind == CLEAN else row.kind}: Kendall "
            f"{row.kendall}"
            for row in self.correlations
        ]
        return "\n".join([f"{what}: {', '.join(self.measures)}", *lines])
