"""How far apart mean ranks must be."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from samson.statistics import critical_difference, mean_ranks


@pytest.mark.parametrize("methods", [3, 5, 30])
def test_the_critical_difference_is_by_the_studentised_range(methods: int) -> None:
    """Against scipy, whose integral is another one, and in which another level would be seen."""
    expected = [
        stats.studentized_range.ppf(level, methods, math.inf) * math.sqrt(methods * (methods + 1) / (12 * 7))
        for level in (0.95, 0.951)
    ]
    assert critical_difference(methods, 7) == pytest.approx(expected[0], rel=1e-6)
    assert critical_difference(methods, 7) != pytest.approx(expected[1], rel=1e-4)


@pytest.mark.parametrize("blocks", [2, 5, 6, 9, 11, 16, 40])
def test_two_methods_differ_by_the_exact_sign_test(blocks: int) -> None:
    """The largest number of losses with which that happens in at most .05 of cases between equal methods."""
    chance = {losses: 2 * stats.binom.cdf(losses, blocks, 0.5) for losses in range(blocks // 2 + 1)}
    apart = {losses for losses in chance if 1 - 2 * losses / blocks > critical_difference(2, blocks)}
    assert apart == {losses for losses, p in chance.items() if p <= 0.05}
    assert bool(apart) == (blocks >= 6)


def test_two_methods_with_a_tie_are_not_apart_by_rounding() -> None:
    """Five wins of six and a tie are no six: p is .0625."""
    found = mean_ranks([{"a": [1.0], "b": [0.0]}] * 5 + [{"a": [1.0], "b": [1.0]}])
    difference = found["b"].interval.mean - found["a"].interval.mean
    assert difference > 5 / 6  # by a rounding error
    assert difference < critical_difference(2, 6)


BLOCK = {"a": [0.80, 0.84, 0.82, 0.88], "b": [0.81, 0.85, 0.80, 0.86], "c": [0.79, 0.87, 0.85, 0.82]}


def test_blocks_of_the_same_networks_are_drawn_together() -> None:
    """Ten families of chips on which the same networks are as good say no more of other networks than one does."""
    one, apart = mean_ranks([BLOCK]), mean_ranks([BLOCK] * 10)
    same = mean_ranks([BLOCK] * 10, networks=["digits"] * 10)
    for name in BLOCK:
        ends = one[name].interval.low, one[name].interval.high
        assert (same[name].interval.low, same[name].interval.high) == pytest.approx(ends)
        assert apart[name].interval.half_width < 0.8 * one[name].interval.half_width
    assert mean_ranks([BLOCK] * 2, networks=["digits", "text"]) == mean_ranks([BLOCK] * 2)


def test_the_interval_of_a_mean_rank_has_two_tails() -> None:
    """In each block a is ahead unless both of its draws are the 0, in one of four cases."""
    found = mean_ranks([{"a": [0.0, 3.0], "b": [1.0, 1.2]}] * 400)["a"].interval
    assert found.mean == 1
    tail = stats.norm.cdf(math.sqrt(2) * stats.t.ppf(0.025, 400))  # of 400 groups with two values each
    ends = 2 - stats.binom.ppf([tail, 0.025], 400, 0.75) / 400
    error = math.sqrt(tail / 2000) / stats.binom.pmf(stats.binom.ppf(tail, 400, 0.75), 400, 0.75) / 400  # of a quantile
    assert found.high == pytest.approx(ends[0], abs=3 * error)
    assert found.high > ends[1] + 3 * error


@pytest.mark.parametrize("scale", [-(2.0**20), 2.0**-30, 1.0])
def test_the_same_values_in_another_order_are_equal(scale: float) -> None:
    """Their sums differ by rounding alone; a difference in the tenth digit counts."""
    a, b = ([scale * value for value in values] for values in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    assert np.mean(a) != np.mean(b)
    found = mean_ranks([{"a": a, "b": b, "none": [0.0]}])
    assert found["a"].interval.mean == found["b"].interval.mean == (1.5 if scale > 0 else 2.5)
    assert found["a"].wins == found["b"].wins == (scale > 0)
    many = [{"a": a, "b": b}] * 200
    exact = [
        {name: np.round(np.array(values) / abs(scale) * 10).tolist() for name, values in of.items()} for of in many
    ]
    assert mean_ranks(many) == mean_ranks(exact)
    apart = mean_ranks([{"a": a, "b": [value + abs(scale) * 1e-10 for value in a]}])
    assert (apart["a"].interval.mean, apart["b"].interval.mean) == (2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_ranks([BLOCK] * 2, networks=["digits"]), r"`networks` must be one label for each of 2.*'digits'"),
        (
            lambda: mean_ranks([{"a": [0.9, 0.8]}, {"a": [0.9]}], networks=[0, 0]),
            r"`blocks` must hold as many networks of 'a' wherever the label is 0, got \[0.9\]",
        ),
        (lambda: mean_ranks([{"a": [0.9], "b": [math.nan]}]), r"`blocks` must hold numbers for 'b', got \[nan\]"),
        (lambda: mean_ranks([{"a": [0.9]}, {"b": [0.9]}]), r"`blocks` must have a method in common, got \[\['a'\], "),
        (lambda: mean_ranks([BLOCK], confidence=1.5), "`confidence` must lie between 0 and 1, got 1.5"),
        (lambda: critical_difference(1, 7), "`methods` must be at least 2, got 1"),
        (lambda: critical_difference(2, 1), "`blocks` must be at least 2, got 1"),
    ],
)
def test_what_gives_no_ranks_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
