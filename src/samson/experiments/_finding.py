"""A chip, or a family of noises by a level, by the name that a user gives it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from samson._errors import SetupError, choose, require
from samson._factories import call_factory, find_factory, guarded, takes
from samson._times import age_text
from samson.evaluation import Noise, unit_of
from samson.noise import (
    CLASSES,
    FAMILIES,
    NOISES,
    PRESETS,
    BitErrors,
    ChipModel,
    Compose,
    DeviceNoise,
    NoiseFamily,
    ReRAM,
    WeightNoise,
    load_calibration,
    load_chip_model,
)

OWN = "MODULE:NAME"
"""How a noise or a chip of one's own is named: a function that gives it, or its class."""
DERIVE = "Derive its class from samson.noise.WeightNoise."


def names_chip(name: str) -> bool:
    """Whether a name is that of a chip and of no noise."""
    return name.endswith(".toml") or (name in PRESETS and name not in NOISES)


def find_chip(chip: str) -> ChipModel:
    """A chip of the catalogue, one from a TOML file, or one of one's own.

    Args:
        chip: A name of `PRESETS`, the path of a file, `….toml`, or `MODULE:NAME`, a function or a class without
            arguments that gives a noise or a chip.

    Raises:
        SetupError: If there is none of this name, or the file cannot be read or says something wrong.

    Example:
        >>> find_chip("int8").noise
        Quantize(bits=8, scheme='symmetric', per='channel')
    """
    if ":" in chip:
        found = call_factory(chip, "`chip`")
        if isinstance(found, WeightNoise):
            return ChipModel(found, source=chip)
        require(
            isinstance(found, ChipModel), "`chip`", "a function or a class that gives a noise or a chip", found, DERIVE
        )
        return cast("ChipModel", found)
    if not chip.endswith(".toml"):
        if chip in NOISES and chip not in PRESETS:
            raise SetupError(f"`chip`: {chip!r} is a noise.\nGive it with `noise`.")
        return PRESETS[choose("`chip`", chip, (*PRESETS, "FILE.toml", OWN))]
    try:
        return load_chip_model(Path(chip))
    except OSError as error:
        raise SetupError(f"`chip` must be a TOML file, got {chip!r}: {error.strerror}.\nCheck the path.") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"`chip` {chip!r}: {error}") from error


def calibrated(chip: Noise, path: Path) -> ChipModel:
    """A chip with the input ranges and ADC bounds of a file of `samson calibrate`.

    Raises:
        SetupError: If nothing around the chip has these, or the file cannot be read or says something wrong.
    """
    if not isinstance(chip, ChipModel) or chip.periphery is None:
        raise SetupError(
            f"`calibration` must be given with a chip that has a periphery, got {str(path)!r}.\n"
            "Choose one, such as standard-hwa."
        )
    try:
        return replace(chip, periphery=load_calibration(path).around(chip.periphery))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise SetupError(f"`calibration` {str(path)!r}: {said}\nCheck the path, or calibrate again.") from error


def chip_by_level(chip: str) -> tuple[Callable[[float], ChipModel], NoiseFamily]:
    """A chip by the bit error rate of its memory, or else by its age in seconds, and a family of the same levels.

    Args:
        chip: As for `find_chip`.

    Raises:
        SetupError: As for `find_chip`, or if the chip has no devices that age, or not to any age.
    """
    model = find_chip(chip)
    if isinstance(memory := model.noise, BitErrors):
        return lambda rate: replace(model, noise=replace(memory, rate=rate, voltage=None)), NOISES["bit-errors"]
    parts = _parts(model.noise)
    ages = any(isinstance(part, DeviceNoise) for part in parts)
    require(ages, "`chip`", "one that ages, for a budget", chip, "Take one of devices, such as pcm, or `noise`.")
    between = all(part.interpolate for part in parts if isinstance(part, ReRAM))
    mend = 'Write a chip file with family = "reram" and interpolate = true; then `high` is 2d at most.'
    require(between, "`chip`", "known at every age, for a budget", chip, mend)
    return lambda time_s: replace(model, noise=_aged(model.noise, time_s)), NOISES["pcm"]


def _parts(noise: WeightNoise) -> tuple[WeightNoise, ...]:
    return noise.noises if isinstance(noise, Compose) else (noise,)


def _aged(noise: WeightNoise, time_s: float) -> WeightNoise:
    if isinstance(noise, Compose):
        return Compose(*(_aged(part, time_s) for part in noise.noises))
    return replace(noise, time_s=time_s) if isinstance(noise, DeviceNoise) else noise


def require_ages(chip: str, noise: WeightNoise, times: Sequence[float]) -> None:
    """Refuse times at which a chip is as at all others, or for which its devices have no model."""
    ours = tuple(CLASSES.values())
    ages = any(isinstance(part, DeviceNoise) or not isinstance(part, ours) for part in _parts(noise))
    require(ages, "`times`", f"left out for {chip}, which does not age", age_text(times[0]), "Take one of devices.")
    for time_s in times:
        try:
            _aged(noise, time_s)
        except ValueError as error:
            raise SetupError(f"`times`: {age_text(time_s)} does not fit the chip {chip!r}.\n{error}") from error


def find_noise(noise: str) -> NoiseFamily:
    """A family of noises by a level.

    Args:
        noise: One of `NOISES`, or `MODULE:NAME`, a function or a class that takes a level and gives a noise.

    Raises:
        SetupError: If there is none of this name.
    """
    if ":" not in noise:
        if names_chip(noise):
            raise SetupError(f"`noise`: {noise!r} is a chip.\nGive it with `chip`.")
        return NOISES[choose("`noise`", noise, (*NOISES, OWN))]
    function = find_factory(noise, "`noise`")
    mend = "Write for example `def mine(level): return Gaussian(level)`."
    require(takes(function, (0.1,)), "`noise`", "a function or a class that takes a level", noise, mend)

    def make(level: float) -> WeightNoise:
        found = guarded(lambda: function(level), noise, "`noise`")
        require(isinstance(found, WeightNoise), "`noise`", "a function or a class that gives a noise", found, DERIVE)
        return cast("WeightNoise", found)

    for level in (0.1, 86_400.0):
        with warnings.catch_warnings(action="ignore"), suppress(SetupError):  # levels that nobody asked for
            return FAMILIES[unit_of(make(level), level)](make)
    return FAMILIES["level"](make)
