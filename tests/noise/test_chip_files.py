"""One's own chip as a file: every noise can be written and read back, and what is wrong in a file is named."""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any

import pytest
import torch

from samson import noise
from samson.noise import (
    CLASSES,
    NOISES,
    PRESETS,
    STANDARD_HWA,
    Compose,
    CustomPCM,
    DeviceNoise,
    Gaussian,
    InversePower,
    Periphery,
    WeightNoise,
    load_chip_model,
)
from tests.contracts.test_noises import CASES

EXAMPLE = Path(__file__).parents[2] / "docs" / "chips" / "my-chip.toml"


def inline(value: Any) -> str:
    """A value in TOML, written independently of the reader: dataclasses and dicts as inline tables."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Table):
        parts = (f"{json.dumps(key)} = {inline(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else repr(value)


def as_toml(one: WeightNoise, periphery: Periphery | None = None) -> str:
    def family(part: WeightNoise) -> str:
        [name, *plain] = [name for name, kind in CLASSES.items() if kind is type(part)]
        values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        return inline({"family": plain[0] if plain and values["compensation"] is None else name, **values})

    chain = [family(part) for part in one.noises] if isinstance(one, Compose) else None
    lines = ['source = "a test"', f"noise = {family(one) if chain is None else '[' + ', '.join(chain) + ']'}"]
    return "\n".join([*lines, *([] if periphery is None else [f"periphery = {inline(periphery)}"])])


@pytest.fixture
def load(tmp_path: Path):
    def written(text: str):
        path = tmp_path / "chip.toml"
        path.write_text(text, encoding="utf-8")
        return load_chip_model(path)

    return written


@pytest.mark.parametrize("one", CASES.values(), ids=CASES)
def test_every_noise_comes_back_from_its_file(load, one: WeightNoise) -> None:
    assert load(as_toml(one)).noise == one


def test_every_noise_of_the_room_can_be_named_in_a_file() -> None:
    exported = [getattr(noise, name) for name in noise.__all__]
    classes = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, WeightNoise)}
    assert {kind for kind in classes if dataclasses.is_dataclass(kind) and kind not in (DeviceNoise, Compose)} == set(
        CLASSES.values()
    )


def test_every_chip_comes_back_with_its_periphery(load) -> None:
    for chip in PRESETS.values():
        loaded = load(as_toml(chip.noise, chip.periphery))
        assert (loaded.noise, loaded.periphery, loaded.source) == (chip.noise, chip.periphery, "a test")
    ranged = dataclasses.replace(STANDARD_HWA, input_ranges={"stem": 2.0, "blocks.0.conv1": 1.5})
    ranged = dataclasses.replace(ranged, adc_bounds={"stem": 3.0, "blocks.0.conv1": 0.5})
    assert load(as_toml(Gaussian(0.1), ranged)).periphery == ranged
    assert load(as_toml(Gaussian(0.1), ranged)).periphery != STANDARD_HWA  # equality tells them apart


def test_a_file_may_begin_with_a_byte_order_mark(load) -> None:
    assert load("\ufeff" + as_toml(Gaussian(0.1))).noise == Gaussian(0.1)


def test_converters_may_be_given_by_their_bits(load) -> None:
    """One code of 2^b is left over, so that zero is a level: 8 bits are the 254 steps of the standard chip."""
    chip = load('source = "x"\n[periphery]\ndac_bits = 8\nadc_bits = 6\nadc_bound = 10')
    assert chip.periphery == Periphery(dac_steps=STANDARD_HWA.dac_steps, adc_steps=62, adc_bound=10.0)
    for wrong, message in (
        ("adc_bits = 6\nadc_steps = 62", "`adc_bits` and `adc_steps` say the same. Remove one"),
        ("dac_bits = 1", "`dac_bits` must be a whole number, 2 to 24, got 1. Write dac_bits = 8"),
        ("dac_bits = 6.0", "got 6.0"),
        ("dac_bits = true", "got True"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load(f'source = "x"\n[periphery]\n{wrong}')


def test_a_chip_may_be_a_periphery_alone_and_then_holds_weights_exactly(load) -> None:
    chip = load('source = "x"\n[periphery]\noutput_noise = 1')
    assert chip.periphery == Periphery(output_noise=1.0)
    w = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chip.noise(w, torch.Generator().manual_seed(1)), w)


def test_the_example_file_is_what_it_says() -> None:
    chip = load_chip_model(EXAMPLE)
    assert isinstance(chip.noise, Compose)
    device, faults = chip.noise.noises
    assert isinstance(device, CustomPCM)
    assert device.constants.programming == (0.3, 1.5, -0.9)
    assert device.constants.read == InversePower(0.009, 0.6, 1e-3, 0.2)
    assert (device.default_time_s, device.largest_us, device.mapping.tile_inputs) == (86_400.0, 30.0, 256)
    assert (faults.low, faults.high, faults.mapping, faults.g_max_us) == (0.001, 0.0005, device.mapping, 30.0)
    assert EXAMPLE.read_text().count("[noise.mapping]") == 1  # which the faults take from the devices
    assert (chip.periphery.tile_inputs, chip.periphery.adc_steps) == (256, 510)
    assert all(name in EXAMPLE.read_text() for name in CLASSES)
    noisy = chip.noise(torch.ones(2, 3), torch.Generator().manual_seed(0))
    assert noisy.isfinite().all()
    assert not torch.equal(noisy, torch.ones(2, 3))


@pytest.mark.parametrize("name", ["pcm", "pcm-hermes", "pcm-custom"])
def test_a_name_says_whether_drift_is_compensated(load, name: str) -> None:
    """In a file as in the catalogues."""
    chip = 'source = "x"\n[noise]\nfamily = "{}"\n'
    for family, compensation in ((name, "global"), (f"{name}-uncompensated", None)):
        loaded = load(chip.format(family)).noise
        assert loaded == CLASSES[name](compensation=compensation)
        assert family not in PRESETS or PRESETS[family].noise == loaded
        assert family not in NOISES or NOISES[family](60.0) == dataclasses.replace(loaded, time_s=60.0)
    assert load(chip.format(name) + 'compensation = "column"').noise.compensation == "column"
    with pytest.raises(ValueError, match=f'Write family = "{name}", or remove the line'):
        load(chip.format(f"{name}-uncompensated") + 'compensation = "column"')


OWN = """
from dataclasses import dataclass
from samson.noise import FixedNoise, Mapping

@dataclass(frozen=True)
class Shrunk(FixedNoise):
    factor: float
    mapping: Mapping = Mapping()
    def __post_init__(self):
        if self.factor <= 0:
            raise ValueError("`factor` must be > 0")
        if self.factor > 1:
            raise RuntimeError("it grows")
    def noisy(self, weight, generator):
        return self.factor * weight

class Plain(Shrunk.__base__): pass

@dataclass(frozen=True)
class Callable(FixedNoise):
    function: type = int

@dataclass(frozen=True)
class Listed(FixedNoise):
    bare: tuple = ()
    many: list[float] | None = None
    levels: tuple[float, ...] = ()
    def noisy(self, weight, generator):
        return weight

@dataclass(frozen=True)
class Abstract(FixedNoise): pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_chips.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_chips", raising=False)


@pytest.mark.usefixtures("own")
def test_a_family_may_be_a_class_of_ones_own(load) -> None:
    text = 'source = "x"\n[[noise]]\nfamily = "own_chips:Shrunk"\nfactor = {}\nmapping.levels = 5\n'
    assert load('source = "x"\n[noise]\nfamily = "own_chips:Listed"\nlevels = [1, 2.5]').noise.levels == (1.0, 2.5)
    one = load(text.format(0.5) + '[[noise]]\nfamily = "gaussian"\nsigma = 0.0').noise
    assert (type(one.noises[0]).__module__, one.noises[0].mapping.levels) == ("own_chips", 5)
    assert torch.equal(one(torch.ones(2, 2), torch.Generator()), torch.full((2, 2), 0.5))
    for family, key, words in (
        ("Shrink", "", "`family`: in 'own_chips': 'Shrink' is unknown"),
        ("Shrunk", "", "`factor` is missing"),
        ("Shrunk", "factor = -1", "[noise]: `factor` must be > 0 Ranges and units: `pydoc own_chips.Shrunk`"),
        ("Shrunk", "factor = 2", "`family` 'own_chips:Shrunk' raised RuntimeError: it grows"),
        ("Plain", "", "`family` must be a class of WeightNoise that is a dataclass, got 'own_chips:Plain'"),
        ("Mapping", "", "`family` must be a class of WeightNoise that is a dataclass, got 'own_chips:Mapping'"),
        ("Abstract", "", "raised TypeError: Can't instantiate abstract class Abstract"),
        ("Callable", "function = 1", "`function` has no form in a file. Leave it out."),
        ("Listed", "bare = [1.0]", "`bare` has no form in a file. In its class, annotate it as `tuple[float, ...]`."),
        ("Listed", "many = [1.0]", "`many` has no form in a file. In its class, annotate it as `tuple[float, ...]`."),
    ):
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            load(f'source = "x"\n[noise]\nfamily = "own_chips:{family}"\n{key}')
        assert "chip.toml" in str(caught.value)


PCM = '[noise]\nfamily = "pcm"\n'
CUSTOM_PCM = PCM.replace("pcm", "pcm-custom")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[noise\n", ["`path` must be a TOML file", "line 1"]),
        (PCM, ["`source` must say where the constants come from", "got None", "Write source"]),
        ('source = ""', ["`source` must say"]),
        ('source = "x"', ["must have a noise or a periphery", "Write [noise]"]),
        ('source = "x"\nnois = 1', ["top level: `nois` is unknown", "Did you mean 'noise'?"]),
        ('source = "x"\nnoise = 1', ["[noise]: must be a table, got 1"]),
        ('source = "x"\nnoise = []', ["[[noise]]: `noises` must hold at least one noise"]),
        ('source = "x"\n[noise]\nsigma = 1', ["`family` must be a known noise, got None", "Available: gaussian"]),
        ('source = "x"\n[noise]\nfamilly = "pcm"', ["[noise]: `familly` is unknown. Did you mean 'family'?"]),
        ('source = "x"\n[noise]\nfamily = "gausian"', ["got 'gausian'. Did you mean 'gaussian'?"]),
        ('source = "x"\n[noise]\nfamily = "gaussian"', ["[noise]: `sigma` is missing", "Add a line"]),
        (f'source = "x"\n{PCM}g_max = 20', ["[noise]: `g_max` is unknown. Did you mean 'g_max_us'?"]),
        ('source = "x"\n[noise]\nfamily = "reram"\ncompensation = "none"', ["[noise]: `compensation` is unknown"]),
        (f'source = "x"\n{PCM}compensation = "none"', ["got 'none'", 'write family = "pcm-uncompensated"']),
        (f'source = "x"\n{PCM}g_max_us = -20', ["[noise]: `g_max_us` must be > 0", "got -20.0", "samson.noise.PCM`"]),
        (f'source = "x"\n{PCM}g_max_us = "20"', ["[noise]: `g_max_us` must be a number, got '20'", "g_max_us = 0.5"]),
        (f'source = "x"\n{PCM}g_max_us = nan', ["[noise]: `g_max_us` must be a number, got nan"]),
        (f'source = "x"\n{PCM}time_s = true', ["[noise]: `time_s` must be a number, got True"]),
        (f'source = "x"\n{PCM}mapping = "tile"', ["[noise.mapping]: must be a table, got 'tile'"]),
        (f'source = "x"\n{PCM}mapping.per = "row"', ["[noise.mapping]: `per` must be one of layer", "got 'row'"]),
        (f'source = "x"\n{PCM}mapping.levels = 2.0', ["`levels` must be a whole number, got 2.0"]),
        (f'source = "x"\n{PCM}mapping.significance = 2', ["`significance` must be a list, got 2"]),
        (f'source = "x"\n{PCM}mapping.significance = [1, "2"]', ["`significance[1]` must be a number, got '2'"]),
        (f'source = "x"\n{CUSTOM_PCM}constants.read = {{q = 1}}', ["[noise.constants]: `g_max_us` is"]),
        (
            'source = "x"\n[[noise]]\nfamily = "quantize"\n[[noise]]\nfamily = "quantize"\nbits = 9',
            ["[noise 2]: `bits` must be a whole number from 2 to 8, got 9"],
        ),
        ('source = "x"\n[periphery]\nadc_steps = 3', ["[periphery]: `adc_steps` must be even"]),
        ('source = "x"\n[periphery]\nir_dorp = 1.0', ["[periphery]: `ir_dorp` is unknown. Did you mean 'ir_drop'?"]),
        ('source = "x"\n[periphery]\ndac_bit = 8', ["`dac_bit` is unknown. Did you mean 'dac_bits'?", "adc_bits, cal"]),
        ('source = "x"\n[periphery]\ninput_ranges.stem = "2"', ["[periphery.input_ranges]: `stem` must be a number"]),
        ('source = "x"\n[periphery]\ninput_ranges = 2', ["[periphery.input_ranges]: must be a table, got 2"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_table_key_value_and_mend(load, tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are the match)
        load(text)
    for word in [str(tmp_path / "chip.toml"), *words]:
        assert word in str(caught.value)


def test_wrong_constants_name_their_table(load) -> None:
    chain = Compose(CASES["pcm-custom"], CASES["bits-table"])
    right = as_toml(chain)
    assert load(right.replace("30.0", "30")).noise == chain
    for old, new, words in (
        ('"slope" = -0.0387', '"slope" = inf', "[noise 1.constants.drift_mean]: `slope` must be finite"),
        ('"factor" = 0.0', '"slope" = 1.0', "`read` must be a table with the keys of Logarithmic (slope,"),
        ("[0.5]", '["0.5"]', "[noise 1.constants]: `programming[0]` must be a number, got '0.5'"),
        ("[0.7, 0.001]", '[0.7, "0.001"]', "[noise 2]: `rates_by_voltage[1][1]` must be a number, got '0.001'"),
        ("[0.7, 0.001]", "[0.7]", "[noise 2]: `rates_by_voltage` must be a tuple of pairs of numbers"),
    ):
        assert old in right
        with pytest.raises(ValueError, match=re.escape(words)):
            load(right.replace(old, new))


def test_a_missing_file_is_no_value_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_chip_model(tmp_path / "none.toml")
    assert caught.value.__notes__ == [f"`path` must be a TOML file, got '{tmp_path / 'none.toml'}'."]
