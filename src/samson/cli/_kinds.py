"""Kinds of chips as a user asks for them: a noise at several levels, or a chip at several times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from samson.evaluation import Noise
from samson.experiments import SetupError, checked_levels, choose, find_chip, kind_of, require
from samson.noise import NOISES
from samson.records import ChipKind

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "y": 365 * 86_400.0}


@dataclass(frozen=True)
class Kind:
    """One kind of chip at one time."""

    label: str
    noise: Noise
    level: float | None = None
    time_s: float | None = None

    def record(self) -> ChipKind:
        """The kind as records hold it."""
        return kind_of(self.label, self.noise, self.level, self.time_s)


def kinds_of(noise: str, levels: str | None, chip: str | None, times: str | None) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times."""
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        choose("--noise", noise, NOISES)
        wanted = checked_levels(None if levels is None else parse_levels(levels), noise)
        return [Kind(f"{level:g}", NOISES[noise](level), level) for level in wanted if level]
    kind = find_chip(chip)
    if times is None:
        return [Kind(chip, kind)]
    return [Kind(f"{chip} at {word}", kind, None, time_s) for word, time_s in parse_times(times).items()]


def parse_levels(text: str) -> list[float]:
    """Read noise levels separated by commas.

    Raises:
        SetupError: If one is not a number.
    """
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise SetupError(
            f"--levels must be numbers separated by commas, got {text!r}.\nWrite for example 0,.1,.2."
        ) from None


def parse_times(text: str) -> dict[str, float]:
    """Read times separated by commas, each a number with s, m, h, d or y; in seconds, by how they were written.

    Raises:
        SetupError: If one is none.

    Example:
        >>> parse_times("0s,1.5h,30d")
        {'0s': 0.0, '1.5h': 5400.0, '30d': 2592000.0}
    """
    found = {}
    for word in text.split(","):
        try:
            found[word] = float(word[:-1]) * UNITS[word[-1:]]
            if not 0 <= found[word] < math.inf:
                raise ValueError
        except (ValueError, KeyError):
            raise SetupError(
                f"--times must be numbers ≥ 0 with one of {', '.join(UNITS)}, separated by commas, got {text!r}.\n"
                "Write for example 0s,1h,1d,1y."
            ) from None
    return found
