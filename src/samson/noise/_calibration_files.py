"""What was measured for the converters around a model's layers, as a TOML file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from samson._decoding import decode, read_toml
from samson.noise._periphery import Periphery


@dataclass(frozen=True)
class Calibration:
    """Input ranges and ADC bounds of a model's layers.

    Args:
        input_ranges: As `calibrate` gives them; empty leaves those of a periphery.
        adc_bounds: As `calibrate_adc` gives them; empty leaves those of a periphery.

    Raises:
        ValueError: If one is not > 0 and finite, or there is none at all.

    Example:
        >>> print(Calibration({"stem": 2.0}).text("of an example"))
        # of an example
        <BLANKLINE>
        [input_ranges]
        "stem" = 2.0
        <BLANKLINE>
    """

    input_ranges: Mapping[str, float] = field(default_factory=dict)
    adc_bounds: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Periphery(**vars(self))
        if not self.input_ranges and not self.adc_bounds:
            raise ValueError(
                "`input_ranges` or `adc_bounds` must name a layer, got none. `samson calibrate` finds them."
            )

    def around(self, periphery: Periphery) -> Periphery:
        """The periphery with these ranges and bounds instead of its own."""
        return replace(periphery, **{name: values for name, values in vars(self).items() if values})

    def text(self, note: str) -> str:
        """What `load_calibration` reads, with a note in its first line."""
        lines = [f"# {' '.join(note.split())}", ""]
        for name, values in vars(self).items():
            if values:
                lines += [f"[{name}]", *(f"{_quoted(layer)} = {_number(value)}" for layer, value in values.items()), ""]
        return "\n".join(lines)


def load_calibration(path: Path | str) -> Calibration:
    """Read what `samson calibrate` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: Names the file, the table, the key, the value, the rule and the mend.
        FileNotFoundError: If there is no file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "ranges.toml")
        ...     _ = path.write_text(Calibration({"stem": 2.0}).text("of an example"))
        ...     load_calibration(path).around(Periphery(dac_steps=254)).input_ranges
        {'stem': 2.0}
    """
    return read_toml(Path(path), lambda table: decode(table, Calibration, "calibration"))


def _number(value: float | tuple[float, ...]) -> str:
    return repr([float(one) for one in value] if isinstance(value, tuple) else float(value))


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
