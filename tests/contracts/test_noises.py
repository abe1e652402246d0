"""What every weight noise promises, checked for each row of the catalogue."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from samson.noise import (
    CMO,
    NOISES,
    PCM,
    PRESETS,
    BitErrors,
    CMOConstants,
    Compose,
    CustomPCM,
    DeadLines,
    FixedNoise,
    Gaussian,
    InversePower,
    Mapping,
    MeasuredDevices,
    PCMHermes,
    Quantize,
    ReRAM,
    ReRAMConstants,
    StuckDevices,
    Variation,
    WeightNoise,
    check_noise,
    deploy,
    standard_normal,
)
from tests.conftest import equal, generator, snapshot

LEVEL = 0.2
N = 40_000


def zero(w: Tensor) -> Tensor:
    return torch.zeros_like(w)


def shared_out(error: Tensor, p: float) -> Tensor:
    """Standard deviation of an error that is there with probability p."""
    return error.abs() * math.sqrt(p * (1 - p))


def largest_of_channel(w: Tensor) -> Tensor:
    return torch.stack([torch.full_like(row, max(abs(v) for v in row.flatten().tolist())) for row in w])


def unsigned(w: Tensor, bits: int) -> tuple[Tensor, float]:
    """The integer that stands for each weight, and the step, in plain Python."""
    values = w.flatten().tolist()
    step = (max(values) - min(values)) / (2**bits - 1)
    return torch.tensor([round((v - min(values)) / step) for v in values]).view_as(w), step


def mean_of_bits(w: Tensor, bits: int, p: float) -> Tensor:
    """Mean error if each bit is wrong with probability p: rounding, and a bit of 0 adds what a bit of 1 takes."""
    codes, step = unsigned(w, bits)
    turns = sum((1 - 2 * ((codes >> i) & 1)) * 2**i for i in range(bits))
    return codes * step + w.min() - w + p * step * turns


def deviation_of_bits(w: Tensor, bits: int, p: float) -> Tensor:
    _, step = unsigned(w, bits)
    return torch.full_like(w, step * math.sqrt(p * (1 - p) * sum(4**i for i in range(bits))))


def proportional(w: Tensor, small: Tensor, large: Tensor) -> bool:
    return torch.allclose(3 * (small - w), large - w, rtol=1e-9, atol=1e-12)


def proportional_logarithms(w: Tensor, small: Tensor, large: Tensor) -> bool:
    one, three = (small / w).log(), (large / w).log()
    return torch.allclose((3 * one - three) - (3 * one - three)[0], torch.zeros_like(w), atol=1e-9)


def nested(w: Tensor, small: Tensor, large: Tensor) -> bool:
    """What is wrong at the small level is wrong at the large one."""
    return bool(((small != w) <= (large != w)).all() and (small != w).any() and (large != small).any())


@dataclass
class Family:
    """A noise with a level: mean and standard deviation of its errors, written independently."""

    deviation: Callable[[Tensor], Tensor]
    mean: Callable[[Tensor], Tensor] = zero
    levels: Callable[[Tensor, Tensor, Tensor], bool] = proportional
    independent: bool = True
    apart: int | None = -1
    """The axis along which copies of a weight err each by itself."""


GROWTH = math.exp(LEVEL**2)
FAMILIES = {
    "gaussian": Family(lambda w: torch.full_like(w, LEVEL * max(w.max(), -w.min()))),
    "gaussian-channel": Family(lambda w: LEVEL * largest_of_channel(w)),
    "gaussian-filter": Family(lambda w: LEVEL * largest_of_channel(w) ** 0.5),
    "gaussian-multiplicative": Family(lambda w: LEVEL * w.abs()),
    "lognormal": Family(
        lambda w: w.abs() * math.sqrt(GROWTH * (GROWTH - 1)),
        lambda w: w * (math.sqrt(GROWTH) - 1),
        proportional_logarithms,
    ),
    "lognormal-corrected": Family(lambda w: w.abs() * math.sqrt(GROWTH - 1), zero, proportional_logarithms),
    "bit-errors": Family(lambda w: deviation_of_bits(w, 8, LEVEL), lambda w: mean_of_bits(w, 8, LEVEL), nested),
    "bit-errors-4bit": Family(lambda w: deviation_of_bits(w, 4, LEVEL), lambda w: mean_of_bits(w, 4, LEVEL), nested),
    "stuck-bits": Family(lambda w: deviation_of_bits(w, 8, LEVEL / 2), lambda w: mean_of_bits(w, 8, LEVEL / 2), nested),
    "stuck-low": Family(lambda w: shared_out(w, LEVEL), lambda w: -LEVEL * w, nested),
    "stuck-high": Family(
        lambda w: shared_out(torch.hypot(w.abs().max() - w.abs(), w.abs().max()), LEVEL), lambda w: -LEVEL * w, nested
    ),
    "dead-rows": Family(lambda w: shared_out(w, LEVEL), lambda w: -LEVEL * w, nested, independent=False),
    "dead-columns": Family(lambda w: shared_out(w, LEVEL), lambda w: -LEVEL * w, nested, independent=False, apart=0),
    "chip-gain": Family(lambda w: LEVEL * w.abs(), independent=False, apart=None),
}

DAY = 86_400.0
MADE_UP_PCM = replace(PCMHermes().constants, g_max_us=30.0, programming=(0.5,), read=InversePower(0.0, 1.0, 1e-3, 0.2))
MADE_UP_CMO = CMOConstants(4.0, 50.0, (0.01,), ((0.01, 0.002),), -0.05, (0.3, 0.05), 0.02, 1e-5)
CASES: dict[str, WeightNoise] = {
    **{name: NOISES[name](LEVEL) for name in FAMILIES},
    **{name: chip.noise for name, chip in PRESETS.items()},
    "pcm-day-global": PCM(time_s=DAY, compensation="global"),
    "pcm-day-column": PCM(time_s=DAY, compensation="column"),
    "pcm-tile": PCM(DAY, Mapping(per="tile", tile_inputs=3), compensation="global"),
    "pcm-levels": PCM(DAY, Mapping(g_min_us=1.0, per="channel", levels=8), compensation=None),
    "pcm-slices": PCM(DAY, Mapping(on_off_ratio=20.0, levels=4, slices=3), compensation=None),
    "pcm-pairs": PCM(DAY, Mapping(significance=(1.0, 1.0, 0.5)), compensation=None),
    "hermes": PCMHermes(time_s=DAY, compensation="global"),
    "hermes-2": PCMHermes(time_s=DAY, devices=2, compensation=None),
    "pcm-custom": CustomPCM(DAY, compensation="global", constants=MADE_UP_PCM),
    "measured": MeasuredDevices(
        targets_us=(1.0, 10.0, 25.0), deviations_us=(0.4, 0.7, 0.6), mean_errors_us=(0.2, 0.0, -1.0), g_max_us=30.0
    ),
    "measured-once": MeasuredDevices(
        mapping=Mapping(per="channel", pair=False), targets_us=(20.0,), deviations_us=(0.5,)
    ),
    "reram-day": ReRAM(time_s=DAY, g_max_us=25.0),
    "reram-hour": ReRAM(time_s=3600.0, interpolate=True),
    "reram-custom": ReRAM(60.0, constants=ReRAMConstants(30.0, (60.0, DAY), ((0.5, 1.0), (1.0, 2.0)))),
    "cmo-2%": CMO(time_s=DAY, acceptance=0.02),
    "cmo-custom": CMO(60.0, Mapping(g_min_us=5.0, pair=False), 0.01, MADE_UP_CMO),
    "int3-unsigned": Quantize(3, "asymmetric"),
    "bits-signed": BitErrors(0.1, bits=5, scheme="symmetric", per="channel"),
    "bits-table": BitErrors(voltage=0.65, rates_by_voltage=((0.6, 0.1), (0.7, 0.001))),
    "stuck-both": StuckDevices(0.1, 0.1, Mapping(levels=4, pair=False)),
    "dead-tiles": DeadLines(0.1, 0.3, tile_inputs=3),
    "vary-layer": Variation(0.1, 0.1, per="layer"),
    "vary-tile": Variation(0.1, 0.1, 0.01, per="tile", tile_inputs=3),
    "vary-column": Variation(0.1, 0.1, 0.01, per="channel"),
    "composed": Compose(
        Quantize(6), PCM(time_s=DAY, compensation=None), Variation(0.1, drift_exponent=0.01), StuckDevices(0.1)
    ),
    "composed-bits": Compose(Gaussian(0.1), BitErrors(0.1, bits=4)),
}


def of_contributing() -> dict[str, WeightNoise]:
    """The noises of "Add a noise" in CONTRIBUTING, as printed there."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "contributing"}
    for block in text.partition("## Add a noise")[2].split("```python\n")[1:]:
        exec(block.partition("```")[0], namespace)
    return {f"{name} of contributing": namespace[name] for name in ("noise", "devices")}


CONTRACT = {**CASES, **of_contributing()}
every_noise = pytest.mark.parametrize("noise", CONTRACT.values(), ids=CONTRACT)
every_family = pytest.mark.parametrize("name", FAMILIES)


def weights() -> Tensor:
    return torch.tensor([[[-0.9, 0.1], [0.0, 0.3]], [[0.02, -0.5], [0.4, -0.004]]], dtype=torch.float64)


def test_each_noise_of_the_catalogue_has_a_row() -> None:
    assert {name for name, family in NOISES.items() if family.unit != "s"} == set(FAMILIES)
    aged = {name: NOISES[name](DAY) for name in NOISES if name not in FAMILIES}
    assert aged == {
        "pcm": CASES["pcm-day-global"],
        "pcm-uncompensated": PCM(DAY, compensation=None),
    }  # against quadrature in tests/noise/test_devices.py


@pytest.mark.parametrize("name", NOISES)
def test_every_family_has_a_noise_at_each_level_of_its_range(name: str) -> None:
    family = NOISES[name]
    assert family(family.low) != family(family.high)
    with pytest.raises(ValueError, match="must be ≥ 0"):
        family(-0.1)


@every_family
def test_moments_are_the_closed_form(name: str) -> None:
    w, g, family, noise = weights(), generator(), FAMILIES[name], NOISES[name](LEVEL)
    mean, deviation = family.mean(w), family.deviation(w)
    axis = family.apart or 0
    copies, count = (1, N // 4) if family.apart is None else (200, N)  # along an axis that leaves units' ranges alone
    wide = w.unsqueeze(axis).repeat_interleave(copies, axis)
    drawn = torch.cat([noise(wide, g).movedim(axis, 0) for _ in range(count // copies)])
    errors = drawn - w

    def excess(errors: Tensor) -> tuple[Tensor, Tensor]:
        """How far mean and variance are beyond 5 standard errors; the variance's follows from the fourth moment."""
        central = errors - mean
        variance = central.square().mean(dim=0)
        of_variance = (central**4).mean(dim=0) - variance**2
        off = (errors.mean(dim=0) - mean).abs() - 5 * deviation / math.sqrt(count)
        return off, (variance - deviation**2).abs() - 5 * (of_variance / count).sqrt()

    for beyond in excess(errors):
        assert (beyond <= 1e-12).all()
    # The check can fail: errors that spread 5 % more are outside.
    assert (excess(mean + (errors - mean) * 1.05)[1] > 0).any()
    if family.independent:
        active = errors.flatten(1)[:, (deviation > 0).flatten()]
        off = torch.corrcoef(active.T) - torch.eye(active.shape[1], dtype=torch.float64)
        assert off.abs().max() < 5 / math.sqrt(N)


@every_noise
def test_it_keeps_its_promises(noise: WeightNoise) -> None:
    check_noise(noise)


@every_noise
def test_a_chip_that_keeps_nothing_is_the_same_chip(noise: WeightNoise) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 5), nn.Linear(5, 3))
    one, other = (deploy(model, noise, seed=2, trial=3, keep=keep) for keep in (True, False))
    assert (len(one.states), len(other.states)) == (2, 0)
    for reading in (0, 1):
        assert equal(one.read(reading=reading), other.read(reading=reading))
        with one.at():
            expected = snapshot(model)
        with other.at():
            assert equal(snapshot(model), expected)


def follows(noise: WeightNoise, w: Tensor) -> bool:
    return torch.allclose(noise(w / 1024, generator()) * 1024, noise(w, generator()), rtol=1e-9, atol=1e-12)


class Absolute(FixedNoise):
    """What a zero channel must not do: its errors have a size of their own."""

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        return weight + 0.01 * standard_normal(weight, generator) * (weight.abs().amax(1, keepdim=True) == 0)


@every_noise
def test_errors_follow_the_weights_also_where_a_part_is_zero(noise: WeightNoise) -> None:
    """A unit of zeros in a tensor has no scale of its own; the tensor's holds."""
    w = 0.05 * torch.randn(5, 9, generator=generator(4), dtype=torch.float64)
    w[0], w[:, :3] = 0.0, 0.0  # a channel and a tile
    assert follows(noise, w) == (noise != CASES["gaussian-filter"])  # its errors go with sqrt(max|w|)
    assert not follows(Absolute(), w)  # the check can fail


@every_family
def test_an_all_zero_tensor_stays_so(name: str) -> None:
    noisy = NOISES[name](LEVEL)(torch.zeros(3, 4), generator())
    if name != "stuck-high":  # devices of a tensor without a scale conduct at 1 µS per unit of weight
        assert torch.equal(noisy, torch.zeros(3, 4))


@every_family
def test_level_zero_is_no_noise_and_levels_share_their_draws(name: str) -> None:
    w = torch.randn(60, 50, generator=generator(3), dtype=torch.float64)
    clean = NOISES[name](0.0)(w, generator())
    rounded = Quantize(4 if "4bit" in name else 8, "asymmetric")(w, generator()) if "bit" in name else w
    assert torch.equal(clean, rounded)
    small, large = (NOISES[name](level)(w, generator()) for level in (0.1, 0.3))
    assert FAMILIES[name].levels(clean, small, large)
    assert not FAMILIES[name].levels(clean, small, NOISES[name](0.3)(w, generator(1)))  # the check can fail
