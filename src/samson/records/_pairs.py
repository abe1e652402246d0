"""Records of several methods on the same chips."""

from __future__ import annotations

from dataclasses import dataclass

from samson._shown import Shown
from samson.records._chips import ChipKind
from samson.records._evaluation import Subject
from samson.records._interval import Interval


@dataclass(frozen=True)
class PairedMethod:
    """One method on the chips.

    Args:
        name: The method.
        trials: One value a chip, for each of its networks.
        clean: The value without noise, of each network.
        mean: Over networks and chips, with its interval.
        gain: How much larger that is than the baseline's, with an interval that holds together with those of the other
            methods (Bonferroni); None for the baseline.
        p_value: Of no difference, adjusted by Holm; None for the baseline.
        unit: What the gain's interval speaks of (see `samson.statistics.Difference`).
        common_chips: Whether the chips are those of the baseline.
        coverage: The share of its weights that lie on the chip; None if unknown.
        multiply_adds: The share of its products that are with these weights; None if unknown.
    """

    name: str
    trials: tuple[tuple[float, ...], ...]
    clean: tuple[float | None, ...]
    mean: Interval
    gain: Interval | None
    p_value: float | None
    unit: str
    common_chips: bool
    coverage: float | None = None
    multiply_adds: float | None = None


@dataclass(frozen=True, repr=False)
class PairedRecord(Shown):
    """Several methods on chips of one kind.

    Args:
        subject: What was measured; how much of each network lies on the chip is with its method.
        kind: The kind of chip.
        baseline: The method to which the others are compared.
        methods: What was measured of each.
        version: Version of this layout.
    """

    subject: Subject
    kind: ChipKind
    baseline: str
    methods: tuple[PairedMethod, ...]
    version: int = 2

    def __str__(self) -> str:
        lines = [f"{method.name}: {method.mean}, {len(method.trials[0])} chips" for method in self.methods]
        what = f"{self.subject.metric} of {len(self.methods)} methods on {self.subject.data}, chips {self.kind}"
        return "\n".join([what, *lines])
