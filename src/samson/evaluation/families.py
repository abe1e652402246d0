"""Differences that are shown together: intervals that hold together, p-values for how many they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from samson.evaluation.differences import holm
from samson.evaluation.pairs import Difference, Paired
from samson.evaluation.statistics import CONFIDENCE


@dataclass(frozen=True)
class Family:
    """Differences that are shown together, allowing for how many they are.

    Args:
        rows: By the label of the comparison and the method: the difference, its interval simultaneous with the others'
            (Bonferroni) and its p-value adjusted by Holm.
        statement: What the family is.
    """

    rows: dict[tuple[str, str], Difference]
    statement: str


def family(comparisons: Mapping[str, Paired], baseline: str, confidence: float = CONFIDENCE) -> Family:
    """The differences of every method to a baseline in several comparisons, such as one a noise level.

    Args:
        comparisons: By a label, for example the noise level.
        baseline: The method to which the others are compared.
        confidence: That all intervals hold together, between 0 and 1.
    """
    names = {label: [name for name in paired.models if name != baseline] for label, paired in comparisons.items()}
    size = sum(map(len, names.values()))
    each = 1 - (1 - confidence) / max(size, 1)
    rows = {
        (label, name): comparisons[label].difference(name, baseline, each)
        for label, of_label in names.items()
        for name in of_label
    }
    adjusted = holm([row.p_value for row in rows.values()])
    rows = {key: replace(row, p_value=p) for (key, row), p in zip(rows.items(), adjusted, strict=True)}
    methods = len({name for of_label in names.values() for name in of_label})
    return Family(
        rows,
        f"{size} differences to {baseline} ({methods} methods, {len(names)} levels): intervals hold together with "
        f"{confidence:.0%} (Bonferroni), p-values after Holm",
    )
