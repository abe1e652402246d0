"""Chips: which tensors they hold, common random numbers, and weights that come back bitwise."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrizations

from samson.noise import (
    PCM,
    BitErrors,
    Chip,
    Compose,
    DeadLines,
    DeviceNoise,
    FixedNoise,
    Gaussian,
    Periphery,
    Quantize,
    State,
    StuckDevices,
    Variation,
    WeightNoise,
    deploy,
    generator_for,
    on_chip,
)
from tests.conftest import equal, make_model, snapshot


def noisy(model: nn.Module, sigma: float = 0.2, **keys: int) -> dict[str, torch.Tensor]:
    with deploy(model, Gaussian(sigma), **keys).at():
        return snapshot(model)


def test_weights_are_noisy_inside_and_bitwise_back_outside() -> None:
    model = make_model(torch.float32)
    with torch.no_grad():
        model[4].weight[0, 0] = -0.0
    model[1].eval()
    before, state, modes = snapshot(model), torch.get_rng_state(), [m.training for m in model.modules()]
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), deploy(model, Gaussian(0.2)).at():
            inside = snapshot(model)
            assert torch.is_grad_enabled() == gradients
            assert [m.training for m in model.modules()] == modes
    assert {name for name in before if not torch.equal(before[name], inside[name])} == {"0.weight", "4.weight"}
    assert equal(snapshot(model), before)
    with pytest.raises(ZeroDivisionError), deploy(model, Gaussian(0.2)).at():
        raise ZeroDivisionError
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes


def test_common_random_numbers() -> None:
    one, other = make_model(seed=0), make_model(seed=1)

    def errors(model: nn.Module, name: str = "4.weight", **keys: int) -> torch.Tensor:
        w = model.get_parameter(name).detach()
        return (noisy(model, **keys)[name] - w) / w.abs().max()

    assert torch.allclose(errors(one, seed=3, trial=7), errors(other, seed=3, trial=7), atol=1e-12)
    for keys in ({"seed": 3, "trial": 8}, {"seed": 4, "trial": 7}, {"seed": 7, "trial": 3}, {"seed": 4, "trial": 6}):
        assert not torch.allclose(errors(one, seed=3, trial=7), errors(one, **keys), atol=1e-3)
    wrapped = torch.compile(nn.DataParallel(one), backend="eager")
    name = "_orig_mod.module.4.weight"
    assert torch.allclose(errors(wrapped, name, seed=3, trial=7), errors(one, seed=3, trial=7), atol=1e-12)
    assert [t.name for t in on_chip(wrapped)] == ["0.weight", "4.weight"]


def test_layers_that_are_alike_have_errors_of_their_own() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(2)))
    for layer in model:
        nn.init.eye_(layer.weight)
    for sigma, alike in ((0.0, True), (0.1, False)):  # without noise the check fails
        one, other = noisy(model, sigma).values()
        assert torch.equal(one, other) == alike


def test_a_path_is_hashed_not_added() -> None:
    keys = [(0, 1), (1, 0), (0, 1, ""), (0, "1"), (0, 11), (0, 1, 1)]
    draws = {generator_for(*key).initial_seed() for key in keys}
    assert len(draws) == len(keys)
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        generator_for(-1)


def test_what_noise_cannot_reach_is_an_error() -> None:
    with pytest.warns(FutureWarning):
        hooked = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)))
    transposed = nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))
    transposed[1].weight = nn.Parameter(transposed[0].weight.data.T)
    cases = {
        "must leave a weight for the chip, but Sequential has none": nn.Sequential(nn.BatchNorm1d(3)),
        "`weight` of layer `0` is computed by a hook": hooked,
        "`weight` of layer `0` has no shape yet": nn.Sequential(nn.LazyLinear(3)),
        "`0.weight`, `1.weight` share memory in different layouts": transposed,
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            deploy(model, Gaussian(0.1))
    with pytest.raises(ValueError, match="`trial` must be at least 0"):
        deploy(make_model(), Gaussian(0.1), trial=-1)


@dataclass(frozen=True)
class Reading(WeightNoise):
    """Every stage leaves its own mark: programmed +ξ, drift by half an hour, read +ξ'."""

    def program(self, weight: torch.Tensor, generator: torch.Generator) -> State:
        return {"w": weight + torch.randn(weight.shape, generator=generator, dtype=weight.dtype)}

    def read(self, state: State, time_s: float | None, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(state["w"].shape, generator=generator, dtype=state["w"].dtype)
        return state["w"] * 0.5 ** ((time_s or 0.0) / 1800) + noise


def read(chip: Chip, time_s: float | None = None, **which: int | None) -> torch.Tensor:
    with chip.at(time_s, **which) as model:
        return model[0].weight.detach().clone()


@dataclass(frozen=True)
class Strict(Reading):
    """Refuses what no noise is to see."""

    def program(self, weight: torch.Tensor, generator: torch.Generator) -> State:
        assert weight.numel()
        assert weight.dtype in (torch.float32, torch.float64)
        assert not weight.requires_grad
        assert not torch.is_autocast_enabled("cpu")
        return {"programmed": weight, **super().program(weight, generator)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_chip_sees_to_dtypes_and_tensors_without_elements(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).to(dtype)
    model[1].weight = nn.Parameter(torch.empty(0, 2, dtype=dtype))
    wider = copy.deepcopy(model).to(torch.promote_types(dtype, torch.float32))
    with torch.autocast("cpu"):
        chip, exact = deploy(model, Strict(), seed=3), deploy(wider, Strict(), seed=3)
    with chip.at() as inside, exact.at() as expected:
        assert torch.equal(inside[0].weight, expected[0].weight.to(dtype))
        assert inside[1].weight.shape == (0, 2)
    programmed = chip.states["0.weight"]["programmed"].clone()
    with torch.no_grad():
        model[0].weight.zero_()  # the chip holds what was programmed
    assert torch.equal(chip.states["0.weight"]["programmed"], programmed)


@pytest.mark.parametrize("noise", [Gaussian(0.1), BitErrors(0.1, persistent=True), Compose(Quantize(4), Gaussian(0.1))])
def test_of_a_noise_that_never_changes_a_chip_holds_the_reading_alone(noise: WeightNoise) -> None:
    model = nn.Linear(3, 2).half()
    [held] = deploy(model, noise).states["weight"].values()
    assert (held.shape, held.dtype) == (model.weight.shape, torch.float16)


BITS = BitErrors(0.1, bits=4)


@pytest.mark.parametrize(
    ("noise", "entry", "own", "words"),
    [
        (BITS, "scale", "words", "dtype, step, words, zero, got dtype, scale, step, words, zero. Write to those"),
        (replace(BITS, persistent=True), "words", "weight", "weight, got weight, words. Write `weight`: that is what"),
        (
            Compose(BITS, Gaussian(0.1)),
            "words",
            "0.words",
            "0.step, 0.words, 0.zero, dtype, seeds, got .*, words. Write",
        ),
    ],
    ids=["misspelt", "persistent", "chain"],
)
def test_what_was_not_programmed_is_refused(noise: WeightNoise, entry: str, own: str, words: str) -> None:
    """No reading would look at it. What was programmed may be written."""
    chip = deploy(nn.Linear(3, 2), noise)
    held, expected = chip.states["weight"], chip.read()["weight"]
    held[entry] = torch.ones(2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"`states\['weight'\]` must hold what .* with, {words}"):
        chip.read()
    with pytest.raises(ValueError, match="must hold what the chip was programmed with"), chip.at():
        pass
    chip.states["weight"] = {name: value for name, value in held.items() if name != entry}
    assert torch.equal(chip.read()["weight"], expected)
    chip.states["weight"][own] = torch.zeros_like(held[own])
    assert not torch.equal(chip.read()["weight"], expected)


@pytest.mark.parametrize(
    ("name", "measured", "words"),
    [
        ("wieght", torch.ones(1, 2, 2, 3), r"`states` must hold every weight on the chip .*, got \['wieght'\]"),
        (0, torch.ones(1, 2, 2, 3), r"`states` must hold every weight on the chip .*, got \['0'\]"),
        ("weight", torch.ones(2, 3), r"must be a tensor of the shape \(1, 2, 2, 3\) that was programmed, got \(2, 3\)"),
        ("weight", torch.ones(1, 2, 2, 3).numpy(), r"`states\['weight'\]\['conductance_us'\]` must .* got a ndarray"),
    ],
    ids=["name", "number", "shape", "type"],
)
def test_what_was_measured_elsewhere_is_of_a_weight_and_of_its_devices(name: Any, measured: Any, words: str) -> None:
    chip = deploy(nn.Linear(3, 2), PCM())
    chip.states[name] = chip.states["weight"] | {"conductance_us": measured}
    with pytest.raises(ValueError, match=words):
        chip.read()
    chip.states.clear()
    with pytest.raises(ValueError, match=r"`states` must hold every weight on the chip .*, got \['weight'\]"):
        chip.read()


def test_programming_once_and_read_noise_once_a_reading() -> None:
    model = make_model()
    programmed = deploy(model, Reading(), seed=7).states["0.weight"]["w"]

    def noise(reading: int) -> torch.Tensor:
        return torch.randn(
            programmed.shape, generator=generator_for(7, 0, "read", reading, "0.weight"), dtype=torch.float64
        )

    chip = deploy(model, Reading(), seed=7)
    assert torch.equal(read(chip), programmed + noise(0))
    assert torch.equal(read(chip, 1800), programmed / 2 + noise(1))  # the same chip, drifted; a new reading
    assert torch.equal(read(chip, 1800, reading=0), programmed / 2 + noise(0))
    assert torch.equal(read(chip), programmed + noise(2))  # a number that was given is not counted
    assert not torch.equal(noise(0), noise(1))
    again = deploy(make_model(), Reading(), seed=7)
    assert torch.equal(read(again, reading=2), programmed + noise(2))


def test_a_chip_inside_another_is_an_error_and_both_leave_the_weights_alone() -> None:
    model = make_model()
    before = snapshot(model)
    one, two = deploy(model, Reading()), deploy(model, Reading(), trial=1)
    part = deploy(model[4], Reading())
    with one.at():
        inside = snapshot(model)
        for chip in (one, two):
            with pytest.raises(RuntimeError, match="`0.weight` lies on a chip already"), chip.at():
                pass
        with pytest.raises(RuntimeError, match="lies on a chip already"):
            deploy(model, Reading())
        with pytest.raises(RuntimeError, match="`weight` lies on a chip already"), part.at():
            pass
        assert equal(snapshot(model), inside)
    assert equal(snapshot(model), before)
    with two.at():
        assert not equal(snapshot(model), before)
    assert two.readings == 1  # an entry that failed is no reading


def test_a_layer_that_was_replaced_since_is_named() -> None:
    model = nn.Sequential(make_model())
    chip = deploy(model, Reading())
    model[0][4] = copy.deepcopy(model[0][4])
    words = "The layer of `0.4.weight` was replaced after `deploy`. Deploy the model as it is now."
    with pytest.raises(RuntimeError, match=words), chip.at():
        pass
    assert chip.readings == 0
    with deploy(model, Reading()).at():
        pass


def test_a_failure_while_reading_or_writing_leaves_the_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    before = snapshot(model)
    chip = deploy(model, Reading())
    with monkeypatch.context() as patch:
        patch.setattr(chip.tensors[1].place, "holding", lambda value: 1 / 0)  # after the first was written
        with pytest.raises(ZeroDivisionError), chip.at():
            pass
    assert equal(snapshot(model), before)
    chip.states["4.weight"]["w"] = torch.zeros(7, 7)  # does not fit
    with pytest.raises(ValueError, match=r"the weight's shape \(3, 20\), but Reading\(\) gave \(7, 7\)"), chip.at():
        pass
    assert equal(snapshot(model), before)
    with deploy(model, Reading()).at():
        pass


@dataclass(frozen=True)
class Row(WeightNoise):
    """Reads something else than the whole weight."""

    read_of: Callable[[Tensor], object]

    def program(self, weight: Tensor, generator: Generator) -> State:
        return {"weight": weight}

    def read(self, state: State, time_s: float | None, generator: Generator) -> Any:
        return self.read_of(state["weight"])


class FixedRow(Row):
    """Does so when it is programmed."""

    is_fixed = True


@dataclass(frozen=True)
class RowOfDevices(DeviceNoise):
    """Reads the devices of one row."""

    largest_us = 25.0

    def program_devices(self, target_us: Tensor, generator: Generator) -> State:
        return {"conductance_us": target_us}

    def read_devices(self, state: State, time_s: float | None, generator: Generator) -> Tensor:
        return state["conductance_us"][:, :, :1]


@pytest.mark.parametrize(
    ("noise", "gave", "settings"),
    [
        (Row(lambda w: w[:1]), r"\(1, 3\)", {}),
        (FixedRow(lambda w: w[:1]), r"\(1, 3\)", {}),
        (RowOfDevices(), r"\(1, 3\)", {}),
        (RowOfDevices(), r"\(1, 3\)", {"periphery": Periphery(adc_per="slice")}),
        (Row(Tensor.flatten), r"\(12,\)", {}),
        (Row(lambda w: w[None]), r"\(1, 4, 3\)", {}),
        (Row(lambda w: 1.0), "a float", {}),
        (FixedRow(Tensor.numpy), "a ndarray", {}),
    ],
)
def test_a_reading_of_another_shape_is_refused(noise: WeightNoise, gave: str, settings: dict[str, Any]) -> None:
    """Torch would spread it over the weight in silence."""
    message = rf"`noise` must read a tensor of the weight's shape \(4, 3\), but .*Row.* gave {gave}"
    with pytest.raises(ValueError, match=message):
        deploy(nn.Linear(3, 4), noise, **settings).read()
    with pytest.raises(ValueError, match=message):
        noise(torch.ones(4, 3), Generator())


def test_a_field_does_not_replace_a_method() -> None:
    with pytest.raises(TypeError, match="`Replaced` must have no field called `read`: it would replace the method"):

        class Replaced(FixedNoise):
            read: float = 0.1

    with pytest.raises(TypeError, match="`Devices` must have no field called `program_devices`"):

        class Devices(DeviceNoise):
            program_devices: float

    class Method(FixedNoise):
        noisy = partialmethod(lambda self, factor, weight, generator: factor * weight, 2.0)

    assert torch.equal(Method()(torch.ones(2, 2), Generator()), 2 * torch.ones(2, 2))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        *(({"time_s": time_s}, "`time_s` must be ≥ 0 and finite") for time_s in (-1.0, float("nan"), float("inf"))),
        ({"time_s": "1h"}, "`time_s` must be"),
        ({"reading": -1}, "`reading` must be ≥ 0, or None to count, got -1"),
        ({"reading": 1.5}, "`reading` must be"),
    ],
)
def test_times_and_readings_out_of_range_are_named(wrong: dict[str, Any], words: str) -> None:
    chip = deploy(make_model(), Reading())
    for read_at in (lambda: chip.read(**wrong), lambda: chip.at(**wrong).__enter__()):
        with pytest.raises(ValueError, match=words):
            read_at()


@pytest.mark.parametrize("noise", [Variation(gain=0.3), Compose(Gaussian(0.0), Variation(gain=0.3))])
def test_what_a_chip_shares_is_drawn_once_for_all_its_tensors(noise: WeightNoise) -> None:
    model = make_model()
    before = snapshot(model)
    gains = []
    for trial in range(2):
        with deploy(model, noise, trial=trial).at():
            ratios = [(snapshot(model)[name] / before[name]).flatten() for name in ("0.weight", "4.weight")]
        [gain] = torch.cat(ratios).unique_consecutive().round(decimals=12).unique().tolist()
        gains.append(gain)
        drawn = torch.randn(3, generator=generator_for(0, trial, "program"))[0].double()
        assert gain == pytest.approx(1 + 0.3 * drawn.item())
    assert gains[0] != gains[1]


NOISES_WITH_DRAWS = [
    StuckDevices(low=0.2, high=0.1),
    DeadLines(rows=0.2, columns=0.2),
    Variation(gain=0.1),
    Variation(gain=0.1, per="channel"),
    Gaussian(0.1),
]


@pytest.mark.parametrize("noise", NOISES_WITH_DRAWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_a_process_changes_no_chip(noise: WeightNoise, dtype: torch.dtype) -> None:
    weight = torch.linspace(-1, 1, 600, dtype=torch.float32).view(30, 20)
    expected = noise(weight, generator_for(0, "draw"))
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        found = noise(weight, generator_for(0, "draw"))
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, expected)
    assert not torch.equal(found, weight)


def test_the_default_device_of_a_process_plays_no_part() -> None:
    model = nn.Linear(3, 2)
    expected = deploy(model, Variation(gain=0.1)).states["weight"]["shared"]
    with torch.device("meta"):
        assert torch.equal(deploy(model, Variation(gain=0.1)).states["weight"]["shared"], expected)


@dataclass(frozen=True)
class SharedGain(FixedNoise):
    """A gain that all tensors of a chip share, settled when it is programmed."""

    def program_chip(self, generator: Generator) -> dict[str, Tensor]:
        return {"gain": 1 + torch.rand(1, generator=generator)}

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        return weight

    def read(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
        return state["weight"] * state["gain"]


@pytest.mark.parametrize(
    "noise",
    [SharedGain(), Compose(SharedGain(), Gaussian(0.0)), Compose(Gaussian(0.0), SharedGain()), Compose(SharedGain())],
)
def test_what_a_fixed_noise_shares_reaches_every_tensor(noise: WeightNoise) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    clean = [layer.weight.clone() for layer in model]
    with deploy(model, noise, seed=3).at():
        gains = torch.cat([(layer.weight / weight).flatten() for layer, weight in zip(model, clean, strict=True)])
    assert gains.max() - gains.min() < 1e-5
    assert gains[0] > 1.01


@pytest.mark.parametrize("time_s", [None, 86_400.0])
def test_weights_as_they_are_read_come_by_name(time_s: float | None) -> None:
    """Also those of packed and transposed weights; the model stays as it is."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "up": nn.ConvTranspose1d(4, 6, 3)})
    chip, before = deploy(model, PCM()), snapshot(model)
    found = chip.read(time_s, reading=3)
    assert equal(snapshot(model), before)
    with chip.at(time_s, reading=3):
        assert found.keys() == {t.name for t in chip.tensors}
        for t in chip.tensors:
            assert torch.equal(found[t.name], t.weight)
        assert torch.equal(found["attention.in_proj_weight.k"], model["attention"].in_proj_weight[4:8])
    assert not torch.equal(found["up.weight"], model["up"].weight)


def test_a_chip_that_keeps_nothing_is_programmed_with_the_weights_as_they_are_then() -> None:
    model = nn.Linear(4, 3)
    kept, other = (deploy(model, PCM(), keep=keep) for keep in (True, False))
    before = kept.read()["weight"]
    with torch.no_grad():
        model.weight.mul_(3)
    now = deploy(model, PCM()).read()["weight"]
    assert torch.equal(kept.read()["weight"], before)
    assert torch.equal(other.read()["weight"], now)
    with kept.at(), pytest.raises(RuntimeError, match="`weight` lies on a chip already"):
        other.read()  # the weights are not the model's own there
    assert torch.equal(other.read()["weight"], now)
    with pytest.raises(ValueError, match="`keep` must be True or False, got 1"):
        deploy(model, PCM(), keep=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("per", ["weight", "device"])
def test_behind_a_periphery_a_chip_that_keeps_nothing_is_the_same(per: str) -> None:
    """Also with weights that have another largest one than when the chip was made: its converters fit them."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(7, 9)
    around = Periphery(dac_steps=30, adc_steps=30, adc_bound=2.0, output_noise=0.1, adc_per=per)
    noise = Compose(PCM(), StuckDevices(0.1))
    other = deploy(model, noise, periphery=around, keep=False)

    def outputs(chip: Chip) -> list[Tensor]:
        found = []
        for reading in range(2):
            with chip.at(3600.0, reading=reading), torch.no_grad():
                found.append(model(x))
        return found

    for factor in (1.0, 4.0):
        with torch.no_grad():
            model[0].weight.mul_(factor)
        expected = outputs(deploy(model, noise, periphery=around))
        assert all(map(torch.equal, outputs(other), expected))
        assert not torch.equal(*expected)


def test_a_computed_weight_is_programmed_in_full_precision_also_in_autocast() -> None:
    model = parametrizations.orthogonal(nn.Linear(8, 8), orthogonal_map="matrix_exp")
    expected = deploy(model, Gaussian(0.1)).read()["weight"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(deploy(model, Gaussian(0.1), keep=False).read()["weight"], expected)


def test_what_does_not_fit_a_chip_that_keeps_nothing_is_named() -> None:
    model = nn.Linear(3, 2)
    chip = deploy(model, PCM(), keep=False)
    chip.states.update(deploy(model, PCM()).states)
    with pytest.raises(ValueError, match=r"`states` must be empty in a chip with keep=False, got \['weight'\]"):
        chip.read()
    chip.states.clear()
    model.weight = nn.Parameter(torch.ones(2, 5))
    with pytest.raises(RuntimeError, match="`weight` has another shape since `deploy`. Deploy the model as it is now."):
        chip.read()


def test_what_is_read_is_a_copy() -> None:
    model = nn.Linear(4, 3)
    chip = deploy(model, Gaussian(0.1))
    before = chip.read()["weight"].clone()
    chip.read()["weight"].zero_()
    assert torch.equal(chip.read()["weight"], before)
