"""Kinds of chips as a user asks for them on the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from samson._errors import require

if TYPE_CHECKING:
    from samson.cli._options import ModelOptions
    from samson.experiments import Kind


def kinds_of(options: ModelOptions, levels: str | None, times: str | None, *, usual: bool = False) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times.

    Args:
        options: With the noise or the chip.
        levels: Of the noise; None takes such as suit it.
        times: Of the chip; None takes its own.
        usual: Whether no levels are one, the usual.
    """
    from samson.experiments import USUAL, chip_family, find_noise, noise_family, parse_time

    chip = options.chip
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        default = [USUAL[find_noise(options.family).unit]] if usual else None
        kinds = noise_family(options.family, default if levels is None else levels.split(",")).kinds
    else:
        require(levels is None, "--levels", "left out with --chip", levels, "A chip has --times; or choose a noise.")
        asked = None if times is None else [parse_time(word) for word in times.split(",")]
        found = chip_family([chip], asked).kinds
        kinds = found if times is None else tuple(replace(kind, label=f"{chip} at {kind.label}") for kind in found)
    return [replace(kind, noise=options.calibrated(kind.noise)) for kind in kinds]
