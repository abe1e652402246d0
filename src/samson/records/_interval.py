"""An estimate with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; all three in the unit of the values (accuracies are fractions).

    Example:
        >>> Interval(0.9, 0.88, 0.92).half_width
        0.020000000000000018
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self:.4g}"

    def __format__(self, form: str) -> str:
        """The mean with both ends, each in a form for numbers, such as ".4f"."""
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]" if form else str(self)

    def within(self, low: float, high: float) -> Interval:
        """The same, with its ends cut off at what is possible."""
        return Interval(self.mean, max(low, self.low), min(high, self.high))

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2
