"""One's own chip as a TOML file: constants are data, and their names carry the units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from samson._decoding import TableError, decode, read_toml
from samson._errors import require
from samson._factories import find_factory, guarded
from samson._names import nearest, suggestion
from samson.noise._base import WeightNoise
from samson.noise._calibration_files import load_calibration
from samson.noise._catalogue import CLASSES, UNCOMPENSATED
from samson.noise._compose import Compose
from samson.noise._gaussian import Gaussian
from samson.noise._periphery import Periphery
from samson.noise._presets import ChipModel

EXACT = Gaussian(0.0)
"""The noise of a file that has none: weights are held exactly."""


def load_chip_model(path: Path | str) -> ChipModel:
    r"""Read one's own chip from a TOML file.

    The file has a text `source`, and a table `[noise]`, a table `[periphery]` or both. A noise names its `family`; the
    other keys are the arguments of its class, and those that are classes themselves are tables within it
    (`[noise.mapping]`). Several noises, one after the other, are an array of tables `[[noise]]`, as in `Compose`. A
    converter may be given by its bits, `dac_bits` and `adc_bits`: b bits are 2^b - 2 steps. Input ranges and ADC bounds
    may be those of a file of `samson calibrate`, `calibration = "FILE.toml"`, looked for beside this one.

    A family of one's own is `MODULE:CLASS`, a `WeightNoise` that is a dataclass, from the current folder or installed.
    Its module is run: read a file that comes from others before you use it.

    The drift of `pcm`, `pcm-hermes` and `pcm-custom` is compensated as on a chip, `compensation = "global"`, unless the
    file says "column"; with `-uncompensated` after the name it is not.

        source = "our array, measured in May"

        [noise]
        family = "pcm"
        g_max_us = 20.0
        time_s = 3600

        [noise.mapping]
        on_off_ratio = 50.0

        [periphery]
        dac_steps = 254

    Args:
        path: The file.

    Raises:
        ValueError: Names the file, the table, the key, the value, the rule and the mend.
        FileNotFoundError: If there is no file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "chip.toml")
        ...     _ = path.write_text('source = "none"\n[noise]\nfamily = "quantize"\nbits = 4')
        ...     load_chip_model(path).noise
        Quantize(bits=4, scheme='symmetric', per='tensor')
    """
    path = Path(path)
    return read_toml(path, lambda table: _chip_model(table, path.parent))


def _chip_model(table: dict[str, Any], folder: Path) -> ChipModel:
    parts = ("source", "noise", "periphery")
    for key in table:
        if key not in parts:
            raise TableError(f"top level: `{key}` is unknown. {suggestion(key, parts)}")
    source = table.get("source")
    if not isinstance(source, str) or not source.strip():
        raise TableError(
            f'top level: `source` must say where the constants come from, got {source!r}. Write source = "…".'
        )
    if len(table) == 1:
        raise TableError("top level: a chip must have a noise or a periphery, got none. Write [noise] or [periphery].")
    noise = _noises(table["noise"]) if "noise" in table else EXACT
    periphery = _periphery(table["periphery"], folder) if "periphery" in table else None
    return ChipModel(noise, source, periphery)


def _periphery(table: Any, folder: Path) -> Periphery:
    if not isinstance(table, dict):
        return decode(table, Periphery, "periphery")
    known_keys = *(field.name for field in dataclasses.fields(Periphery)), "dac_bits", "adc_bits", "calibration"
    for key in table:
        if key not in known_keys:
            raise TableError(f"[periphery]: `{key}` is unknown. {suggestion(key, known_keys)}")
    found = _in_steps(table)
    file = found.pop("calibration", None)
    if file is not None:
        known = isinstance(file, str) and not {"input_ranges", "adc_bounds"} & set(found)
        rule = "a file of `samson calibrate`, without `input_ranges` and `adc_bounds` beside it"
        require(known, "[periphery]: `calibration`", rule, file, "Leave them out, or it.")
        try:
            return load_calibration(folder / file).around(decode(found, Periphery, "periphery"))
        except OSError as error:
            raise TableError(
                f"[periphery]: `calibration` must be a file, got {file!r}: {error.strerror}.\nCheck the path."
            ) from error
    return decode(found, Periphery, "periphery")


def _in_steps(table: dict[str, Any]) -> dict[str, Any]:
    """Converters with their bits as steps: b bits are 2^b - 2 steps, since zero is a level and one code is left."""
    found = dict(table)
    for bits, steps in (("dac_bits", "dac_steps"), ("adc_bits", "adc_steps")):
        if bits not in found:
            continue
        value = found.pop(bits)
        if steps in found:
            raise TableError(f"[periphery]: `{bits}` and `{steps}` say the same. Remove one of them.")
        if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= 24:
            raise TableError(f"[periphery]: `{bits}` must be a whole number, 2 to 24, got {value!r}. Write {bits} = 8.")
        found[steps] = 2**value - 2
    return found


def _noises(part: Any) -> WeightNoise:
    if not isinstance(part, list):
        return _noise(part, "noise")
    noises = [_noise(table, f"noise {number}") for number, table in enumerate(part, start=1)]
    try:
        return Compose(*noises)
    except ValueError as error:
        raise TableError(f"[[noise]]: {error}") from None


def _noise(table: Any, where: str) -> WeightNoise:
    if not isinstance(table, dict):
        raise TableError(f"[{where}]: must be a table, got {table!r}. Write [noise] and its keys below.")
    family = table.get("family")
    own = {key: value for key, value in table.items() if key != "family"}
    for key in own if family is None else ():
        if near := nearest(key, ["family"]):
            raise TableError(f"[{where}]: `{key}` is unknown.{near}")
    if isinstance(family, str) and ":" in family:
        kind = _own_class(family, f"[{where}]: `family`")
        made: WeightNoise = guarded(lambda: decode(own, kind, where), family, f"[{where}]: `family`")
        return made
    if not isinstance(family, str) or family not in CLASSES:
        hint = suggestion(str(family), (*CLASSES, "MODULE:CLASS"))
        raise TableError(f"[{where}]: `family` must be a known noise, got {family!r}. {hint}")
    compensated = family.removesuffix(UNCOMPENSATED)
    if compensated != family and "compensation" in own:
        raise TableError(
            f"[{where}]: `compensation` must be left out with family = {family!r}, got {own['compensation']!r}. "
            f'Write family = "{compensated}", or remove the line.'
        )
    if f"{compensated}{UNCOMPENSATED}" in CLASSES:
        known = own.get("compensation", "global") in ("global", "column")
        mend = f'For none write family = "{family}{UNCOMPENSATED}".'
        require(known, f"[{where}]: `compensation`", "'global' or 'column'", own.get("compensation"), mend)
    return decode(own | ({} if compensated == family else {"compensation": None}), CLASSES[family], where)


def _own_class(family: str, parameter: str) -> type[WeightNoise]:
    kind = cast("type[WeightNoise]", find_factory(family, parameter))
    noise = isinstance(kind, type) and issubclass(kind, WeightNoise) and dataclasses.is_dataclass(kind)
    mend = "Derive it from samson.noise.WeightNoise, and write @dataclass(frozen=True) above it."
    require(noise, parameter, "a class of WeightNoise that is a dataclass", family, mend)
    return kind
