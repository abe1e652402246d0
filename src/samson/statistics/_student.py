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


def expanded_tail(n: int, confidence: float, groups: int = 1) -> float:
    """The probability at whose quantiles an interval ends that is made by drawing n values anew in each group.

        Φ(−√(n / (n − 1))·t),    t = t_{groups·(n − 1), (1 + confidence) / 2}

    The percentiles themselves are too narrow for few values. For a single value it is 0: the outermost.

    Reference: Hesterberg 2015, The American Statistician 69, 371, section 4.4 (expanded percentiles).
    """
    if n < 2:
        return 0.0
    return t_below(math.inf, math.sqrt(n / (n - 1)) * t_quantile(groups * (n - 1), (1 - confidence) / 2))
