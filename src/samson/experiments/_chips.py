"""Kinds of chips as a user asks for them: noises at several levels, chips at several times, or chips side by side."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samson._errors import SetupError, choose, require
from samson._factories import spec_of
from samson._shown import plain
from samson._times import UNITS, age_text, seconds_of
from samson.evaluation import Noise
from samson.experiments._finding import OWN, find_chip, find_noise, names_chip, require_ages
from samson.noise import NOISES, PRESETS, ChipModel
from samson.records import ChipFamily, ChipKind

RESERVED = ("clean", "all", "blind")
"""Names of columns in a report, and of a criterion of a search."""

LEVELS = {
    "level": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "bit error rate": (0.0, 1e-4, 1e-3, 0.01, 0.05),
    "s": (3600.0, 86_400.0, 31_536_000.0, 315_360_000.0),
}
"""Noise levels by default, by what a level of the family is."""

USUAL = {"level": 0.1, "bit error rate": 0.01, "s": 86_400.0}
"""The level where there is one alone."""

_UNITS = ", ".join(UNITS)


@dataclass(frozen=True)
class Kind:
    """One kind of chip at one time."""

    label: str
    noise: Noise
    level: float | None = None
    time_s: float | None = None

    def record(self) -> ChipKind:
        """The kind as records hold it."""
        kind = self.noise
        noise = kind.noise if isinstance(kind, ChipModel) else kind
        around = kind.periphery if isinstance(kind, ChipModel) else None
        when = noise.default_time_s if self.time_s is None else self.time_s
        return ChipKind(self.label, plain(noise), self.level, when, None if around is None else plain(around))


@dataclass(frozen=True)
class Chips:
    """Kinds of chips that differ in one thing (see `samson.records.ChipFamily`)."""

    name: str
    unit: str
    kinds: tuple[Kind, ...]

    def record(self) -> ChipFamily:
        """The family as records hold it."""
        return ChipFamily(self.name, self.unit, tuple(kind.record() for kind in self.kinds))


def noise_family(noise: str, levels: Sequence[Any] | None = None, name: str | None = None) -> Chips:
    """A noise at several levels above 0; an age may be 0.

    Args:
        noise: As for `find_noise`.
        levels: Levels ≥ 0, or texts, such as "1h" where a level is an age; None takes some that suit the noise. Those
            of one's own noise come from the mildest to the harshest: bits, or voltages, fall.
        name: What the family is called; by default as the noise.

    Raises:
        SetupError: If a level is no number, negative, not finite or given twice, or the noise refuses it.
    """
    family = find_noise(noise)
    unit = family.unit
    asked: Sequence[Any] = LEVELS[unit] if levels is None else levels
    mend = f"Write for example {'1h,1d' if unit == 's' else '0,.1,.2'}."
    numbers: list[float] = []
    for level in asked:
        number = parse_level(level, unit) if isinstance(level, str) else level
        known = isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number <= sys.float_info.max
        require(known, "`levels`", "≥ 0 and finite", level, mend)
        numbers.append(float(number))
        try:
            family(float(number))
        except SetupError:  # it says what is wrong with the noise, at any level
            raise
        except ValueError as error:
            raise SetupError(f"`levels`: {level!r} does not fit the noise {noise!r}.\n{error}") from error
    require(
        len(set(numbers)) == len(numbers), "`levels`", "without repetition", list(asked), "Remove the repeated one."
    )
    noisy = [level for level in numbers if level or unit == "s"]
    if noise in NOISES:  # each rises with its level
        noisy.sort()
    require(bool(noisy), "`levels`", "at least one level above 0", list(asked), mend)
    kinds = [Kind(age_text(level) if unit == "s" else f"{level:g}", family(level), level) for level in noisy]
    return Chips(name or noise.rpartition(":")[2], unit, _distinct(kinds, "`levels`"))


def _distinct(kinds: Sequence[Kind], parameter: str) -> tuple[Kind, ...]:
    labels = [kind.label for kind in kinds]
    mend = "They would have one name: take some that differ more."
    require(len(set(labels)) == len(labels), parameter, "such that they look different", labels, mend)
    return tuple(kinds)


def chip_family(chips: Sequence[str], times: Sequence[float] | None = None, name: str | None = None) -> Chips:
    """Several chips side by side, or one chip at several times.

    Args:
        chips: As for `find_chip`, at least one.
        times: In seconds; None takes each chip's own.
        name: What the family is called; by default as its chips.
    """
    require(bool(chips), "`chip`", "at least one chip", list(chips), "Write for example pcm.")
    found = {chip: find_chip(chip) for chip in chips}
    require(len(found) == len(chips), "chip", "without repetition", list(chips), "Remove the repeated one.")
    if times is not None:
        require(bool(times), "`times`", "at least one time", list(times), "Write for example 1h,1y.")
        for chip, model in found.items():
            require_ages(chip, model.noise, times)
    title = name or ", ".join(Path(chip).stem if chip.endswith(".toml") else chip.rpartition(":")[2] for chip in found)
    if times is None:
        return Chips(title, "", tuple(Kind(chip, model) for chip, model in found.items()))
    kinds = [
        Kind(age_text(seconds) if len(found) == 1 else f"{chip} at {age_text(seconds)}", model, seconds, seconds)
        for chip, model in found.items()
        for seconds in times
    ]
    return Chips(title, "s" if len(found) == 1 else "", _distinct(kinds, "`times`"))


def family_of(asked: str | Mapping[str, Any]) -> Chips:
    """A family as a file has it: the name of a noise or a chip, or a table with `noise` and `levels`, or with `chip`.

    Example:
        >>> [kind.label for kind in family_of({"noise": "pcm", "levels": ["1h", "1d"]}).kinds]
        ['1 h', '1 day']

    Raises:
        SetupError: If it says something wrong.
    """
    require(isinstance(asked, (str, Mapping)), "chips", "texts or tables", asked, 'Write {noise = "gaussian"}.')
    if isinstance(asked, str):
        if names_chip(asked):
            return chip_family([asked])
        if ":" not in asked:
            choose("`chips`", asked, dict.fromkeys((*NOISES, *PRESETS, "FILE.toml", OWN)))
        return noise_family(asked)
    kind = next((key for key in ("noise", "chip") if key in asked), None)
    keys = ("noise", "levels", "name") if kind == "noise" else ("chip", "times", "name")
    require(kind is not None, "chips", "tables with a noise or a chip", dict(asked), 'Write {noise = "gaussian"}.')
    for key in asked:
        choose("chips", key, keys)
    name = asked.get("name")
    plain = name is None or (isinstance(name, str) and name != "")
    require(plain, "name of chips", "a text that is not empty", name, "Take another one.")
    if kind == "noise":
        levels = asked.get("levels")
        return noise_family(
            _spec(asked["noise"], "noise"),
            levels if levels is None or isinstance(levels, (list, tuple)) else [levels],
            name,
        )
    several = isinstance(asked["chip"], (list, tuple))
    chips = [_spec(one, "chip") for one in (asked["chip"] if several else [asked["chip"]])]
    times = asked.get("times")
    given = times if isinstance(times, (list, tuple)) else [] if times is None else [times]
    known = all(isinstance(one, str) for one in given)
    require(known, "times", "texts such as 1h", times, 'Write for example times = ["1h", "1d"].')
    return chip_family(chips, None if times is None else [parse_time(word) for word in given], name)


def _spec(asked: Any, key: str) -> str:
    """A text, or what names a function of Python."""
    known = isinstance(asked, str) or callable(asked)
    require(known, f"`{key}` of chips", "a text", asked, f'Write for example {{{key} = "pcm"}}.')
    return spec_of(asked, key)


def parse_level(text: str, unit: str, parameter: str = "`levels`") -> float:
    """Read one noise level; where the unit is "s", it may be an age with s, m, h, d or y.

    Raises:
        SetupError: If it is neither.

    Example:
        >>> parse_level(".1", "level"), parse_level("3600", "s"), parse_level("1d", "s")
        (0.1, 3600.0, 86400.0)
    """
    rule, example = (f"a number, or an age with {_UNITS}", "1d") if unit == "s" else ("a number", ".1")
    try:
        return seconds_of(text) if unit == "s" and text[-1:] in UNITS else float(text)
    except ValueError:
        raise SetupError(f"{parameter} must be {rule}, got {text!r}.\nWrite for example {example}.") from None


def parse_time(word: str) -> float:
    """Read a time, a number with s, m, h, d or y; in seconds.

    Raises:
        SetupError: If it is none.

    Example:
        >>> parse_time("1.5h")
        5400.0
    """
    try:
        found = seconds_of(word)
    except ValueError:
        found = math.nan
    require(0 <= found < math.inf, "`times`", f"numbers ≥ 0 with one of {_UNITS}", word, "Write for example 1h or 10y.")
    return found
