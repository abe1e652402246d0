"""A calibration as a file: it comes back with any names, chip files refer to it, and what is wrong in it is named."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from samson.noise import STANDARD_HWA, Calibration, Periphery, load_calibration, load_chip_model

NAMES = ["", "stem", "blocks.0.conv1", 'a "b" \\ c', "größe\n\t\x00\x1f\x7f", "𝛼"]
FOUND = Calibration(
    {name: 1.5 + i for i, name in enumerate(NAMES)},
    {name: 1e-9 * 3**i for i, name in enumerate(NAMES)} | {"stem": (1.5, 0.1 + 0.2)},
)


def test_it_comes_back_with_any_names(tmp_path: Path) -> None:
    path = tmp_path / "ranges.toml"
    for one in (FOUND, replace(FOUND, adc_bounds={}), replace(FOUND, input_ranges={})):
        path.write_text(one.text("a note\nof two lines [x]"), encoding="utf-8")
        assert load_calibration(path) == one
    assert load_calibration(path) != FOUND  # equality tells them apart


def test_it_replaces_what_it_has() -> None:
    ranged = replace(STANDARD_HWA, input_ranges={"x": 1.0}, adc_bounds={"x": 2.0})
    around = FOUND.around(ranged)
    assert around == replace(STANDARD_HWA, **vars(FOUND))
    assert replace(FOUND, adc_bounds={}).around(ranged).adc_bounds == {"x": 2.0}


def test_a_chip_file_refers_to_one_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "ranges.toml").write_text(FOUND.text("x"), encoding="utf-8")
    chip = folder / "chip.toml"

    def load(more: str) -> Periphery | None:
        chip.write_text(f'source = "x"\n[periphery]\nadc_bits = 6\n{more}')
        return load_chip_model(chip).periphery

    assert load('calibration = "ranges.toml"') == Periphery(adc_steps=62, **vars(FOUND)), "no bound for all is needed"
    for more, words in (
        ('calibration = "none.toml"', "`calibration` must be a file, got 'none.toml': No such file"),
        ("calibration = 1", "`calibration` must be a file of `samson calibrate`"),
        ('calibration = "ranges.toml"\ninput_ranges.x = 1.0', "without `input_ranges` and `adc_bounds` beside it"),
        ('calibration = "chip.toml"', "[calibration]: `source` is unknown"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            load(more)
        assert str(chip) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[input_ranges", "`path` must be a TOML file"),
        ("x = " + "[" * 10_000, "`path` must be a TOML file"),
        (f"input_ranges.{'x.' * 1100}x = 1", "recursion"),
        ("", "[calibration]: `input_ranges` or `adc_bounds` must name a layer, got none. `samson calibrate` finds"),
        ("[input_ranges]", "[calibration]: `input_ranges` or `adc_bounds` must name a layer"),
        ("[input_range]\nx = 1", "`input_range` is unknown. Did you mean 'input_ranges'?"),
        ("[input_ranges]\nx = 0", "[calibration]: `input_ranges` must be > 0 and finite, got 0.0 for `x`"),
        ("[input_ranges]\nx = true", "[calibration.input_ranges]: `x` must be a number, got True"),
        ("[input_ranges]\nx = 1\n[adc_bounds]\nx = inf", "`adc_bounds` must be > 0 and finite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "ranges.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_calibration(path)
    assert str(path) in str(caught.value)
