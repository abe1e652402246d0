"""Chips on disk: the same chip comes back, and no other model, noise or file passes for it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from samson.noise import (
    PCM,
    STANDARD_HWA,
    BitErrors,
    Compose,
    Gaussian,
    Mapping,
    Quantize,
    StuckDevices,
    Variation,
    WeightNoise,
    deploy,
    load_chip,
    preset,
    save_chip,
)
from tests.conftest import equal, make_batch, make_model, snapshot
from tests.noise.test_chip import Reading, read

WHOLE = Compose(Quantize(6), PCM(time_s=60.0, compensation="global"), Variation(0.1, 0.01), StuckDevices(0.02, 0.01))


@pytest.mark.parametrize("noise", [Reading(), WHOLE], ids=["one", "chain"])
def test_a_chip_comes_back_with_its_programming_and_its_readings(tmp_path: Path, noise: WeightNoise) -> None:
    path, model = tmp_path / "chip.safetensors", make_model()
    chip = deploy(model, noise, seed=np.int64(3), trial=np.int8(4))
    read(chip, 60.0)
    save_chip(path, chip)
    state = torch.get_rng_state()
    loaded = load_chip(path, make_model(), noise)
    assert torch.equal(torch.get_rng_state(), state)
    assert (loaded.seed, loaded.trial, loaded.readings) == (3, 4, 1)
    for name, held in chip.states.items():
        assert equal(loaded.states[name], held)
    other = deploy(model, noise, seed=3, trial=5)
    for time_s, reading in ((3600.0, None), (None, 0), (1e7, 0)):  # reading 1 of both, then their first again
        expected = read(chip, time_s, reading=reading)
        assert torch.equal(read(loaded, time_s, reading=reading), expected)
        assert not torch.equal(read(other, time_s, reading=reading), expected)  # the check can fail


@pytest.mark.parametrize(
    ("noise", "same", "other"),
    [
        (PCM(time_s=3600), PCM(time_s=3600.0), PCM(time_s=3601)),
        (BitErrors(1), BitErrors(1.0), BitErrors(1, persistent=True)),
        (
            Compose(Gaussian(1), PCM(mapping=Mapping(significance=(1, 2)))),
            Compose(Gaussian(1.0), PCM(mapping=Mapping(significance=(1.0, 2.0)))),
            Compose(Gaussian(1.0), PCM(mapping=Mapping(significance=(1.0, 2.5)))),
        ),
        (Gaussian(0.1), Gaussian(0.1), Gaussian(math.nextafter(0.1, 1.0))),
    ],
)
def test_equal_noises_are_one_and_others_are_not(
    tmp_path: Path, noise: WeightNoise, same: WeightNoise, other: WeightNoise
) -> None:
    assert noise == same != other
    save_chip(tmp_path / "chip", deploy(make_model(), noise))
    load_chip(tmp_path / "chip", make_model(), same)
    with pytest.raises(ValueError, match="`noise` must be the chip's own"):
        load_chip(tmp_path / "chip", make_model(), other)


def test_equal_peripheries_are_one(tmp_path: Path) -> None:
    one, same, other = (
        replace(STANDARD_HWA, adc_bound=bound, input_ranges=ranges)
        for bound, ranges in ((10, {"0": 1, "4": 2.0}), (10.0, {"4": 2, "0": 1.0}), (10.0, {"0": 2.0, "4": 1.0}))
    )
    model, x = make_model().eval(), make_batch()[0]
    chip = deploy(model, Gaussian(0.1), periphery=one)
    save_chip(tmp_path / "chip", chip)
    loaded = load_chip(tmp_path / "chip", model, Gaussian(0.1), periphery=same)
    for wrong in (other, None):
        with pytest.raises(ValueError, match="`periphery` must be the chip's own, Periphery"):
            load_chip(tmp_path / "chip", model, Gaussian(0.1), periphery=wrong)
    with torch.no_grad():
        with chip.at():
            output = model(x)
        with loaded.at():
            assert torch.equal(model(x), output)
        assert not torch.equal(model(x), output)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_dtype_and_layout(tmp_path: Path, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 3)).to(dtype, memory_format=torch.channels_last)
    chip = deploy(model, Gaussian(0.1))
    save_chip(tmp_path / "chip", chip)
    loaded = load_chip(tmp_path / "chip", model, Gaussian(0.1))
    with chip.at():
        one = snapshot(model)
    with loaded.at():
        assert all(torch.equal(value, one[name]) for name, value in snapshot(model).items())


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, chip = tmp_path / "chip", deploy(make_model(), Gaussian(0.1))
    path.write_bytes(b"the old file")

    def interrupted(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_chip(path, chip)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]
    save_chip(path, chip)
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path, model, noise = tmp_path / "chip", make_model(), Gaussian(0.1)
    save_chip(path, deploy(model, noise))
    with pytest.raises(
        ValueError, match=r"`noise` must be the chip's own, Gaussian\(sigma=0.1, .* got Gaussian\(sigma=0.2"
    ):
        load_chip(path, model, Gaussian(0.2))
    with pytest.raises(ValueError, match=r"the chip's tensors, 0.weight, 4.weight, got 4.weight. Was `select` another"):
        load_chip(path, model, noise, select=nn.Linear)
    with pytest.raises(ValueError, match=r"`0.weight` has dtype float32, and the chip has float64"):
        load_chip(path, make_model(torch.float32), noise)
    other = make_model()
    other[4] = nn.Linear(20, 5).double()
    with pytest.raises(ValueError, match=r"`4.weight` has shape \[5, 20\], and the chip has \[3, 20\]"):
        load_chip(path, other, noise)
    with pytest.raises(ValueError, match=r"`0.weight` has digest of the weights"):
        load_chip(path, make_model(seed=1), noise)
    load_chip(path, model, noise)


def test_files_that_are_no_chips(tmp_path: Path) -> None:
    model, noise, path = make_model(), Gaussian(0.1), tmp_path / "chip"
    with pytest.raises(FileNotFoundError):
        load_chip(path, model, noise)
    for content in (b"", b"not a chip", (1 << 40).to_bytes(8, "little")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="`path` must be a file that `save_chip` wrote"):
            load_chip(path, model, noise)
    for metadata in (None, {"samson_chip": "{}"}, {"samson_chip": "[]"}):
        save_file({"a": torch.ones(2)}, path, metadata)
        with pytest.raises(ValueError, match="`path` must be a file that `save_chip` wrote"):
            load_chip(path, model, noise)
    save_chip(path, deploy(model, noise))
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(ValueError, match="`path` must be a file that `save_chip` wrote"):
        load_chip(path, model, noise)
    save_file({"a": torch.ones(1)}, path, {"samson_chip": '{"version": 1}'})
    with pytest.raises(ValueError, match="has format version 1; this library reads 5"):
        load_chip(path, model, noise)


def test_a_model_that_lies_on_a_chip_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    model, noise = make_model(), Gaussian(0.1)
    chip = deploy(model, noise)
    save_chip(tmp_path / "chip", chip)
    with chip.at():
        with pytest.raises(RuntimeError, match="lies on a chip already"):
            save_chip(tmp_path / "chip", chip)
        with pytest.raises(RuntimeError, match="lies on a chip already"):
            load_chip(tmp_path / "chip", model, noise)


@pytest.mark.parametrize("name", ["int8", "standard-hwa"])
def test_a_kind_of_chip_is_loaded_as_it_was_deployed(name: str, tmp_path: Path) -> None:
    model, kind, x = nn.Linear(4, 2), preset(name), torch.ones(3, 4)
    chip = deploy(model, kind, seed=7)
    save_chip(tmp_path / "chip.safetensors", chip)
    loaded = load_chip(tmp_path / "chip.safetensors", model, kind)
    with chip.at(time_s=60.0):
        expected = model(x)
    with loaded.at(time_s=60.0):
        assert torch.equal(model(x), expected)


def test_a_chip_and_a_path_the_wrong_way_round(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`chip` must be a Chip, got"):
        save_chip(deploy(make_model(), Gaussian(0.1)), tmp_path / "chip")
