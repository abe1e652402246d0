"""Numbers of one metric as pages show them: accuracies in percent, anything else as it is."""

from __future__ import annotations

from samson.records import Estimate


def is_fraction(metric: str) -> bool:
    """Whether values of a metric are shares of right answers."""
    return metric in ("accuracy", "top5")


def value_text(metric: str, value: float) -> str:
    """A value, for example "97.3" for a share of .9731."""
    return f"{100 * value:.1f}" if is_fraction(metric) else f"{value:.4g}"


def interval_text(metric: str, estimate: Estimate) -> str:
    """A mean with the ends of its interval, for example "97.3 [97.0, 97.6]"."""
    mean, low, high = (value_text(metric, value) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"
