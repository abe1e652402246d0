"""The program for aihwkit says what the chip has, its chips are as accurate as ours, and other ways out are torch's."""

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson import param_groups
from samson.evaluation import evaluate
from samson.noise import (
    PCM,
    STANDARD_HWA,
    Compose,
    CustomPCM,
    DeviceNoise,
    Gaussian,
    Mapping,
    PCMHermes,
    Periphery,
    ThroughChip,
    aihwkit_source,
    deploy,
)
from samson.statistics import Interval, mean_interval
from tests.conftest import equal, snapshot

CHANNEL = Mapping(per="channel")
DAY, YEAR = 86_400.0, 365 * 86_400.0
PAGE = (Path(__file__).parents[2] / "docs" / "leaving.md").read_text(encoding="utf-8")
with_aihwkit = pytest.mark.needs("aihwkit")
ignoring = pytest.mark.filterwarnings("ignore")  # aihwkit's warnings, under this torch


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)).eval()


def program(model: nn.Module, noise: DeviceNoise, periphery: Periphery | None = None, select: object = None) -> str:
    return aihwkit_source(deploy(model, noise, periphery=periphery, select=select))


def assigned(source: str) -> dict[str, Any]:
    """What a program assigns at its top, by name: numbers as they are, calls and attributes as text."""
    compile(source, "program", "exec")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                value = ast.unparse(node.value)
            found[ast.unparse(node.targets[0])] = value
    return found


# What the program says

NUMBERS = Periphery(
    dac_steps=30,
    adc_steps=np.int64(62),
    adc_bound=6.1,
    input_noise=1 / 3,
    output_noise=np.float64(0.1 + 0.2),
    tile_inputs=130,
    input_ranges={"0": 1 / 7, "3": np.float64(2.1)},
    adc_bounds={"0": 5.3, "3": 2 / 3},
)


def test_the_program_says_every_setting() -> None:
    source = program(network(), PCM(DAY / 7, CHANNEL, "global", g_max_us=10.1), NUMBERS)
    assert assigned(source) == {
        "LAYERS": ["0", "3"],
        "INPUT_RANGES": {"0": 1 / 7, "3": 2.1},
        "ADC_BOUNDS": {"0": 5.3, "3": 2 / 3},
        "config": "TorchInferenceRPUConfig()",
        "config.mapping.max_input_size": 130,
        "config.mapping.max_output_size": 0,
        "config.mapping.weight_scaling_omega": 1.0,
        "config.mapping.weight_scaling_columnwise": True,
        "config.pre_post.input_range.enable": True,
        "config.pre_post.input_range.init_from_data": 0,
        "config.forward.is_perfect": False,
        "config.forward.noise_management": "NoiseManagementType.NONE",
        "config.forward.bound_management": "BoundManagementType.NONE",
        "config.forward.inp_res": 30,
        "config.forward.inp_noise": 1 / 3,
        "config.forward.out_noise": 0.1 + 0.2,
        "config.forward.out_res": 62,
        "config.forward.out_bound": 6.1,
        "config.noise_model": "NoiseModel(g_max=10.1)",
        "config.drift_compensation": "PerColumnDriftCompensation()",
    }
    assert "aihwkit.inference.noise.pcm import PCMLikeNoiseModel as NoiseModel" in source
    assert f"analog.drift_analog_weights({DAY / 7!r})" in source


def test_the_program_of_a_chip_without_a_periphery() -> None:
    source = program(network(), PCMHermes(compensation="global", devices=2), select="3")
    said = assigned(source)
    assert (said["LAYERS"], said["INPUT_RANGES"], said["ADC_BOUNDS"]) == (["3"], {}, {})
    assert said["config.forward.is_perfect"] is True
    assert said["config.mapping.max_input_size"] == 0
    assert said["config.mapping.weight_scaling_columnwise"] is False
    assert said["config.noise_model"] == "NoiseModel(num_devices=2, g_max=20.7)"
    assert said["config.drift_compensation"] == "GlobalDriftCompensation()"
    assert "aihwkit.inference.noise.hermes import HermesNoiseModel as NoiseModel" in source
    assert "drift_analog_weights" not in source  # the programmed state


def test_the_program_of_inputs_without_ranges() -> None:
    said = assigned(program(network(), PCM(compensation=None), Periphery(dac_steps=6, input_ranges={})))
    assert said["config.pre_post.input_range.enable"] is False
    assert said["config.forward.noise_management"] == "NoiseManagementType.ABS_MAX"
    assert said["config.forward.is_perfect"] is False
    assert (said["config.forward.out_res"], said["config.forward.out_bound"]) == (-1, 0.0)
    assert said["config.drift_compensation"] is None
    only = replace(NUMBERS, adc_bound=float("inf"), input_ranges={"0": 1.0, "3": 2.0})
    said = assigned(program(network(), PCM(mapping=CHANNEL, compensation="column"), only, select="0"))
    assert (said["INPUT_RANGES"], said["ADC_BOUNDS"]) == ({"0": 1.0}, {"0": 5.3})
    assert said["config.drift_compensation"] == "PerColumnDriftCompensation()"


class OwnPCM(PCM):
    """With constants that nobody here knows."""


class OwnPeriphery(Periphery):
    """With what nobody here knows around the weights."""


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def unsupported(make: Callable[[], nn.Module], name: str = "") -> tuple[Callable[[], nn.Module], PCM, None, str]:
    return make, PCM(), None, f"`select` must have a counterpart in aihwkit, got '{name}"


REFUSED: list[tuple[Callable[[], nn.Module], Any, Periphery | None, str]] = [
    (network, Gaussian(0.1), None, r"`noise` .* got Gaussian\(sigma=0.1, .* Deploy on PCM or PCMHermes"),
    (network, Compose(PCM(), Gaussian(0.1)), None, "`noise` must have a counterpart"),
    (network, CustomPCM(), None, "`noise` must have a counterpart"),
    (network, OwnPCM(), None, "`noise` must have a counterpart"),
    (network, PCM(mapping=Mapping(per="tile", tile_inputs=8)), None, "`mapping` must have a counterpart"),
    (network, PCM(mapping=replace(CHANNEL, g_min_us=1.0)), None, "`mapping` must have a counterpart"),
    (network, PCM(time_s=0.0), None, "`time_s` must have a counterpart in aihwkit, got 0.0: .* Give 0.01, or None"),
    (network, PCM(mapping=Mapping(levels=16)), None, r"`mapping` .* Use Mapping\(per=\"channel\"\)"),
    (network, PCM(), Periphery(output_noise=0.1), "outputs on the scale of the mapping"),
    (network, PCM(), Periphery(adc_bound=1.0), "outputs on the scale of the mapping"),
    (network, PCM(), replace(NUMBERS, adc_bound=float("inf"), output_noise=0.0), "outputs on the scale of the mapping"),
    (network, PCM(mapping=CHANNEL), STANDARD_HWA, r"`weight_noise` .* got 0.0175: .* replace\(periphery, weight_noise"),
    (network, PCM(mapping=CHANNEL), Periphery(ir_drop=0.5), "`ir_drop` must have a counterpart in aihwkit, got 0.5"),
    (network, PCM(), OwnPeriphery(), "`periphery` must have a counterpart in aihwkit, got OwnPeriphery"),
    (network, PCM(), Periphery(tile_inputs=127), "`tile_inputs` .* got 127: .* `3` too. Give 128, or None"),
    unsupported(lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, groups=2)), r"1: Conv2d\(2, 2, .* Leave the layer"),
    unsupported(lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), ": Conv2d"),
    unsupported(lambda: nn.Conv2d(2, 2, 3, padding="same"), ": Conv2d"),
    unsupported(lambda: nn.Conv1d(2, 2, 3), ": Conv1d"),
    unsupported(lambda: nn.ConvTranspose2d(2, 2, 3), ": ConvTranspose2d"),
    unsupported(lambda: nn.LSTM(2, 2), "weight_ih_l0: LSTM"),
    unsupported(tied, "0': its layers share no weights. Untie"),
]


@pytest.mark.parametrize(("make", "noise", "periphery", "message"), REFUSED)
def test_what_has_no_counterpart_is_refused(
    make: Callable[[], nn.Module], noise: DeviceNoise, periphery: Periphery | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        program(make(), noise, periphery)


def test_a_chip_is_what_deploy_gives() -> None:
    with pytest.raises(ValueError, match="`chip` must be a Chip, got PCM"):
        aihwkit_source(PCM())


# The same chips in aihwkit


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "program", "exec"), names)
    return names


INPUTS = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(1))
RANGED = Periphery(dac_steps=30, adc_steps=62, adc_bound=2.0, input_ranges={"0": 1.5, "3": 0.8})
CONVERTERS = {
    "exact": Periphery(),
    "saturation": Periphery(adc_bound=1.5, input_ranges={"0": 1.5, "3": 0.8}),
    "ranges": RANGED,
    "a tile": replace(RANGED, tile_inputs=128),
    "each its own range": replace(RANGED, input_ranges={}),
    "bounds of layers": replace(RANGED, adc_bounds={"0": 1.1, "3": 3.3}),
    "only bounds of layers": replace(RANGED, adc_bound=float("inf"), adc_bounds={"0": 1.1, "3": 3.3}),
}


@with_aihwkit
@ignoring
@pytest.mark.parametrize("name", CONVERTERS)
def test_aihwkit_computes_the_same_before_a_chip_is_programmed(name: str) -> None:
    """Also with an output without weights, and beside a layer that stays digital."""
    model, p = network(), CONVERTERS[name]
    model.append(nn.Linear(10, 10))
    with torch.no_grad():
        model[0].weight[2] = 0.0
    clean, source = snapshot(model), program(model, PCM(mapping=CHANNEL), p, select=["0", "3"])
    with torch.no_grad(), deploy(model, Gaussian(0.0), periphery=p, select=["0", "3"]).at():
        ours = model(INPUTS)
    with torch.no_grad():
        theirs = run(source)["to_aihwkit"](model)(INPUTS)
        other = run(source.replace("_res = 30", "_res = 28").replace("_bound = 1.5", "_bound = 1.4"))
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
        if p != Periphery():
            assert (other["to_aihwkit"](model)(INPUTS) - ours).abs().max() > 1e-3  # the check can fail
    assert equal(snapshot(model), clean)


@with_aihwkit
@ignoring
def test_aihwkit_has_the_same_noise_of_inputs_and_outputs() -> None:
    n, layer, p = 20_000, nn.Linear(32, 6, bias=False).eval(), Periphery(input_noise=0.1, output_noise=0.2)
    with torch.no_grad():
        layer.weight[4] = 0.0  # a column of zeros has the noise of the layer's largest weight
        x = torch.randn(32).expand(n, 32)
        theirs = run(program(layer, PCM(mapping=CHANNEL), p))["to_aihwkit"](layer)(x).std(dim=0)
        with deploy(layer, Gaussian(0.0), periphery=p).at():
            ours = layer(x).std(dim=0)
    assert ((theirs / ours - 1).abs() < 5 / n**0.5).all()
    assert ours[4] > 0.01


@with_aihwkit
@ignoring
def test_a_model_of_other_layers_is_refused_in_aihwkit() -> None:
    names = run(program(network(), PCM()))
    with pytest.raises(ValueError, match=re.escape("`model` must have the layers ['0', '3'], but on tiles are ['0']")):
        names["to_aihwkit"](network()[:3])


def examples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy copies of ten images of 8 by 8."""
    images = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    return images[labels] + 0.7 * torch.randn(n, 1, 8, 8, generator=generator), labels


INPUTS_ALONE = Periphery(dac_steps=254)
STANDARD = Periphery(dac_steps=254, adc_steps=254, adc_bound=10.0, output_noise=0.04)
PERIPHERIES = {"inputs alone": INPUTS_ALONE, "standard": STANDARD, "louder": replace(STANDARD, output_noise=0.1)}


@cache
def trained(periphery: str) -> tuple[nn.Sequential, Periphery]:
    """A network trained through a chip, and the chip with the ranges that were learned."""
    model = network().train()
    x, y = examples(2000, 1)
    through = ThroughChip(model, PERIPHERIES[periphery], [x[:256]])
    optimizer = torch.optim.SGD(param_groups(model), lr=0.05, momentum=0.9)
    for batch in torch.arange(len(x)).repeat(4).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model.eval(), through.remove()


TEST = examples(1000, 2)
CHIPS = {
    "programmed": (PCM(None, CHANNEL), "louder"),
    "a year": (PCM(YEAR, CHANNEL), "louder"),
    "a year, compensated": (PCM(YEAR, CHANNEL, "global"), "standard"),
    "Hermes, compensated": (PCMHermes(DAY, CHANNEL, "column"), "standard"),
    "one scale a layer": (PCM(YEAR, Mapping(), "global"), "inputs alone"),
}


def in_aihwkit(source: str, model: nn.Module, programmed: bool = True) -> Interval:
    """The accuracy on chips that aihwkit draws, by the lines at the top of the program."""
    x, y = TEST
    names, found = {**run(source), "model": model}, []
    lines = ast.get_docstring(ast.parse(source)).splitlines()[2:]
    for _ in range(20):
        exec("\n".join(lines if programmed else lines[:1]), names)
        analog = names["analog"]
        with torch.no_grad():
            found.append(float((analog(x).argmax(dim=1) == y).float().mean()))
    return mean_interval(found)


def overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


@with_aihwkit
@ignoring
@pytest.mark.parametrize("name", CHIPS)
def test_aihwkits_chips_are_as_accurate(name: str) -> None:
    noise, around = CHIPS[name]
    model, periphery = trained(around)
    source = program(model, noise, periphery)
    ours = evaluate(model, TEST, noise, trials=20, periphery=periphery).interval
    assert overlap(in_aihwkit(source, model), ours)
    coarse = source.replace("inp_res = 254", "inp_res = 8")
    assert not overlap(in_aihwkit(coarse, model), ours)  # the check can fail
    quiet = re.sub(r"out_noise = .*", "out_noise = 0.0", source)
    assert not overlap(in_aihwkit(quiet, model, programmed=False), ours)


# Other ways out are torch's own


def test_a_network_trained_through_a_chip_exports_as_it_is() -> None:
    model, x = network(), INPUTS
    through = ThroughChip(model, Periphery(dac_steps=6), [x])
    optimizer = torch.optim.SGD(param_groups(model), lr=0.1)
    model.train()(x).square().mean().backward()
    optimizer.step()
    held = torch.export.export(model.eval(), (x,))
    through.remove()
    exported = torch.export.export(model, (x,))
    assert "0.input_range" in held.state_dict  # before it is removed
    assert exported.state_dict.keys() == network().state_dict().keys()
    assert torch.equal(exported.module()(x), model(x))


def page_names() -> dict[str, Any]:
    """What a reader of the page has at hand."""
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(32, 8)
    return {"torch": torch, "model": model, "x": x, "loader": [(x, torch.randint(3, (32,)))]}


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = page_names()
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 8
    assert {name: weight.shape for name, weight in names["weights"].items()} == {
        "0.weight": (16, 8),
        "3.weight": (3, 16),
    }
    assert {name: held.shape for name, held in names["devices"].items()} == {
        "0.weight": (1, 2, 16, 8), "3.weight": (1, 2, 3, 16)
    }  # fmt: skip
    assert names["accuracy"] == evaluate(names["model"], names["loader"], PCM(), trials=2).trials[0]
    read, clean = (held / names["scale"] for held in (names["chip"].read()["3.weight"], names["weight"]))
    assert torch.allclose(read, read.round(), atol=1e-4)  # the codes of one's own, saved and loaded
    assert not torch.allclose(clean, clean.round(), atol=0.1)
    codes = names["faulty"]["3.weight"]
    assert torch.equal(codes * names["step"] + names["zero"], names["read"]["3.weight"])  # as the chip reads them
    assert -8 <= codes.min() <= codes.max() <= 7
    powers = deploy(names["model"], names["PowersOfTwo"](0.0)).read()["3.weight"]
    assert torch.equal(powers * 1024, (powers * 1024).round())  # of a step of a power of two
    assert powers.unique().numel() <= 16
    assert assigned(names["program"])["INPUT_RANGES"].keys() == {"0", "3"}
    assert torch.equal(names["exported"].module()(names["x"]), names["model"](names["x"]))


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_the_line_for_onnx_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"`(torch\.onnx\..+)`", PAGE)[1], page_names())
    assert (tmp_path / "model.onnx").stat().st_size > 0
