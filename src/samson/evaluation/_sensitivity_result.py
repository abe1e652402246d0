"""The result of a sensitivity analysis: layers by what noise on them costs, and which to keep digital."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samson._names import counted
from samson._shown import Shown, not_all, number_form, table_text
from samson.evaluation._layers import Layer
from samson.evaluation._layout import Layout
from samson.evaluation._metric import Metric
from samson.noise import Coverage
from samson.records import (
    ChipKind,
    Interval,
    LayerRecord,
    SensitivityRecord,
    Subject,
    SuggestionRecord,
    replace_file,
    write_json,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, repr=False)
class Attempt(Shown):
    """A set of layers that was digital, with noise on the others.

    Args:
        digital: The layers, in the order in which they were added.
        drop: By how much the metric was worse than without noise, on the chips that choose.
    """

    digital: tuple[Layer, ...]
    drop: Interval

    @property
    def weights(self) -> int:
        """Number of weights that were digital."""
        return sum(layer.weights for layer in self.digital)

    def __str__(self) -> str:
        form = f"+z{number_form(self.drop.low, self.drop.high)}"
        return f"{len(self.digital)} layers ({self.weights:,} weights) digital, worse by {self.drop:{form}}"


@dataclass(frozen=True, repr=False)
class Suggestion(Shown):
    """Layers to keep digital, for a drop that is allowed.

    Args:
        chosen: The set that was chosen.
        confirmed: Its drop on as many other chips, with interval.
        max_drop: The drop that is allowed.
        share: Share of the weights that are then digital, of those that were on the chip.
        attempts: All sets that were measured on the chips that choose.
        trials: Number of chips that chose, and of others that confirmed.
        confidence: Of each interval by itself.
        select: What lies on the chip then, for `evaluate`, `deploy` and clipping.
    """

    chosen: Attempt
    confirmed: Interval
    max_drop: float
    share: float
    attempts: tuple[Attempt, ...]
    trials: int
    confidence: float
    select: list[Any]

    @property
    def digital(self) -> tuple[str, ...]:
        """Names of the layers to keep digital, in the order in which they were added."""
        return tuple(layer.name for layer in self.chosen.digital)

    @property
    def holds(self) -> bool:
        """Whether the upper end of the drop's interval is within the limit on the other chips too."""
        return self.confirmed.high <= self.max_drop

    @property
    def nothing_left(self) -> bool:
        """Whether all layers are digital, so that there is no chip."""
        return self.share == 1

    def __str__(self) -> str:
        if self.nothing_left:
            return (
                f"keep digital: {', '.join(self.digital)}, which are all, so that no chip is left: of "
                f"{counted(len(self.attempts) - 1, 'smaller set')} none is shown to be within the {self.max_drop:g} "
                "allowed"
            )
        names = f"{', '.join(self.digital)}, which hold {not_all(self.share):.1%} of the chip's weights"
        form = number_form(self.max_drop, self.confirmed.low, self.confirmed.high)
        return (
            f"keep digital: {names if self.digital else 'none'}\n"
            f"worse by {self.confirmed:{form}} ({100 * self.confidence:g}%) on {self.trials} chips that did not "
            f"choose, {'within' if self.holds else 'NOT shown to be within'} the {self.max_drop:g} allowed\n"
            f"chosen among {counted(len(self.attempts), 'set')} on {self.trials} other chips, where it was worse "
            f"by {self.chosen.drop.mean:{form}}; all on the same examples: confirm it on others"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Shown):
    """What noise on each layer costs, for other chips and these examples.

    Args:
        rows: The layers, the largest drop first.
        clean: The metric without noise.
        noisy: The metric with noise on all layers, one value a chip.
        drop: By how much noise on all layers makes the metric worse.
        examples: Number of examples, if the metric has a value for each.
        confidence: That all intervals hold together, between 0 and 1.
        metric: What was measured.
        layout: How the examples were put through the model.
        coverage: How much of the model lies on the chip.
        kind: The kind of chip.
        suggestion: Which layers to keep digital, if `max_drop` was given.
        subject: What was measured, on what, and how; None if unknown.
    """

    rows: tuple[LayerRecord, ...]
    clean: float
    noisy: tuple[float, ...]
    drop: Interval
    examples: int | None
    confidence: float
    metric: Metric
    layout: Layout
    coverage: Coverage
    kind: ChipKind
    suggestion: Suggestion | None = None
    subject: Subject | None = None

    @property
    def intervals(self) -> int:
        """How many intervals are shown together: two a layer, and that of noise on all."""
        return 2 * len(self.rows) + 1

    def record(self) -> SensitivityRecord:
        """Every trial, and what follows from them.

        Raises:
            ValueError: If it is unknown what was measured.
        """
        if self.subject is None:
            raise ValueError("`record` must be asked of what `sensitivity` gives, but this result was made by hand.")
        s = self.suggestion
        return SensitivityRecord(
            subject=self.subject,
            kind=self.kind,
            clean=self.clean,
            noisy=self.noisy,
            drop=self.drop,
            rows=self.rows,
            suggestion=None
            if s is None
            else SuggestionRecord(s.max_drop, s.digital, s.share, s.chosen.drop, s.confirmed, len(s.attempts)),
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a layer, for example for `pandas.DataFrame` (see that of the record)."""
        return self.record().table()

    def plot(self) -> Figure:
        """What noise on each layer costs, and what keeping it digital brings back, as a figure of plotly.

        Raises:
            ImportError: If plotly, of the extra `cli`, is missing.
        """
        from samson.report import figure_of, sensitivity_figure

        return figure_of(sensitivity_figure(self.record()))

    def save(self, path: Path | str) -> None:
        """Write the record as JSON, which `samson.records.read_json(path, SensitivityRecord)` reads."""
        write_json(Path(path), self.record())

    def page(self, path: Path | str) -> None:
        """Write a page with table and plot in one HTML file, which opens offline."""
        from samson.report import sensitivity_page

        replace_file(Path(path), sensitivity_page(self.record()).encode())

    def __str__(self) -> str:
        noisy = float(np.mean(self.noisy))
        plain = number_form(self.clean, noisy)
        form = f"+z{plain}"
        header = ["layer", "weights", "worse with noise on it alone", "better if it alone is digital"]
        rows = [[r.name, f"{r.weights:,}", f"{r.drop:{form}}", f"{r.gain:{form}}"] for r in self.rows]
        lines = [
            f"{self.metric.name}: {self.clean:{plain}} without noise, {noisy:{plain}} with noise on all "
            f"{len(self.rows)} layers, worse by {self.drop:{form}}",
            table_text(header, rows),
            f"{len(self.noisy)} chips, the same for every row; the {self.intervals} intervals hold together with "
            f"{100 * self.confidence:g}% (Bonferroni), for other chips and these examples",
            f"Chips: {self.kind}",
            f"On the chip: {self.coverage}",
            *([] if self.suggestion is None else [str(self.suggestion)]),
        ]
        return "\n".join(lines)
