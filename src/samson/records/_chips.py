"""Kinds of chips as records hold them."""

from __future__ import annotations

from dataclasses import dataclass

from samson._checks import require
from samson._times import age_text

CLEAN = "clean"
"""What the noise-free network is called among kinds of chips."""


@dataclass(frozen=True)
class ChipKind:
    """One kind of chip, read at one time.

    Args:
        label: What is shown for it: the level, the time, or the chip's name.
        noise: The noise with its constants.
        level: The noise's level or the time in seconds, if there is one.
        time_s: When the chips are read, in seconds since the reference read; None is the noise's own time.
        periphery: What surrounds the weights, with its constants; None computes exactly with them.
        behind: The periphery in short; None shows only that there is one.
        alike: Whether all chips of the kind are known to be the same, since nothing is drawn.
    """

    label: str
    noise: str
    level: float | None = None
    time_s: float | None = None
    periphery: str | None = None
    behind: str | None = None
    alike: bool = False

    def __str__(self) -> str:
        """What results show of it."""
        at = "" if self.time_s is None else f" at {age_text(self.time_s)}"
        around = "with a periphery" if self.behind is None else f"behind {self.behind}"
        same = ", all the same" if self.alike else ""
        return f"{self.label}{at}{'' if self.periphery is None else f', {around}'}{same}"


@dataclass(frozen=True)
class ChipFamily:
    """Kinds of chips that differ in one thing: a level of noise, a time, or a number of bits.

    Args:
        name: What it is called, once in a comparison.
        unit: What kinds differ in: "level", "bit error rate", "s" (an age), or "" where each has a name of its own.
        kinds: The kinds, from little noise to much; their labels differ, and none is `CLEAN`.
    """

    name: str
    unit: str
    kinds: tuple[ChipKind, ...]

    def __post_init__(self) -> None:
        require(bool(self.kinds), "kinds", "be at least one", self.kinds)
        labels = [kind.label for kind in self.kinds]
        require(len({CLEAN, *labels}) > len(labels), "kinds", f"have labels that differ, none {CLEAN!r}", labels)
