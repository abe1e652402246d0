"""Differences that are shown together, and allow for how many they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from samson._checks import require_between
from samson._shown import Shown, number_form, table_text
from samson.statistics._differences import holm
from samson.statistics._means import CONFIDENCE
from samson.statistics._pairs import Difference, Over, Paired


@dataclass(frozen=True, repr=False)
class Family(Shown):
    """Differences that are shown together, allowing for how many they are.

    Args:
        rows: By the label of the comparison and the method: the difference, its interval simultaneous with the others'
            (Bonferroni) and its p-value adjusted by Holm.
    """

    rows: dict[tuple[str, str], Difference]

    def __str__(self) -> str:
        form = number_form(0.0, *(end for d in self.rows.values() for end in (d.low, d.high)))
        rows = [
            [f"{at}: {d.name} − {d.baseline}", f"{d.interval:+{form}}", f"{d.p_value:.2g}"]
            for (at, _), d in self.rows.items()
        ]
        return f"{len(rows)} that hold together\n{table_text(['difference', 'mean and interval', 'p (Holm)'], rows)}"


def family(
    comparisons: Mapping[str, Paired], baseline: str, confidence: float = CONFIDENCE, *, over: Over | None = None
) -> Family:
    """The differences of every method to a baseline in several comparisons, such as one a noise level.

    Args:
        comparisons: By a label, for example the noise level.
        baseline: The method to which the others are compared.
        confidence: That all intervals hold together, between 0 and 1.
        over: As for `Paired.difference`.

    Raises:
        TypeError: If `comparisons` is no dict of comparisons.
        ValueError: If `confidence` is out of range, or a comparison lacks the baseline; or as for `Paired.difference`.
    """
    require_between(0, 1, confidence=confidence)
    if not (isinstance(comparisons, Mapping) and all(isinstance(one, Paired) for one in comparisons.values())):
        raise TypeError(f"`comparisons` must be a dict of comparisons by label, got {comparisons!r:.80}.")
    names = [(label, name) for label, paired in comparisons.items() for name in paired.models if name != baseline]
    for paired in comparisons.values():
        if baseline not in paired.models:
            raise ValueError(
                f"`baseline` must be a method of every comparison, got {baseline!r}. Available: "
                f"{', '.join(paired.models)}."
            )
    each = 1 - (1 - confidence) / max(len(names), 1)
    rows = {(label, name): comparisons[label].difference(name, baseline, each, over=over) for label, name in names}
    adjusted = holm([row.p_value for row in rows.values()])
    return Family({key: replace(row, p_value=p) for (key, row), p in zip(rows.items(), adjusted, strict=True)})
