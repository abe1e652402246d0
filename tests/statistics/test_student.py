"""Student's distribution against closed forms and tables, and where both ends of it lie."""

import math
from statistics import NormalDist

import pytest

from samson.statistics import t_below, t_quantile


@pytest.mark.parametrize("t", [-300.0, -2.5, -1e-3, 0.0, 0.3, 1.0, 40.0])
def test_it_is_that_of_the_closed_forms(t: float) -> None:
    """For one and two degrees of freedom, and for the normal distribution; a degree more would be seen."""
    one, two = 0.5 + math.atan2(t, 1) / math.pi, 0.5 + t / (2 * math.sqrt(2 + t * t))
    assert t_below(1, t) == pytest.approx(one, rel=1e-10)
    assert t_below(2, t) == pytest.approx(two, rel=1e-9)
    assert t_below(math.inf, t) == pytest.approx(NormalDist().cdf(t), rel=1e-10)
    for degrees, probability in ((1, one), (2, two)):
        if abs(t) < 10:
            assert t_quantile(degrees, probability) == pytest.approx(t, rel=1e-7, abs=1e-12)
    if t:
        assert t_below(2, t) != pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(4, 2.776445), (19, 2.093024), (100, 1.983972), (1e9, 1.959964), (math.inf, 1.959964)]
)
def test_quantiles_are_those_of_tables(degrees: float, quantile: float) -> None:
    assert t_quantile(degrees, 0.975) == pytest.approx(quantile, abs=6e-7)
    assert t_quantile(degrees, 0.025) == pytest.approx(-quantile, abs=6e-7)
    assert t_below(degrees, quantile) == pytest.approx(0.975, abs=1e-6)


def test_the_ends_are_reached() -> None:
    assert t_quantile(3, 0.5) == pytest.approx(0, abs=1e-12)
    assert (t_below(3, -1e300), t_below(3, 1e300)) == (0.0, 1.0)
    assert math.isnan(t_below(3, math.nan))
    assert t_below(3, 1e-300) == t_below(3, 0.0) == 0.5
    assert 4.5 < t_quantile(4.5, 0.999) < 7
