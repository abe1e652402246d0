"""The record of a sensitivity analysis: what noise on each layer costs; every trial is kept."""

from __future__ import annotations

from dataclasses import dataclass

from samson.records.evaluation import CheckRecord
from samson.records.run import Environment
from samson.records.summary import Estimate


@dataclass(frozen=True)
class LayerRecord:
    """One layer.

    Args:
        name: Name of the layer.
        weights: Number of its weights on the chip.
        alone: The metric with noise on this layer alone, one value a chip.
        others: The metric with noise on all layers but this one, on the same chips.
        drop: By how much noise on this layer alone makes the metric worse than without noise.
        gain: By how much the metric is better with this layer digital than with noise on all.
    """

    name: str
    weights: int
    alone: tuple[float, ...]
    others: tuple[float, ...]
    drop: Estimate
    gain: Estimate


@dataclass(frozen=True)
class SuggestionRecord:
    """Layers to keep digital, for a drop that is allowed.

    Args:
        max_drop: The drop that is allowed.
        digital: Names of the layers, in the order in which they were added.
        share: Share of the weights on the chip that are then digital.
        chosen: The drop on the chips that chose.
        confirmed: The drop on as many other chips.
        attempts: How many sets were measured on the chips that chose.
        confidence: Of both intervals, each by itself.
    """

    max_drop: float
    digital: tuple[str, ...]
    share: float
    chosen: Estimate
    confirmed: Estimate
    attempts: int
    confidence: float

    @property
    def holds(self) -> bool:
        """Whether the other chips confirm it."""
        return self.confirmed.high <= self.max_drop


@dataclass(frozen=True)
class SensitivityRecord:
    """What noise on each layer of a network costs.

    Args:
        network: What was measured, for example the path of a checkpoint.
        data: Name of the data set and split.
        examples: Number of its examples, if the metric has a value for each.
        noise: The noise with its settings.
        metric: Name of the metric.
        higher_is_better: Its direction; drops and gains are positive where they are worse and better.
        is_fraction: Whether it lies between 0 and 1, and is shown in percent.
        seed: Seed of the set of chips.
        confidence: That the intervals of drops and gains hold together.
        clean: The metric without noise.
        noisy: The metric with noise on all layers, one value a chip.
        drop: By how much noise on all layers makes it worse.
        rows: The layers, the largest drop first.
        suggestion: Which layers to keep digital, if that was asked for.
        environment: What the analysis ran on.
        finished: When, in UTC, ISO 8601.
        autocast: The lower precision in which the model ran, "bfloat16" or "float16", if it did.
        compiled: Whether it ran compiled.
        batch_size: Examples in a batch; None where the data came in batches.
        channels_last: Whether inputs were put in channels-last order.
        check: What a lower precision or compiling changed with noise on all layers, where one was used.
        version: Version of this layout.
    """

    network: str
    data: str
    examples: int | None
    noise: str
    metric: str
    higher_is_better: bool
    is_fraction: bool
    seed: int
    confidence: float
    clean: float
    noisy: tuple[float, ...]
    drop: Estimate
    rows: tuple[LayerRecord, ...]
    suggestion: SuggestionRecord | None
    environment: Environment
    finished: str
    autocast: str | None = None
    compiled: bool = False
    batch_size: int | None = None
    channels_last: bool = False
    check: CheckRecord | None = None
    version: int = 1

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"`version` must be 1, the only one that this release reads, got {self.version!r}.")
        if not self.rows:
            raise ValueError("`rows` must hold at least one layer, got none.")
        for row in self.rows:
            if not len(row.alone) == len(row.others) == len(self.noisy):
                raise ValueError(
                    f"`rows` must hold {len(self.noisy)} chips, got {len(row.alone)} and {len(row.others)} for "
                    f"{row.name!r}."
                )
        unknown = set(self.suggestion.digital if self.suggestion else ()) - {row.name for row in self.rows}
        if unknown:
            raise ValueError(f"`suggestion` must name layers of `rows`, got {', '.join(sorted(unknown))}.")

    @property
    def intervals(self) -> int:
        """How many intervals hold together: two a layer, and that of noise on all."""
        return 2 * len(self.rows) + 1
