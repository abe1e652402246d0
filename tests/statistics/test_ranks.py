"""How far apart mean ranks must be."""

import math

import pytest
from scipy import stats

from samson.statistics import critical_difference, mean_ranks


@pytest.mark.parametrize("methods", [2, 5, 30])
def test_the_critical_difference_is_by_the_studentised_range(methods: int) -> None:
    """Against scipy, whose integral is another one, and in which another level would be seen."""
    expected = [
        stats.studentized_range.ppf(level, methods, math.inf) * math.sqrt(methods * (methods + 1) / (12 * 7))
        for level in (0.95, 0.951)
    ]
    assert critical_difference(methods, 7) == pytest.approx(expected[0], rel=1e-6)
    assert critical_difference(methods, 7) != pytest.approx(expected[1], rel=1e-4)


@pytest.mark.parametrize(
    ("blocks", "confidence", "message"),
    [
        ([{"a": [0.9, 0.8], "b": [0.7, math.nan]}], 0.95, r"`blocks` must hold numbers for 'b', got \[0.7, nan\]"),
        ([{"a": [0.9]}, {"b": [0.9]}], 0.95, r"`blocks` must have a method in common, got \[\['a'\], \['b'\]\]"),
        ([{"a": [0.9], "b": [0.8]}], 1.5, "`confidence` must lie between 0 and 1, got 1.5"),
    ],
)
def test_ranks_that_say_nothing_are_refused(
    blocks: list[dict[str, list[float]]], confidence: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mean_ranks(blocks, confidence=confidence)


def test_too_few_are_refused() -> None:
    for arguments, name in (((1, 7), "methods"), ((2, 1), "blocks")):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 2, got 1"):
            critical_difference(*arguments)
