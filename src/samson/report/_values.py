"""Numbers of one metric as pages show them: fractions in percent, anything else as it is."""

from __future__ import annotations

from samson.records import Interval


def value_text(value: float, *, fraction: bool) -> str:
    """A value, for example "97.3" for a share of .9731."""
    return f"{100 * value:.1f}" if fraction else f"{value:.4g}"


def capital(name: str) -> str:
    """The name of a metric at the start of a sentence: "mIoU" becomes "MIoU"."""
    return name[:1].upper() + name[1:]


def interval_text(interval: Interval, *, fraction: bool, signed: bool = False) -> str:
    """A mean with the ends of its interval, for example "97.3 [97.0, 97.6]"; with signs for a difference."""
    scale, form = (100, ".1f") if fraction else (1, ".3g" if signed else ".4g")
    form = f"+z{form}" if signed else form
    mean, low, high = (f"{scale * value:{form}}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
