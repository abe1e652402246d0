"""Chips as a user asks for them: one of the catalogue by name, or a file of one's own."""

from __future__ import annotations

from pathlib import Path

from samson.experiments._errors import SetupError, choose
from samson.noise import PRESETS, ChipModel, load_chip_model


def find_chip(chip: str) -> ChipModel:
    """A chip of the catalogue, or one from a TOML file.

    Args:
        chip: A name of `PRESETS`, or the path of a file, `….toml`.

    Raises:
        SetupError: If there is none of this name, or the file cannot be read or says something wrong.

    Example:
        >>> find_chip("int8").noise
        Quantize(bits=8, scheme='symmetric', per='channel')
    """
    if not chip.endswith(".toml"):
        return PRESETS[choose("--chip", chip, (*PRESETS, "FILE.toml"))]
    try:
        return load_chip_model(Path(chip))
    except OSError as error:
        raise SetupError(f"--chip must be a TOML file, got {chip!r}: {error.strerror}.\nCheck the path.") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"--chip {chip!r}: {error}") from error
