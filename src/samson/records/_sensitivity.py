"""The record of a sensitivity analysis: what noise on each layer costs; every trial is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samson._shown import Shown, number_form
from samson.records._chips import ChipKind
from samson.records._evaluation import Subject, table_row, without_noise
from samson.records._interval import Interval


@dataclass(frozen=True, repr=False)
class LayerRecord(Shown):
    """What noise on one layer costs, and what keeping it digital brings back.

    Args:
        name: Name of the layer.
        weights: Number of its weights on the chip.
        alone: The metric with noise on this layer alone, one value a chip.
        others: The metric with noise on all layers but this one, on the same chips.
        drop: By how much noise on this layer alone makes the metric worse than without noise.
        gain: By how much the metric is better with this layer digital than with noise on all, chip by chip.
    """

    name: str
    weights: int
    alone: tuple[float, ...]
    others: tuple[float, ...]
    drop: Interval
    gain: Interval

    def __str__(self) -> str:
        form = f"+z{number_form(self.drop.low, self.drop.high, self.gain.low, self.gain.high)}"
        worse, better = f"{self.drop:{form}}", f"{self.gain:{form}}"
        return f"{self.name}: worse by {worse} with noise on it alone, better by {better} if it alone is digital"


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
    """

    max_drop: float
    digital: tuple[str, ...]
    share: float
    chosen: Interval
    confirmed: Interval
    attempts: int

    @property
    def holds(self) -> bool:
        """Whether the other chips confirm it."""
        return self.confirmed.high <= self.max_drop


@dataclass(frozen=True, repr=False)
class SensitivityRecord(Shown):
    """What noise on each layer of a network costs.

    Args:
        subject: What was measured; its confidence is that the intervals of drops and gains hold together.
        kind: The kind of chip.
        clean: The metric without noise.
        noisy: The metric with noise on all layers, one value a chip.
        drop: By how much noise on all layers makes it worse.
        rows: The layers, the largest drop first.
        suggestion: Which layers to keep digital, if that was asked for.
        version: Version of this layout.
    """

    subject: Subject
    kind: ChipKind
    clean: float
    noisy: tuple[float, ...]
    drop: Interval
    rows: tuple[LayerRecord, ...]
    suggestion: SuggestionRecord | None
    version: int = 2

    def __post_init__(self) -> None:
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

    def table(self) -> list[dict[str, Any]]:
        """One row a layer, for example for `pandas.DataFrame`; `trials` is the number of chips.

        `drop` is above 0 where noise on the layer alone makes the metric worse, `gain` where it is better with that
        layer alone digital.
        """
        rows = []
        for row in self.rows:
            ends = {
                f"{name}{end}": value
                for name, of in (("drop", row.drop), ("gain", row.gain))
                for end, value in (("", of.mean), ("_low", of.low), ("_high", of.high))
            }
            own = {"layer": row.name, "weights": row.weights} | ends
            rows.append(table_row(self.subject, self.kind, self.clean, **own, trials=len(self.noisy)))
        return rows

    def __str__(self) -> str:
        lines = [f"{row.name}: worse by {row.drop} with noise on it alone" for row in self.rows]
        what = f"{without_noise(self.subject, self.clean)}, chips {self.kind}"
        return "\n".join([f"{what}: worse by {self.drop}", *lines])
