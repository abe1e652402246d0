"""Student's distribution against scipy's, and where both ends of it lie."""

import math

import pytest
from scipy import special

from samson.statistics import t_below, t_quantile


@pytest.mark.parametrize("degrees", [0.7, 1, 1.5, 2, 5.3, 19, 99.5, 201, 5e3, 1e6, math.inf])
def test_it_is_that_of_scipy(degrees: float) -> None:
    """A degree of freedom more or less would be seen. Old versions of scipy have quantiles of nine digits alone."""
    for t in (-300.0, -40.0, -2.5, -1.0, -1e-3, 0.0, 1e-3, 0.3, 1.0, 2.5, 40.0):
        assert t_below(degrees, t) == pytest.approx(special.stdtr(degrees, t), rel=1e-11)
    for probability in (1e-12, 1e-4, 1e-3, 0.025, 0.4):
        below = t_quantile(degrees, probability)
        assert special.stdtr(degrees, below) == pytest.approx(probability, rel=1e-10)
        assert t_quantile(degrees, 1 - probability) == pytest.approx(-below, rel=1e-3 if probability < 1e-9 else 1e-9)
    if degrees < 1e3:
        assert t_quantile(degrees, 0.025) != pytest.approx(special.stdtrit(degrees + 1, 0.025), rel=1e-5)


def test_the_ends_are_reached() -> None:
    assert t_quantile(3, 0.5) == 0
    assert (t_below(3, -1e300), t_below(3, 1e300)) == (0.0, 1.0)
    assert math.isnan(t_below(3, math.nan))
    assert t_below(3, 1e-300) == t_below(3, 0.0) == 0.5
    assert t_below(1e8, -2.0) == pytest.approx(t_below(math.inf, -2.0), rel=1e-7)
