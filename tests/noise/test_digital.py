"""Quantised weights, faulty bits, broken devices and lines, shared variation, and noises one after the other."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import evaluate
from samson.noise import (
    CMO,
    NOISES,
    PCM,
    PRESETS,
    BitErrors,
    Compose,
    CustomPCM,
    DeadLines,
    DeviceNoise,
    Gaussian,
    Mapping,
    PCMHermes,
    Quantize,
    StuckDevices,
    Variation,
    bit_error_rate,
    check_noise,
    deploy,
    preset,
    voltage_at,
)
from tests.conftest import generator

DAY = 86_400.0


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(11), dtype=torch.float64)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_quantisation_is_the_nearest_of_the_representable_values(scheme: str, per: str, bits: int) -> None:
    w = weights(3, 40)
    quantised = Quantize(bits, scheme, per)(w, generator()).numpy()
    for rows in [w.numpy()] if per == "tensor" else list(w.numpy()[:, None]):
        largest = np.abs(rows).max()
        values = (
            np.linspace(-largest, largest, 2**bits - 1)
            if scheme == "symmetric"
            else np.linspace(rows.min(), rows.max(), 2**bits)
        )
        nearest = values[np.abs(rows[..., None] - values).argmin(-1)]
        place = slice(None) if per == "tensor" else [i for i in range(3) if (w[i].numpy() == rows[0]).all()]
        assert np.allclose(quantised[place], nearest, atol=1e-12)
        assert not np.allclose(rows, nearest, atol=1e-3)


def words(noise: BitErrors, w: Tensor, seed: int = 0) -> Tensor:
    """What the memory holds, from the weights that are read."""
    codes, step, zero = noise.format.encode(w)
    read = ((noise(w, generator(seed)) - zero) / step).round().int()
    return noise.format.to_words(codes) ^ noise.format.to_words(read)


@pytest.mark.parametrize(
    ("scheme", "bits", "p"),
    [
        *(("symmetric", bits, 0.05) for bits in (2, 4, 8)),
        *(("asymmetric", bits, 0.05) for bits in (2, 4)),
        *(("asymmetric", 8, p) for p in (0.0, 5e-5, 0.012, 0.204, 0.5, 0.999, 1.0)),
    ],
)
def test_each_bit_flips_with_the_rate(scheme: str, bits: int, p: float) -> None:
    w = weights(800, 800)
    flipped = words(BitErrors(p, bits=bits, scheme=scheme), w)
    flips = torch.stack([(flipped >> i) & 1 for i in range(bits)]).flatten(1).double()
    error = 5 * math.sqrt(p * (1 - p) / w.numel())
    assert (flips.mean(1) - p).abs().max() <= error
    assert (flips.mean(1) - (2 * p or 0.5)).abs().max() > error  # the check can fail
    assert abs((flips[0] * flips[1]).mean() - p**2) <= 5 * math.sqrt(p**2 * (1 - p**2) / w.numel())


def test_a_rate_that_is_rounded_to_no_faults_is_said() -> None:
    for made in (
        partial(BitErrors, 2.9e-8),
        partial(BitErrors, voltage=0.95, rates_by_voltage=((0.9, 0.1), (1, 1e-16))),
    ):
        with pytest.warns(UserWarning, match="is rounded to 0, the nearest multiple .* Give a rate above 3e-8"):
            made()
    for rate in (0.0, 3e-8):
        BitErrors(rate)  # a warning is an error here


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("fault", ["flip", "stuck"])
def test_faults_at_a_small_rate_are_a_subset(scheme: str, fault: str) -> None:
    w = weights(100, 100)
    rates = (0.0005, 0.005, 0.025)
    one, two, three = (words(BitErrors(p, scheme=scheme, fault=fault), w) for p in rates)
    assert torch.equal(one & two, one)
    assert torch.equal(two & three, two)
    assert (one != two).any()
    other = words(BitErrors(0.025, scheme=scheme, fault=fault), w, seed=1)
    assert not torch.equal(two & other, two)  # the check can fail


def test_a_pattern_persists_only_where_that_is_said() -> None:
    w = weights(10, 10)
    for persistent in (True, False):
        noise = BitErrors(0.05, persistent=persistent)
        state = noise.program(w, generator())
        one, two = (noise.read(state, None, generator(seed)) for seed in (1, 2))
        assert torch.equal(one, two) == persistent


def test_voltage_is_log_linear_and_flagged_outside() -> None:
    for voltage, rate in {0.75: 0.204, 0.79: 0.056, 0.833: 0.012, 0.875: 0.001}.items():
        assert bit_error_rate(voltage) == pytest.approx(rate)
    assert bit_error_rate(0.77) == pytest.approx(math.sqrt(0.204 * 0.056))
    assert BitErrors(voltage=0.77).probability == bit_error_rate(0.77)
    for voltage in (0.7, 0.9):
        with pytest.warns(UserWarning, match="outside the measured range"):
            noise = BitErrors(voltage=voltage)
        assert 0 < noise.probability <= 0.5
        noise(weights(2, 2), generator())  # said once


TABLE = ((0.6, 0.1), (0.7, 0.001))


def test_a_memory_of_ones_own_has_its_own_rates() -> None:
    assert bit_error_rate(0.65, TABLE) == pytest.approx(0.01)
    assert voltage_at(0.01, TABLE) == pytest.approx(0.65)
    assert BitErrors(voltage=0.65, rates_by_voltage=TABLE).probability == pytest.approx(0.01)
    assert bit_error_rate(0.75) > 0.2  # the check can fail: the default is another memory


@pytest.mark.parametrize("form", [list, lambda table: tuple(map(list, table)), np.array, torch.tensor])
def test_a_table_may_be_lists_or_an_array(form: Callable[[object], object]) -> None:
    own = form(((0.5, 0.25), (0.75, 0.0625)))  # numbers that are the same in float32
    assert bit_error_rate(0.625, own) == pytest.approx(0.125)
    assert voltage_at(0.125, own) == pytest.approx(0.625)
    made = BitErrors(voltage=0.625, rates_by_voltage=own)
    assert made == BitErrors(voltage=0.625, rates_by_voltage=((0.5, 0.25), (0.75, 0.0625)))
    assert hash(made) == hash(replace(made))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([*TABLE, (0.8, 0.0)], r"rates descending in \(0, 0.5\], got .* Leave out points without errors"),
        ([TABLE[0], (0.65, 0.1), TABLE[1]], "of equal rates keep that of the highest voltage"),
        ([(0.6, 0.7), TABLE[1]], r"rates descending in \(0, 0.5\]"),
        ([(0.6, 0.1), (0.6, 0.01), (0.7, 0.001)], "must have voltages > 0, ascending"),
        ([(0.0, 0.1), TABLE[1]], "must have voltages > 0, ascending"),
        ([(0.6, 0.1)], r"must hold at least two pairs \(V/V_min, rate\), got \(\(0.6, 0.1\),\)"),
        ([0.6, 0.7, 0.8], "must be a tuple of pairs of numbers, got"),
        ([TABLE[0], (0.7,)], "must be a tuple of pairs of numbers, got"),
        ([["0.6", "0.1"], ["0.7", "0.001"]], "must be a tuple of pairs of numbers, got"),
    ],
)
def test_what_a_table_lacks_is_said(table: list[object], words: str) -> None:
    for refused in (bit_error_rate, lambda v, own: BitErrors(voltage=v, rates_by_voltage=own)):
        with pytest.raises(ValueError, match=f"`rates_by_voltage` .*{words}"):
            refused(0.65, table)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_codes_may_be_of_any_integer_type(scheme: str, dtype: torch.dtype, bits: int) -> None:
    """Signed ones are two's complement, with or without the bits above those that are stored."""
    codes = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).view(4, -1)
    held = codes if scheme == "symmetric" else codes + 2 ** (bits - 1)
    for rate in (0.0, 1.0):
        chip = deploy(nn.Linear(codes.shape[1], 4), BitErrors(rate, bits=bits, scheme=scheme))
        chip.states["weight"] |= {"words": held.to(dtype), "step": torch.tensor(0.5), "zero": torch.tensor(2.0)}
        read = ~codes if rate else codes  # every bit flips
        expected = read if scheme == "symmetric" else read + 2 ** (bits - 1)
        assert torch.equal(chip.read()["weight"], expected * 0.5 + 2.0)


def test_codes_of_no_integer_type_are_refused() -> None:
    chip = deploy(nn.Linear(3, 2), BitErrors(0.1, bits=4))
    chip.states["weight"]["words"] = torch.ones(2, 3)
    with pytest.raises(ValueError, match="`words` must be of an integer type, got torch.float32"):
        chip.read()


@dataclass(frozen=True)
class Powers(BitErrors):
    """Steps that are powers of two, for codes from −2^(bits−1)."""

    scheme: str = "symmetric"

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = 2 ** (self.bits - 1)
        step = torch.exp2((weight.abs().amax() / half).log2().ceil())
        return (weight / step).round().clamp(-half, half - 1).to(torch.int8), step, torch.zeros(())


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("fault", ["flip", "stuck"])
def test_a_quantiser_of_ones_own_keeps_the_faults(fault: str, persistent: bool) -> None:
    w = weights(300, 300)
    step = 2.0 ** np.ceil(np.log2(np.abs(w.numpy()).max() / 8))
    codes = np.clip(np.round(w.numpy() / step), -8, 7).astype(int)
    exact, noise = (Powers(p, bits=4, fault=fault, persistent=persistent) for p in (0.0, 0.1))
    assert np.array_equal(exact(w, generator()).numpy(), codes * step)
    check_noise(noise)
    state = noise.program(w, generator())
    one, two = (noise.read(state, None, generator(seed)) for seed in (1, 2))
    assert torch.equal(one, two) == persistent
    wrong = ((one.numpy() / step).round().astype(int) ^ codes) & 15
    shares = np.array([(wrong >> bit & 1).mean() for bit in range(4)])
    expected = 0.1 if fault == "flip" else 0.05
    assert np.abs(shares - expected).max() <= 5 * math.sqrt(0.1 * 0.9 / w.numel())


def test_codes_of_a_quantiser_of_ones_own_are_kept() -> None:
    """With −8, which ours never gives, and a scale that is not ours."""
    layer = nn.Linear(300, 20)
    scale = layer.weight.detach().abs().amax(1, keepdim=True) / 7.5
    codes = (layer.weight.detach() / scale).round().clamp(-8, 7).int()
    assert codes.min() == -8
    for rate in (0.0, 0.1):
        noise = BitErrors(rate, bits=4, scheme="symmetric", per="channel")
        chip, ours = deploy(layer, noise), deploy(layer, replace(noise, rate=0.0))
        chip.states["weight"] |= {"words": (codes & 15).to(torch.uint8), "step": scale}
        read = (chip.read()["weight"] / scale).round().int()
        assert torch.allclose(read * scale, chip.read()["weight"])
        assert -8 <= read.min() <= read.max() <= 7
        flipped = (read ^ codes) & 15
        shares = torch.stack([(flipped >> bit) & 1 for bit in range(4)]).double().mean((1, 2))
        assert (shares - rate).abs().max() <= 5 * math.sqrt(rate * (1 - rate) / codes.numel())
        assert not torch.allclose(ours.read()["weight"], codes * scale, atol=1e-3)  # why: ours rounds to other values


def test_layers_that_stay_digital_may_be_rounded_in_a_block_around() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4)), torch.randn(200, 8)
    data, inner = (x, model(x).argmax(1)), {"select": ["default", "!2"], "trials": 3}
    before = model[2].weight.detach().clone()
    rounded, errors = copy.deepcopy(model), BitErrors(0.02, bits=4)
    rounded[2].weight.data = Quantize(2, per="channel")(before, generator())
    with deploy(model, Quantize(2, per="channel"), select="2").at():
        found = evaluate(model, data, errors, **inner)
    expected, exact = (evaluate(one, data, errors, **inner) for one in (rounded, model))
    assert (found.trials, found.clean) == (expected.trials, expected.clean)
    assert found.clean < exact.clean == 1.0  # rounded without noise, too
    assert torch.equal(model[2].weight, before)


def test_stuck_devices_are_stuck() -> None:
    w = torch.tensor([[1.0, -0.5]])
    assert torch.equal(StuckDevices(low=1.0)(w, generator()), torch.zeros(1, 2))
    single = Mapping(pair=False)
    assert torch.allclose(StuckDevices(high=1.0, mapping=single)(w, generator()), torch.ones(1, 2))
    assert torch.allclose(StuckDevices(low=1.0, mapping=single)(w, generator()), torch.full((1, 2), -0.5))
    noisy = StuckDevices(0.1, 0.05)(weights(300, 300), generator())
    untouched = (noisy == weights(300, 300)).double().mean().item()
    error = 5 * 0.5 / 300
    assert untouched == pytest.approx(0.95 * 0.85, abs=error)  # the device at g_min may be stuck there
    assert all(untouched != pytest.approx(wrong, abs=error) for wrong in (0.85, 0.85**2))  # the check can fail


SINGLE = Mapping(on_off_ratio=20.0, per="channel", pair=False)


@pytest.mark.parametrize(
    ("device", "low", "stuck"),
    [
        (CMO(), 1.0, [-0.5, -0.5, -0.5, -0.5]),  # one device a weight: g_min is the least weight of the layer
        (CMO(), 0.0, [1.0, 1.0, 1.0, 1.0]),
        (CustomPCM(mapping=SINGLE), 1.0, [-0.5, -0.5, -0.1, -0.1]),  # or of the channel
        (CustomPCM(), 0.0, [0.0, 0.0, 0.0, 0.0]),  # pairs: both at g_max
    ],
)
def test_stuck_devices_are_those_of_the_model_before(device: DeviceNoise, low: float, stuck: list[float]) -> None:
    w = torch.tensor([[1.0, -0.5], [0.2, -0.1]], dtype=torch.float64)
    short = StuckDevices(low=low, high=1 - low)
    long = replace(short, mapping=device.mapping, g_max_us=device.largest_us)
    chip = Compose(device, Variation(), short)
    read = chip(w, generator())
    assert read.flatten().tolist() == pytest.approx(stuck, abs=0.15)  # the devices' own errors
    for same in (Compose(device, Variation(), long), Compose(*chip.noises), Compose(chip)):
        assert torch.equal(same(w, generator()), read)
    assert Compose(device, Compose(Variation(), short)) == chip
    assert chip.noises[0] is device


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"mapping": Mapping()},
            r"`mapping` of StuckDevices must be .*, Mapping\(g_min_us=9.0, .* of CMO, got Mapping\(",
        ),
        ({"g_max_us": 25.0}, "`g_max_us` of StuckDevices must be .*, 88.2 of CMO, got 25.0. Leave it out"),
    ],
)
def test_stuck_devices_of_another_kind_than_the_model_before_are_refused(own: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Compose(CMO(), StuckDevices(low=0.1, **own))
    Compose(Quantize(), StuckDevices(low=0.1, **own), CMO())  # of no model: its own


def test_stuck_devices_leave_the_errors_of_the_others_alone() -> None:
    """Levels are what is programmed; a reading between them is no error."""
    w = weights(50, 40)
    for mapping in (Mapping(levels=4), Mapping(levels=2, slices=3), Mapping(levels=4, pair=False)):
        device = CMO(mapping=replace(mapping, g_min_us=9.0), acceptance=0.02)
        alone, stuck = (Compose(device, StuckDevices(low))(w, generator()) for low in (0.0, 0.1))
        assert torch.equal(alone, device(w, generator()))
        assert 0.4 < (stuck == alone).double().mean() < 0.99
        assert alone.unique().numel() > 1000  # not rounded


def test_dead_lines_are_whole_lines() -> None:
    w = torch.ones(50, 30, 3, 3)
    rows = DeadLines(rows=0.2)(w, generator()).flatten(1)
    columns = DeadLines(columns=0.2)(w, generator()).flatten(1)
    assert torch.equal(rows, rows[:1].expand_as(rows))
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert 0.1 < (rows == 0).double().mean() < 0.3
    assert 0.05 < (columns == 0).double().mean() < 0.4
    tiles = DeadLines(columns=0.2, tile_inputs=90)(w, generator()).flatten(1).unflatten(1, (3, 90))
    assert torch.equal(tiles, tiles[..., :1].expand_as(tiles))
    assert not torch.equal(tiles, tiles[:, :1].expand_as(tiles))  # each tile has columns of its own


@pytest.mark.parametrize(
    ("per", "tile_inputs", "same"),
    [("layer", None, (0, 1)), ("chip", None, (0, 1)), ("channel", None, (1,)), ("tile", 4, (0,))],
)
def test_variation_is_shared_by_the_unit(per: str, tile_inputs: int | None, same: tuple[int, ...]) -> None:
    w = torch.ones(6, 8, dtype=torch.float64)
    noise = Variation(0.1, 0.05, 0.02, per=per, tile_inputs=tile_inputs)
    state = noise.program(w, generator())
    for time_s in (None, DAY):
        noisy = noise.read(state, time_s, generator())
        assert torch.allclose(noisy, noisy.mean(same, keepdim=True).expand_as(noisy))
    assert len(noise.read(state, None, generator()).unique()) == {"channel": 6, "tile": 2}.get(per, 1)


def test_variation_is_the_formula_and_off_by_default() -> None:
    w = weights(3, 4)
    assert torch.equal(Variation()(w, generator()), w)
    state = {"weight": w, "shared": torch.tensor([0.5, -2.0, 1.5], dtype=torch.float64)}
    noise = Variation(gain=0.1, offset=0.02, drift_exponent=0.01)
    decay = ((DAY + 20) / 20) ** (-0.01 * 1.5)
    expected = w * (1 + 0.1 * 0.5) * decay + 0.02 * w.abs().max() * -2.0
    assert torch.allclose(noise.read(state, DAY, generator()), expected)
    g = generator()
    draws = torch.stack([Variation(gain=0.1)(w, g)[0, 0] / w[0, 0] for _ in range(2000)])
    error = 5 * 0.1 / math.sqrt(2 * 2000)
    assert abs(draws.std() - 0.1) < error < abs(1.2 * draws.std() - 0.1)  # the check can fail


def test_variation_of_the_drift_has_the_t0_of_the_devices_before() -> None:
    w, drift = weights(6, 8), Variation(drift_exponent=0.05)
    for device, own, t0 in (
        (PCMHermes(devices=2, compensation=None), drift, 300.0),
        (PCMHermes(devices=2, compensation=None), replace(drift, reference_s=20.0), 20.0),  # what is given counts
        (PCM(compensation=None), drift, 20.0),
        (CMO(), drift, 20.0),  # has none
    ):
        for chip in (Compose(device, own), Compose(device, Compose(own)), Compose(*Compose(device, own).noises)):
            state = chip.program(w, generator())
            state["1.shared"] = torch.tensor([0.0, 0.0, 1.0])
            before = device.read({k.removeprefix("0."): v for k, v in state.items()}, DAY, generator())
            decay = ((DAY + t0) / t0) ** -0.05
            torch.testing.assert_close(chip.read(state, DAY, generator()), before * decay)


def test_compose_is_one_after_the_other() -> None:
    w = weights(5, 6)
    state = Compose(Quantize(3), PCM(time_s=DAY, compensation=None)).program(w, generator())
    alone = PCM(compensation=None).program(Quantize(3)(w, generator()), generator())
    assert torch.equal(state["1.conductance_us"], alone["conductance_us"])
    assert not torch.equal(state["1.conductance_us"], PCM(compensation=None).program(w, generator())["conductance_us"])
    reading = Compose(Quantize(3), PCM(time_s=DAY, compensation=None)).read(state, None, generator(1))
    assert torch.equal(reading, PCM(compensation=None).read(alone, DAY, generator(1)))


def test_factors_of_compensation_multiply() -> None:
    """A device that is read as the weights of another: both compensate, and the noise of outputs grows with both."""
    w = weights(5, 6)
    first, second = (PCM(compensation="global", time_s=t) for t in (DAY, 100 * DAY))
    both = Compose(first, second)
    state = both.program(w, generator())
    weight, factor = both.reading(state, DAY, generator(1))
    of_first = first.reading(first.program(w, generator()), DAY, generator(1))[1]
    assert factor is not None
    assert of_first is not None
    seed = state["seeds"].tolist()[0]
    after = generator(1)
    read, own = first.reading(both._part(state, 0), DAY, after)
    expected = second.reading(second.program(read, torch.Generator().manual_seed(seed)), DAY, after)[1]
    assert torch.allclose(factor, own * expected)
    assert not torch.allclose(factor, own)
    assert weight.shape == w.shape


def test_the_first_time_among_several_is_that_of_all() -> None:
    w, (none, second, day) = weights(5, 6), (PCM(t, compensation=None) for t in (None, 1.0, DAY))
    chip = Compose(none, second, day)
    assert chip.default_time_s == 1.0
    state = chip.program(w, generator())
    assert torch.equal(chip.read(state, None, generator(1)), chip.read(state, 1.0, generator(1)))
    assert not torch.equal(chip.read(state, None, generator(1)), chip.read(state, DAY, generator(1)))


def test_what_follows_a_device_is_the_same_at_every_time() -> None:
    w, chip = torch.ones(20, 30), Compose(PCM(time_s=0.0, compensation=None), DeadLines(rows=0.3), Quantize(8))
    assert chip.default_time_s == 0.0
    state = chip.program(w, generator())
    now, year = (chip.read(state, t, generator(i)) for i, t in enumerate((None, 365 * DAY)))
    assert torch.equal(now == 0, year == 0)
    assert 0 < (now == 0).double().mean() < 1
    assert year.abs().mean() < 0.8 * now.abs().mean()


def test_a_second_quantiser_of_another_format_is_an_error() -> None:
    Compose(Quantize(8, "asymmetric"), Gaussian(0.0), BitErrors(0.01))
    for chain in ((Quantize(4, "asymmetric"), BitErrors(0.01)), (Compose(Quantize(8)), Gaussian(0.1), BitErrors(0.01))):
        with pytest.raises(ValueError, match="BitErrors owns its quantiser"):
            Compose(*chain)
    for second in (BitErrors(0.01, bits=8), BitErrors(0.01, bits=4)):  # also in the format of the first
        with pytest.raises(ValueError, match="must not hold BitErrors twice"):
            Compose(BitErrors(0.01, bits=4), Gaussian(0.0), second)
    w = weights(20, 20)
    first = BitErrors(0.05, scheme="symmetric")(weights(200, 200), generator())
    again = BitErrors(0.0, scheme="symmetric")(first, generator())
    assert not torch.allclose(again, first, atol=1e-6)  # why: -128 widens the range, and all is rounded again
    chained = Compose(Quantize(8, "asymmetric"), BitErrors(0.0))(w, generator())
    assert torch.allclose(chained, BitErrors(0.0)(w, generator()), atol=1e-12)
    with pytest.raises(ValueError, match="at least one noise"):
        Compose()


def test_presets_have_a_source_and_unknown_ones_are_named() -> None:
    assert len(PRESETS) >= 9
    assert all(chip.source for chip in PRESETS.values())
    assert preset("int4") is PRESETS["int4"]
    with pytest.raises(ValueError, match="Did you mean 'pcm-hermes'\\? Available: pcm,"):
        preset("pcm-herms")


def test_a_quantiser_derived_from_ours_may_round_by_chance() -> None:
    class Chance(Quantize):
        pass

    assert Chance(4).is_random
    assert not Quantize(4).is_random


def test_digital_chips_by_name_are_what_they_say() -> None:
    assert preset("int8").noise == Quantize(8, "symmetric", "channel")
    assert preset("int4").noise == Quantize(4, "symmetric", "channel")
    assert preset("sram-0.80vmin").noise == BitErrors(voltage=0.8, persistent=True)
    assert NOISES["stuck-bits"](0.1) == BitErrors(0.1, fault="stuck", persistent=True)  # for good, not in one reading


@pytest.mark.parametrize("p", [2e-6, 1.2e-5, 2.2e-5])
def test_rare_bit_errors_have_their_rate(p: float) -> None:
    """Rates between the steps of 16 binary digits, 1.5e-5."""
    n = 3_000_000
    state = {"words": torch.zeros(n, dtype=torch.uint8), "step": torch.tensor(1.0), "zero": torch.tensor(0.0)}
    wrong = BitErrors(p).read(state, None, generator()).int()
    wrong = wrong[wrong > 0]
    faulty = sum(int(((wrong >> i) & 1).sum()) for i in range(8))
    expected = p * 8 * n
    assert abs(faulty - expected) < 5 * math.sqrt(expected)
    assert abs(faulty - round(p * 2**16) / 2**16 * 8 * n) > 5 * math.sqrt(expected)  # the check can fail


@pytest.mark.parametrize("size", [3, 4, 7, 12])
def test_a_tile_has_the_inputs_that_it_says(size: int) -> None:
    w = torch.ones(40, 2, 6, dtype=torch.float64)
    starts = list(range(0, 12, size))
    varied = Variation(0.1, per="tile", tile_inputs=size)(w, generator()).flatten(1)
    dead = DeadLines(columns=0.5, tile_inputs=size)(w, generator()).flatten(1)
    for start in starts:
        for noisy in (varied, dead):
            assert (noisy[:, start : start + size] == noisy[:, start : start + 1]).all()
    assert len(varied[0].unique()) == len(starts)
    assert all((dead[:, a] != dead[:, b]).any() for a in starts for b in starts if a < b)
    mapped = torch.arange(1.0, 13.0).view(1, 2, 6) * torch.ones(3, 1, 1)
    held = Mapping(per="tile", tile_inputs=size).conductances(mapped, 25.0)
    largest = [min(start + size, 12) for start in starts for _ in range(size)][:12]
    assert held["scale"].flatten().tolist() == pytest.approx([25.0 / v for v in largest])


def test_read_noise_grows_as_the_devices_age_against_the_length_of_a_reading() -> None:
    """σ ∝ √log((t + t0 + t_r) / 2t_r): a reading as long as the devices are old tells the sum from a difference."""
    own, none = CustomPCM().constants, PRESETS["pcm-joshi2020"].noise.constants.drift_mean
    slow = replace(own, programming=(0.0,), drift_mean=none, drift_deviation=none, read_s=10.0)
    noise, w = CustomPCM(constants=slow, compensation=None), torch.ones(300, 300, dtype=torch.float64)
    state = noise.program(w, generator())
    near, far = (noise.read(state, t, generator(i)).std().item() for i, t in enumerate((5.0, 2000.0)))
    expected = math.sqrt(math.log(35 / 20) / math.log(2030 / 20))
    assert near / far == pytest.approx(expected, rel=5 * math.sqrt(2 / (2 * w.numel())))
