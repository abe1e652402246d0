"""Kinds of chips as a user asks for them on the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from samson._errors import require

if TYPE_CHECKING:
    from samson.cli._options import ModelOptions
    from samson.experiments import Kind


def kinds_of(options: ModelOptions, levels: str | None, times: str | None) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times."""
    return [replace(kind, noise=options.calibrated(kind.noise)) for kind in _uncalibrated(options, levels, times)]


def _uncalibrated(options: ModelOptions, levels: str | None, times: str | None) -> list[Kind]:
    from samson.experiments import Kind, chip_family, find_chip, find_noise, noise_family, parse_levels, parse_time

    noise, chip = options.noise, options.chip
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        asked = None if levels is None else parse_levels(levels, find_noise(noise).unit)
        return list(noise_family(noise, asked).kinds)
    if times is None:
        return [Kind(chip, find_chip(chip))]
    kinds = chip_family([chip], [parse_time(word) for word in times.split(",")]).kinds
    return [replace(kind, label=f"{chip} at {kind.label}") for kind in kinds]
