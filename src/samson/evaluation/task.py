"""One trial: a model on one chip, scored on all of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from samson.evaluation.layout import Layout
from samson.evaluation.metrics import Metric
from samson.evaluation.scoring import Scores, scores
from samson.noise import Chip, WeightNoise, deploy, reestimated_norms
from samson.noise.periphery import Periphery
from samson.noise.selection import Select


@dataclass(frozen=True, eq=False)
class Task:
    """All that a trial needs, except its number: the same number gives the same scores in every process.

    Args:
        model: The model.
        batches: The data, in batches.
        noise: What the hardware does to a weight.
        metric: What is measured.
        seed: Seed of the set of chips.
        layout: How examples are put through the model.
        select: Which layers lie on the chip.
        read_block: Examples of one reading.
        time_s: Time of the readings, in seconds.
        periphery: What surrounds the weights.
        norm_batches: Data from which each chip's batch-norm statistics are estimated anew, on its first reading.
    """

    model: nn.Module
    batches: Iterable[Any]
    noise: WeightNoise
    metric: Metric
    seed: int = 0
    layout: Layout = field(default_factory=Layout)
    select: Select = None
    read_block: int | None = None
    time_s: float | None = None
    periphery: Periphery | None = None
    norm_batches: Iterable[Any] | None = None

    def __call__(self, number: int) -> Scores:
        """Run the trial of a number."""
        return self.on(self.chip(number))

    def chip(self, number: int) -> Chip:
        """The chip of a number."""
        return deploy(
            self.model,
            self.noise,
            seed=self.seed,
            trial=number,
            select=self.select,
            periphery=self.periphery,
        )

    def on(self, chip: Chip) -> Scores:
        """The scores on a chip."""
        with self.norms_of(chip):
            return self._scores(
                read_block=self.read_block,
                reading=lambda block: chip.at(self.time_s, reading=block + self.first_reading),
            )

    @property
    def first_reading(self) -> int:
        """Number of the first reading for the data: batch norm takes the one before."""
        return 0 if self.norm_batches is None else 1

    @contextmanager
    def norms_of(self, chip: Chip) -> Iterator[None]:
        """Batch norm as estimated anew on a chip until the block ends, if that is asked for."""
        with ExitStack() as stack:
            if self.norm_batches is not None:
                with self.layout.lowered(self.model), chip.at(self.time_s, reading=0):
                    stack.enter_context(reestimated_norms(self.model, self.norm_batches))
            yield

    def clean(self) -> Scores:
        """The scores without noise or periphery, by the same layout: a drop compares like with like."""
        return self._scores()

    def _scores(self, **how: Any) -> Scores:
        of = self.layout
        return scores(
            self.model,
            self.batches,
            self.metric,
            channels_last=of.channels_last,
            forward=of.forward(self.model),
            **how,
        )
