"""Student's distribution, with degrees of freedom that need not be whole."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache(maxsize=1024)
def t_below(degrees: float, t: float) -> float:
    """The probability that Student's t is at most `t`.

    Args:
        degrees: ν > 0, or infinite for the normal distribution.
        t: Any number.

    Example:
        >>> round(t_below(1, -1.0), 12)
        0.25
    """
    from scipy.special import stdtr  # slow to import

    return float(stdtr(degrees, t))


@lru_cache(maxsize=1024)
def t_quantile(degrees: float, probability: float) -> float:
    """Where Student's t lies below with a probability.

    Args:
        degrees: ν > 0, or infinite for the normal distribution.
        probability: Between 0 and 1.

    Example:
        >>> round(t_quantile(19, 0.975), 3)
        2.093
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if degrees == math.inf else stdtrit(degrees, probability))
