"""Slices and devices with ADCs of their own, and inputs that enter digit by digit: against loops in float64."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from samson.noise import (
    PCM,
    ChipModel,
    Compose,
    DeviceNoise,
    Gaussian,
    Mapping,
    MeasuredDevices,
    Periphery,
    Quantize,
    ReRAM,
    StuckDevices,
    ThroughChip,
    calibrate_adc,
    deploy,
)

G_MAX = 25.0
IDEAL = MeasuredDevices(targets_us=(0.0, G_MAX), deviations_us=(0.0, 0.0))
NONE = StuckDevices(low=0.0)
MAPPINGS = {
    "slices": Mapping(levels=4, slices=3),
    "slices above a smallest conductance": Mapping(levels=4, slices=2, g_min_us=5.0),
    "slices by channel": Mapping(levels=2, slices=4, per="channel"),
    "significance": Mapping(significance=(1.0, 8.0)),
    "single devices": Mapping(levels=4, slices=3, pair=False),
    "a pair": Mapping(),
}
LAYERS = {
    "linear": (lambda: nn.Linear(7, 3), (5, 7)),
    "grouped convolution": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
    "transposed convolution": (lambda: nn.ConvTranspose1d(4, 2, 3, stride=2), (2, 4, 6)),
}


@dataclass(frozen=True)
class Uneven(DeviceNoise):
    """Devices that read each a little more from left to right, with no error at the left end; and twice at a time."""

    @property
    def largest_us(self) -> float:
        return G_MAX

    def program_devices(self, target_us: Tensor, generator: Generator) -> dict[str, Tensor]:
        return {"held_us": target_us * torch.linspace(1, 1.1, target_us.numel()).view(target_us.shape)}

    def read_devices(self, state: dict[str, Tensor], time_s: float | None, generator: Generator) -> Tensor:
        return state["held_us"] * (1 if time_s is None else 2)


def layer_and_inputs(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    return make().double(), torch.randn(shape).double()


@pytest.mark.parametrize("per", ["slice", "device"])
@pytest.mark.parametrize(
    ("kind", "mapping", "bits"),
    [*((kind, "slices", bits) for kind in LAYERS for bits in (None, 1, 2)), *(("linear", one, 3) for one in MAPPINGS)],
)
def test_with_exact_adcs_the_parts_add_up_to_the_whole(kind: str, mapping: str, per: str, bits: int | None) -> None:
    """Whatever the devices hold, as they were programmed and later."""
    layer, x = layer_and_inputs(kind)
    whole = Periphery(dac_steps=60, tile_inputs=5, input_ranges={"": 2.0})
    both = (whole, replace(whole, adc_per=per, input_slice_bits=bits))
    chips = [deploy(layer, Uneven(mapping=MAPPINGS[mapping]), periphery=around) for around in both]
    for time_s in (None, 1.0):
        found = []
        for chip in chips:
            with torch.no_grad(), chip.at(time_s):
                found.append((layer(x), layer.weight.clone()))
        torch.testing.assert_close(found[1], found[0])
        assert (found[0][0] - layer(x)).abs().max() > 0.01  # devices and DACs are not exact


def by_hand(layer: nn.Linear, x: Tensor, around: Periphery, mapping: Mapping, bounds: tuple[float, ...]) -> Tensor:
    """Step by step, for a pair of devices with digits of `levels` and inputs of `input_slice_bits` bits."""
    levels, steps = mapping.levels or 0, (mapping.levels or 0) ** mapping.slices - 1
    weight = layer.weight.detach()
    top = float(weight.abs().max())
    half = (around.dac_steps or 0) // 2
    base = 2 ** (around.input_slice_bits or 0)
    limit = around.input_ranges[""]
    total = torch.zeros(len(x), len(weight), dtype=torch.float64)
    for n in range(len(x)):
        codes = [round(max(-1.0, min(1.0, float(v) / limit)) * half) for v in x[n]]
        for o in range(len(weight)):
            whole = [round(abs(float(w)) / top * steps) for w in weight[o]]
            for s in range(mapping.slices):
                digit = [(one // levels**s) % levels / (levels - 1) for one in whole]
                plus = [d if w > 0 else 0.0 for d, w in zip(digit, weight[o], strict=True)]
                minus = [d if w < 0 else 0.0 for d, w in zip(digit, weight[o], strict=True)]
                both = [p - m for p, m in zip(plus, minus, strict=True)]
                arrays = [(plus, 1), (minus, -1)] if around.adc_per == "device" else [(both, 1)]
                share = levels**s / sum(levels**i for i in range(mapping.slices))
                for number, (held, sign) in enumerate(arrays):
                    bound = bounds[s * len(arrays) + number]
                    ticks = (around.adc_steps or 0) / 2 / bound
                    for position in range(half.bit_length()):
                        if base**position > half:
                            break
                        part = [(abs(c) // base**position) % base / (base - 1) * (1 if c >= 0 else -1) for c in codes]
                        y = sum(h * p for h, p in zip(held, part, strict=True))
                        y = max(-bound, min(bound, round(y * ticks) / ticks))
                        size = (base - 1) * base**position / half * limit * top
                        total[n, o] += sign * share * y * size
    return total + layer.bias.detach()


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("per", ["slice", "device"])
def test_each_part_has_its_own_adc(per: str, bits: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 3).double(), torch.randn(4, 6).double()
    mapping, bounds = Mapping(levels=4, slices=2), (1.5, 0.7) if per == "slice" else (1.5, 1.2, 0.8, 0.5)
    around = Periphery(dac_steps=62, adc_steps=10, input_ranges={"": 1.5}, input_slice_bits=bits, adc_per=per)
    noise = replace(IDEAL, mapping=mapping)
    found = []
    for setting in ({"adc_bounds": {"": bounds}}, {"adc_bounds": {"": 1.5}}, {"adc_bound": 1.5}):
        with torch.no_grad(), deploy(layer, noise, periphery=replace(around, **setting)).at():
            found.append(layer(x))
    torch.testing.assert_close(found[0], by_hand(layer, x, around, mapping, bounds))
    torch.testing.assert_close(found[1], by_hand(layer, x, around, mapping, (1.5,) * 4))
    assert torch.equal(found[2], found[1])
    assert (found[0] - found[1]).abs().max() > 0.01
    other = replace(around, adc_per={"slice": "device", "device": "slice"}[per])
    assert (found[1] - by_hand(layer, x, other, mapping, (1.5,) * 4)).abs().max() > 0.01  # the check can fail
    whole = replace(around, adc_per="weight", input_slice_bits=None, adc_bound=1.5)
    with torch.no_grad(), deploy(layer, noise, periphery=whole).at():
        assert (found[1] - layer(x)).abs().max() > 0.01


def test_noise_of_outputs_comes_once_a_conversion() -> None:
    """Its variance is the sum over conversions of (share · size of the digit)²."""
    layer = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -0.6]]))  # 15 and 9 of 15: digits 3 3 and 1 2 in base 4
    noise = replace(IDEAL, mapping=Mapping(levels=4, slices=2))
    around = Periphery(
        dac_steps=6, output_noise=0.1, input_ranges={"": 3.0}, input_slice_bits=1, adc_per="slice"
    )  # digits of 1 and 2 of 3
    x = torch.ones(20_000, 2).double()
    with torch.no_grad(), deploy(layer, noise, periphery=around).at():
        y = layer(x)
    sizes = [share * digit for share in (1 / 5, 4 / 5) for digit in (1.0, 2.0)]
    expected = 0.1 * sum(size**2 for size in sizes) ** 0.5
    assert y.std().item() == pytest.approx(expected, rel=4 / (2 * len(x)) ** 0.5)
    assert y.mean().item() == pytest.approx(0.4, abs=4 * expected / len(x) ** 0.5)


@pytest.mark.parametrize(("per", "levels"), [("slice", 4), ("device", 2)])
def test_an_adc_with_a_step_for_every_sum_of_digits_loses_nothing(per: str, levels: int) -> None:
    """Also where columns are of other sizes, or have no negative weights."""
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 5).double(), torch.randn(20, 12).double()
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[1.0], [0.5], [0.1], [0.02], [1.0]]))
        layer.weight[4].abs_()
    noise = replace(IDEAL, mapping=Mapping(levels=levels, slices=3))
    found = []
    for steps in (None, 2 * 12 * (levels - 1), 12 * (levels - 1)):
        around = Periphery(
            dac_steps=14, adc_steps=steps, adc_bound=12.0, input_slice_bits=1, adc_per=per, input_ranges={"": 2.0}
        )
        with torch.no_grad(), deploy(layer, noise, periphery=around).at():
            found.append(layer(x))
    torch.testing.assert_close(found[1], found[0])
    assert (found[2] - found[0]).abs().max() > 0.01  # half as many do


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_arrays_that_cancel_are_added_in_full_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(256, 16).to(dtype), torch.rand(32, 256).to(dtype)
    noise = replace(IDEAL, mapping=Mapping(levels=4, slices=3, g_min_us=12.5))
    found = []
    for per in ("weight", "device"):
        with torch.no_grad(), deploy(layer, noise, periphery=Periphery(adc_per=per)).at():
            found.append(layer(x))
    assert found[1].dtype == dtype
    step = torch.finfo(dtype).eps * found[0].abs().max().float()
    assert (found[1].float() - found[0].float()).abs().max() < 2 * step


@pytest.mark.parametrize("bits", [None, 1, 3])
def test_gradients_pass_the_digits_straight_through(bits: int | None) -> None:
    layer, x = layer_and_inputs("linear")
    x.requires_grad_()
    around = Periphery(dac_steps=14, input_slice_bits=bits, input_ranges={"": 9.0})
    with deploy(layer, Gaussian(0.0), periphery=around).at():
        layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand_as(x))


def test_drift_compensation_scales_the_columns_of_every_slice() -> None:
    """The chip's weight at that time, which holds the compensation, gives the same outputs."""
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 3).double(), torch.randn(5, 7).double()
    around = Periphery(input_ranges={"": 4.0}, adc_per="device")
    chip = deploy(layer, PCM(mapping=Mapping(levels=4, slices=2)), periphery=around)
    with torch.no_grad(), chip.at(86_400.0):
        found, weight = layer(x), layer.weight.clone()
    torch.testing.assert_close(found, nn.functional.linear(x, weight, layer.bias), rtol=1e-5, atol=1e-5)
    rounded = replace(around, adc_steps=2**15, adc_bound=8.0)
    fine = deploy(layer, PCM(mapping=Mapping(levels=4, slices=2)), periphery=rounded)
    with torch.no_grad(), fine.at(86_400.0):
        torch.testing.assert_close(layer(x), found, rtol=0.0, atol=0.01)


@pytest.mark.parametrize("per", ["slice", "device"])
def test_bounds_are_calibrated_for_each_array_over_all_its_conversions(per: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 3).double(), torch.randn(4, 6).double()
    mapping = Mapping(levels=4, slices=2)
    around = Periphery(dac_steps=14, adc_steps=2**20, input_ranges={"": 3.0}, input_slice_bits=1, adc_per=per)
    found = calibrate_adc(layer, [x], around, noise=replace(IDEAL, mapping=mapping))[""]
    assert isinstance(found, tuple)
    assert len(found) == {"slice": 2, "device": 4}[per]
    exact = by_hand(layer, x, around, mapping, (8.0,) * 4)
    torch.testing.assert_close(by_hand(layer, x, around, mapping, found), exact, rtol=0, atol=1e-4)
    for number in range(len(found)):  # none could be smaller
        tight = tuple(0.9 * bound if number == i else bound for i, bound in enumerate(found))
        assert (by_hand(layer, x, around, mapping, tight) - exact).abs().max() > 5e-4


@pytest.mark.parametrize(
    ("per", "mapping", "exact"),
    [
        ("slice", Mapping(levels=4, slices=2, g_min_us=5.0), True),
        ("device", Mapping(levels=4, slices=2), True),
        ("device", Mapping(levels=4, slices=2, g_min_us=5.0), False),
        ("slice", Mapping(levels=4, slices=2, pair=False), False),
    ],
)
def test_an_adc_with_a_step_for_each_sum_of_digits_loses_nothing_of_pairs(
    per: str, mapping: Mapping, exact: bool
) -> None:
    """For ADCs of devices, where no device conducts at a weight of 0."""
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 6, bias=False), torch.randn(64, 8)
    whole = Periphery(dac_steps=254, adc_per=per, input_slice_bits=1, tile_inputs=8, input_ranges={"": 2.5})
    outputs = []
    for around in (whole, replace(whole, adc_bound=8.0, adc_steps=2 * 8 * 3)):
        with torch.no_grad(), deploy(layer, replace(IDEAL, mapping=mapping), periphery=around).at() as model:
            outputs.append(model(x))
    assert torch.allclose(*outputs, rtol=0, atol=1e-5) == exact


@pytest.mark.parametrize("per", ["slice", "device"])
def test_stuck_devices_are_devices_of_the_arrays(per: str) -> None:
    """All low, all high, and some, at the share that is asked for, in every array."""
    torch.manual_seed(0)
    layer, x = nn.Linear(60, 50, bias=False), torch.randn(3, 60)
    mapping, around = Mapping(levels=4, slices=2), Periphery(adc_per=per)
    top = float(layer.weight.detach().abs().max())
    for low, high, expected in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.0, None), (0.2, 0.1, None)):
        noise = Compose(replace(IDEAL, mapping=mapping), StuckDevices(low=low, high=high))
        chip = deploy(layer, noise, periphery=around)
        held = chip.states["weight"]["stuck_at"]
        for end, share in ((0.0, low), (1.0, high)):
            error = 4 * (share * (1 - share) / held.numel()) ** 0.5
            assert (held == end).double().mean().item() == pytest.approx(share, abs=error)
        with torch.no_grad(), chip.at() as model:
            found, weight = model(x), layer.weight.clone()
        torch.testing.assert_close(found, x @ weight.T, rtol=1e-4, atol=1e-4)  # what the layer holds is what computes
        if expected is not None:
            assert (weight - expected).abs().max() < 1e-6
        g = G_MAX * held.where(held != 0.5, 0)  # by hand: digits of the target where no device is stuck
        whole = (layer.weight.detach().abs() / top * 15).round()
        digits = torch.stack([whole % 4, whole // 4]) / 3
        signs = torch.stack([layer.weight.detach() > 0, layer.weight.detach() < 0])
        target = G_MAX * digits.unsqueeze(1) * signs
        devices = torch.where(held != 0.5, g, target)
        by_hand = top / G_MAX * ((devices[0, 0] - devices[0, 1]) + 4 * (devices[1, 0] - devices[1, 1])) / 5
        torch.testing.assert_close(weight, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per", ["slice", "device"])
def test_a_device_that_is_stuck_low_conducts_as_one_of_weight_zero(per: str) -> None:
    layer = nn.Linear(60, 50, bias=False).double()
    noise = Compose(replace(IDEAL, mapping=Mapping(g_min_us=5.0)), StuckDevices(low=0.3))
    kept = deploy(layer, noise, periphery=Periphery(adc_per=per)).read()["weight"] / layer.weight.detach()
    torch.testing.assert_close(kept, kept.round())
    assert kept.mean().item() == pytest.approx(0.7, abs=4 * (0.21 / kept.numel()) ** 0.5)


def test_of_several_faults_of_a_device_the_last_counts_and_all_of_others_do() -> None:
    noise = Compose(IDEAL, StuckDevices(low=0.3), StuckDevices(high=0.2))
    held = deploy(nn.Linear(60, 50), noise, periphery=Periphery(adc_per="slice")).states["weight"]["stuck_at"]
    for end, share in ((0.0, 0.3 * 0.8), (1.0, 0.2)):
        error = 4 * (share * (1 - share) / held.numel()) ** 0.5
        assert (held == end).double().mean().item() == pytest.approx(share, abs=error)


def test_times_that_the_devices_do_not_know_are_refused_with_stuck_ones_too() -> None:
    noise = Compose(ReRAM(mapping=Mapping(levels=4, slices=2)), StuckDevices(low=0.1))
    chip = deploy(nn.Linear(3, 2), noise, periphery=Periphery(adc_per="slice"))
    assert chip.read(86_400.0)["weight"].isfinite().all()
    for time_s in (7.0, 1e9):
        with pytest.raises(ValueError, match="`time_s` must be"):
            chip.read(time_s)


def test_stuck_devices_keep_the_drift_compensation_of_the_others() -> None:
    torch.manual_seed(0)
    layer, day = nn.Linear(40, 30, bias=False), 86_400.0
    around, mapping = Periphery(adc_per="slice"), Mapping(levels=4, slices=2)
    pcm = PCM(mapping=mapping)
    none, all_ = (deploy(layer, noise, periphery=around).read(day)["weight"] for noise in (Compose(pcm, NONE), pcm))
    assert torch.corrcoef(torch.stack([none.flatten(), all_.flatten()]))[0, 1] > 0.99
    assert none.abs().mean().item() == pytest.approx(all_.abs().mean().item(), rel=0.02)


def test_stuck_devices_are_read_at_the_time_of_the_others() -> None:
    layer, year = nn.Linear(40, 30, bias=False), 365 * 86_400.0
    pcm = PCM(year, Mapping(levels=4, slices=2), compensation=None)
    chip = deploy(layer, Compose(pcm, StuckDevices(low=0.1)), periphery=Periphery(adc_per="slice"))
    assert torch.equal(chip.read()["weight"], chip.read(year)["weight"])
    assert chip.read()["weight"].abs().mean() < 0.7 * chip.read(0.0)["weight"].abs().mean()  # the check can fail


@pytest.mark.parametrize(
    "noise", [Gaussian(0.1), Quantize(4), Compose(PCM(), Quantize(4)), Compose(Quantize(4), PCM())]
)
def test_weights_without_devices_of_their_own_are_refused(noise: Any) -> None:
    around = Periphery(adc_per="slice")
    message = "`adc_per` must be 'weight' where weights lie on no devices, got 'slice' with (Gaussian|Quantize|PCM)"
    with pytest.raises(ValueError, match=message):
        deploy(nn.Linear(2, 2), noise, periphery=around)
    with pytest.raises(ValueError, match=message):
        calibrate_adc(nn.Linear(2, 2), [torch.ones(1, 2)], around, noise=noise)
    with pytest.raises(ValueError, match=message):
        ChipModel(noise, "a sheet", around)
    with pytest.raises(ValueError, match="got 'slice' with no noise"):
        calibrate_adc(nn.Linear(2, 2), [torch.ones(1, 2)], around)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="`adc_per` must be"):
        Periphery(adc_per="row")
    for settings in ({"input_slice_bits": 0, "dac_steps": 14}, {"input_slice_bits": 1}):
        with pytest.raises(ValueError, match="`input_slice_bits` must be ≥ 1 with `dac_steps`"):
            Periphery(**settings)
    for bounds in ((), (1.0, 0.0)):
        with pytest.raises(ValueError, match="`adc_bounds` must be > 0 and finite"):
            Periphery(adc_bounds={"": bounds})
    sliced = Periphery(adc_bounds={"": (1.0, 2.0, 3.0)}, adc_per="slice")
    with pytest.raises(ValueError, match="`adc_bounds` must give one number, or one for each of 2 arrays of `weight`"):
        deploy(nn.Linear(2, 2), replace(IDEAL, mapping=Mapping(levels=4, slices=2)), periphery=sliced)
    with pytest.raises(ValueError, match="`adc_bounds` must be one number a layer with adc_per='weight'"):
        deploy(nn.Linear(2, 2), IDEAL, periphery=replace(sliced, adc_per="weight"))
    for around in (Periphery(adc_per="slice"), Periphery(dac_steps=14, input_slice_bits=1)):
        with pytest.raises(ValueError, match="`periphery` must convert whole products in training, got adc_per="):
            ThroughChip(nn.Linear(2, 2), around, [torch.ones(1, 2)])
