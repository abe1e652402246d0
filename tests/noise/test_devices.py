"""Device models against closed forms and float64 quadrature, with the constants written again."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import ndtr
from torch import Generator, Tensor, nn

from samson.noise import (
    CMO,
    NOISES,
    PCM,
    CMOConstants,
    CustomPCM,
    DeviceNoise,
    InversePower,
    Logarithmic,
    Mapping,
    MeasuredDevices,
    PCMHermes,
    PhaseChangeConstants,
    ReRAM,
    ReRAMConstants,
    deploy,
    logarithm,
    preset,
)
from tests.conftest import generator
from tests.noise.closed_forms import Array, Moments, agree, clamped, folded, over_normal, rectified

COPIES = 40_000
STEPS = np.arange(10) / 9
"""Ten conductances over g_max, with 0 and g_max."""
DAY, YEAR = 86_400.0, 365 * 86_400.0
NOTHING = Logarithmic(0.0, 0.0, 0.0, 0.0)


def copies(values: Array) -> Tensor:
    """Many of each value, along a new last axis."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1).repeat(*(1,) * values.ndim, COPIES)


def clamp(x: Array, low: float, high: float) -> Array:
    return np.minimum(np.maximum(x, low), high)


def both_signs() -> Tensor:
    """Weights whose conductances are the ten, positive in row 0 and negative in row 1: (2, 10, copies)."""
    return copies(np.array([STEPS, -STEPS]))


@dataclass(frozen=True)
class Published:
    """The published constants, with one that may be made wrong."""

    noise: DeviceNoise
    wrong: str = ""

    def scale(self, name: str) -> float:
        return 1.05 if name == self.wrong else 1.0

    @property
    def g_max(self) -> float:
        return {"PCM": 25.0}.get(type(self.noise).__name__) or (10.35 if self.noise.devices == 1 else 20.7)

    @property
    def t0(self) -> float:
        return {25.0: 20.0, 10.35: 200.0, 20.7: 300.0}[self.g_max]

    @property
    def reading(self) -> float:
        return 250e-9 if self.g_max == 25.0 else 512e-9

    def programming(self, r: Array) -> Array:
        c = {
            25.0: [0.26348, 1.9650, -1.1731],
            10.35: [0.15781817, 2.32443916, -2.16310839, 0.68841818],
            20.7: [0.16603222, 4.71806468, -8.48101252, 4.68961419],
        }[self.g_max]
        return self.scale("programming") * np.maximum(sum(v * r**i for i, v in enumerate(c)), 0)

    def drift(self, r: Array) -> tuple[Array, Array]:
        log = np.log(np.maximum(r, 1e-7))
        if self.g_max == 25.0:
            mean, deviation = clamp(-0.0155 * log + 0.0244, 0.049, 0.1), clamp(-0.0125 * log - 0.0059, 0.008, 0.045)
        else:
            high = -0.0436 * r**2 - 0.0126 * r + 0.0736
            mean = np.where(r < 0.0945, clamp(-0.0387 * log - 0.0182, 0.0720, 0.13), high)
            if self.g_max == 10.35:
                high = -0.0165 * r**2 + 0.0116 * r + 0.0104
                deviation = np.where(r < 0.3039, clamp(-0.0120 * log - 0.0023, 0.0124, 0.04), high)
            else:
                high = -0.0118 * r**2 + 0.0093 * r + 0.0073
                deviation = np.where(r < 0.3055, clamp(-0.0117 * log - 0.0057, 0.0091, 0.04), high)
        return self.scale("drift mean") * mean, self.scale("drift deviation") * deviation

    def read(self, r: Array, time_s: float) -> Array:
        """Relative deviation of one reading."""
        log = np.log(np.maximum(r, 1e-7))
        if self.g_max == 25.0:
            q = np.minimum(0.0088 / np.maximum(r**0.65, 1e-3), 0.2)
        elif self.g_max == 10.35:
            high = 0.0664 * r**3 - 0.1352 * r**2 + 0.0768 * r + 0.0088
            q = np.where(r < 0.1591, clamp(-0.0078 * log + 0.0038, 0.0179, 0.04), high)
        else:
            high = 0.0069 * r**3 - 0.0280 * r**2 + 0.0211 * r + 0.0123
            q = np.where(r < 0.16, clamp(-0.0117 * log - 0.0069, 0.015, 0.04), high)
        elapsed = time_s + self.t0
        return self.scale("read") * q * math.sqrt(math.log((elapsed + self.reading) / (2 * self.reading)))

    def after(self, g: Array, time_s: float) -> Moments:
        """Moments of a device of target g: over the programmed conductance, the exponent and the reading."""
        r = g / self.g_max

        def read(xi: Array) -> Moments:
            programmed = np.maximum(g[..., None] + self.programming(r)[..., None] * xi, 0)
            one, square = rectified(np.ones_like(programmed), self.read(programmed / self.g_max, time_s))
            return programmed * one, programmed**2 * square

        mean, deviation = self.drift(r)

        def drift(xi: Array) -> Moments:
            kept = ((time_s + self.t0) / self.t0) ** -np.abs(mean[..., None] + deviation[..., None] * xi)
            return kept, kept**2

        conducted, kept = over_normal(read), over_normal(drift)
        return conducted[0] * kept[0], conducted[1] * kept[1]


def weights(published: Published, time_s: float, factor: float = 1.0) -> Moments:
    """Moments of the weights of `both_signs`, each a pair with one device at 0, times a factor."""
    mean, square = published.after(published.g_max * STEPS, time_s)
    variance = square - mean**2  # of one device; the other's is that of the first, whose target is 0
    by = factor / published.g_max
    one = by * np.array([mean - mean[0], mean[0] - mean])
    return one, by**2 * (variance + variance[0]) + one**2


DEVICES = {
    "pcm": PCM(compensation=None),
    "hermes": PCMHermes(compensation=None),
    "hermes-2": PCMHermes(devices=2, compensation=None),
}
every_device = pytest.mark.parametrize("noise", DEVICES.values(), ids=DEVICES)


@every_device
def test_programming_is_a_rectified_normal_and_the_drift_exponent_a_folded_one(noise: DeviceNoise) -> None:
    published = Published(noise)
    g = published.g_max * STEPS
    state = noise.program_devices(copies(g), generator())

    def written(published: Published) -> bool:
        return agree(state["conductance_us"].numpy(), rectified(g, published.programming(STEPS)))

    def drifts(published: Published) -> bool:
        return agree(state["drift_exponent"].numpy(), folded(*published.drift(STEPS)))

    assert written(published)
    assert drifts(published)
    assert not written(replace(published, wrong="programming"))
    for name in ("drift mean", "drift deviation"):
        assert not drifts(replace(published, wrong=name))


def test_joshi_2020_is_a_rectified_normal_that_does_not_change() -> None:
    noise, g = preset("pcm-joshi2020").noise, 25.0 * STEPS
    state = noise.program_devices(copies(g), generator())
    deviation = np.maximum(-0.00178767 * g**2 + 0.07585724 * g + 0.28638599, 0)
    assert agree(state["conductance_us"].numpy(), rectified(g, deviation))
    assert not agree(state["conductance_us"].numpy(), rectified(g, 1.05 * deviation))
    for time_s in (None, 0.0, YEAR):
        assert torch.equal(noise.read_devices(state, time_s, generator(1)), state["conductance_us"])
    read = PCM(compensation=None).read_devices(state, 0.0, generator(1))
    assert not torch.equal(read, state["conductance_us"])  # the check can fail: this device has read noise


@every_device
@pytest.mark.parametrize("time_s", [0.0, DAY])
def test_a_reading_is_a_rectified_normal_of_what_drifted(noise: DeviceNoise, time_s: float) -> None:
    published = Published(noise)
    g = published.g_max * STEPS
    held = copies(g)
    state = {"conductance_us": held, "drift_exponent": torch.full_like(held, 0.06)}
    sample = noise.read_devices(state, time_s, generator(1)).numpy()
    drifted = g * ((time_s + published.t0) / published.t0) ** -0.06
    assert agree(sample, rectified(drifted, drifted * published.read(STEPS, time_s)))
    wrong = replace(published, wrong="read")
    assert not agree(sample, rectified(drifted, drifted * wrong.read(STEPS, time_s)))


@every_device
def test_a_weight_after_all_stages_is_the_quadrature(noise: DeviceNoise) -> None:
    published, state = Published(noise), noise.program(both_signs(), generator())
    for time_s, parts in ((0.0, ("programming", "read")), (YEAR, ("programming", "read", "drift mean"))):
        sample = noise.read(state, time_s, generator(1)).numpy()
        assert agree(sample, weights(published, time_s))
        for name in parts:
            assert not agree(sample, weights(replace(published, wrong=name), time_s))


@every_device
def test_with_its_constants_a_device_of_ones_own_is_the_published_one(noise: DeviceNoise) -> None:
    w, constants = torch.randn(30, 40, generator=generator(2)), noise.constants
    for time_s in (None, 0.0, DAY):
        own = CustomPCM(time_s, compensation="global", constants=constants)
        expected = replace(noise, time_s=time_s, compensation="global")(w, generator())
        assert torch.equal(own(w, generator()), expected)
        wider = replace(own, constants=replace(constants, programming=tuple(2 * c for c in constants.programming)))
        assert not torch.equal(wider(w, generator()), expected)


FIGURES = {None: 0.0307, 0.0: 0.0391, 1.0: 0.0391, 3600.0: 0.0447, DAY: 0.0513, YEAR: 0.0669}


@pytest.mark.parametrize("time_s", FIGURES)
def test_the_published_figures_to_three_percent(time_s: float | None) -> None:
    w = torch.randn(400, 500, generator=generator(9)).clamp(-2.5, 2.5) / 2.5

    def deviation(noise: DeviceNoise) -> float:
        return (noise(w, generator()) - w).std().item()

    assert deviation(PCM(time_s, compensation="global")) == pytest.approx(FIGURES[time_s], rel=0.03)
    if time_s is None:
        louder = tuple(1.05 * c for c in PCM().constants.programming)
        wrong = CustomPCM(constants=replace(PCM().constants, programming=louder), compensation=None)
        assert deviation(wrong) != pytest.approx(FIGURES[None], rel=0.03)


def test_a_year_halves_the_uncompensated_weights() -> None:
    w = torch.randn(400, 500, generator=generator(9)).clamp(-2.5, 2.5) / 2.5
    state = PCM(compensation=None).program(w, generator())
    programmed, year = (PCM(compensation=None).read(state, t, generator(1)).abs().mean().item() for t in (None, YEAR))
    assert year / programmed == pytest.approx(0.499, rel=0.005)
    assert year / programmed != pytest.approx(0.4965, rel=0.004)  # what re-mapping the difference would give


@pytest.mark.parametrize(
    ("compensation", "per", "axes"),
    [("global", "layer", (0, 1)), ("column", "layer", (1,)), ("global", "channel", (1,))],
)
def test_compensation_restores_the_mean_magnitude(compensation: str, per: str, axes: tuple[int, ...]) -> None:
    w = torch.randn(6, 3000, generator=generator(12))
    plain = PCM(mapping=Mapping(per=per), compensation=None)
    state = plain.program(w, generator())
    programmed = plain.read(state, None, generator()).abs().mean(axes)
    compensated = PCM(mapping=Mapping(per=per), compensation=compensation)
    readings = [compensated.read(state, YEAR, generator(seed)) for seed in (1, 2)]
    for reading in readings:
        assert torch.allclose(reading.abs().mean(axes), programmed, rtol=0.02)
        assert not torch.equal(reading.abs().mean(axes), programmed)  # it is measured, with a draw of its own
    assert not torch.allclose(plain.read(state, YEAR, generator(1)).abs().mean(axes), programmed, rtol=0.3)
    # One factor for each unit and time, the same for every reading, which itself draws as without compensation.
    uncompensated = [plain.read(state, YEAR, generator(seed)) for seed in (1, 2)]
    factor = (readings[0].abs().sum(axes) / uncompensated[0].abs().sum(axes)).reshape(-1, 1)
    for reading, without in zip(readings, uncompensated, strict=True):
        assert torch.allclose(reading, without * factor, rtol=1e-4, atol=0)


def mean_distance(pairs: Array, published: Published, time_s: float | None) -> Array:
    """E|g⁺ − g⁻| of independent devices = ∫ F⁺(1 − F⁻) + F⁻(1 − F⁺) dg, each F averaged over errors and exponents."""
    grid = np.linspace(1e-6, 1.35 * published.g_max, 401)
    xi, nodes = np.linspace(-6, 6, 201), np.linspace(-4, 4, 13)
    density, weight = (np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum() for x in (xi, nodes))

    def distribution(g: float) -> Array:
        r = np.array([g / published.g_max])
        if time_s is None:
            return ndtr((grid - g) / published.programming(r))
        programmed = np.maximum(g + published.programming(r) * xi, 1e-9)
        read = published.read(programmed / published.g_max, time_s)
        total = np.zeros(len(grid))
        mean, deviation = published.drift(r)
        for node, share in zip(nodes, weight, strict=True):
            kept = ((time_s + published.t0) / published.t0) ** -np.abs(mean + deviation * node)
            centre = programmed * kept
            total += share * (ndtr((grid[:, None] - centre) / (centre * read)) @ density)
        return total

    known = {g: distribution(g) for g in {float(g) for g in pairs.flatten()}}
    return np.array(
        [trapezoid(known[a] * (1 - known[b]) + known[b] * (1 - known[a]), grid) for a, b in pairs.T.tolist()]
    )


def test_a_globally_compensated_weight_is_the_quadrature() -> None:
    noise, published = NOISES["pcm"](DAY), Published(DEVICES["pcm"])
    sample = noise(both_signs(), generator()).numpy()
    pairs = np.array([published.g_max * STEPS, np.zeros(10)])
    factor = mean_distance(pairs, published, None).sum() / mean_distance(pairs, published, DAY).sum()
    assert agree(sample, weights(published, DAY, factor))
    for wrong in (1.0, 0.99 * factor, 1.01 * factor, ((DAY + 20) / 20) ** 0.06):
        assert not agree(sample, weights(published, DAY, wrong))


def test_one_chip_drifts_and_is_read_anew() -> None:
    noise = PCM(compensation=None)
    state = noise.program(torch.randn(20, 20, generator=generator(12)), generator())
    hour, again, year = (noise.read(state, t, generator(s)) for t, s in ((3600.0, 1), (3600.0, 2), (YEAR, 1)))
    assert not torch.equal(hour, again)
    assert torch.corrcoef(torch.stack([hour.flatten(), year.flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize(("time_s", "g_max"), [(1.0, 40.0), (DAY, 40.0), (2 * DAY, 40.0), (DAY, 25.0)])
def test_reram_is_a_rectified_normal(time_s: float, g_max: float) -> None:
    c = {
        1.0: [0.348, 16.030, -43.853, 45.393, -16.815],
        DAY: [0.701, 22.086, -50.773, 47.095, -16.458],
        2 * DAY: [0.782, 20.274, -43.507, 37.062, -11.934],
    }[time_s]
    noise, g = ReRAM(time_s, g_max_us=g_max), g_max * STEPS
    deviation = g_max / 40 * sum(v * STEPS**i for i, v in enumerate(c))
    state = noise.program_devices(copies(g), generator())
    sample = noise.read_devices(state, time_s, generator()).numpy()
    assert agree(sample, rectified(g, deviation))
    assert not agree(sample, rectified(g, 1.05 * deviation))


def test_reram_with_constants_of_ones_own() -> None:
    own = ReRAMConstants(30.0, (60.0, 6000.0), ((1.0, 2.0), (2.0, 4.0)))
    state = {"conductance_us": torch.tensor([15.0]), "error": torch.ones(1)}
    noise = ReRAM(60.0, constants=own, interpolate=True)
    assert noise.largest_us == 30.0
    quarter = 60.0 * 100**0.25  # of the way, in the logarithm of time
    for time_s, deviation in ((60.0, 2.0), (quarter, 2.5), (600.0, 3.0), (6000.0, 4.0)):
        assert noise.read_devices(state, time_s, generator()).item() == pytest.approx(15.0 + deviation)
    halved = ReRAM(60.0, g_max_us=15.0, constants=own)
    assert halved.read_devices(state, 60.0, generator()).item() == pytest.approx(15.0 + (1.0 + 2.0) / 2)
    assert ReRAM(constants=ReRAM().constants) == ReRAM()
    with pytest.raises(ValueError, match="`time_s` must be 60 or 6000 seconds since programming (.*), got 1.0"):
        ReRAM(constants=own)


@pytest.mark.parametrize("g_max", [None, 30.0, 5.0])
def test_measured_errors_are_a_rectified_normal_between_the_points(g_max: float | None) -> None:
    at, mean, deviation = (0.5, 5.0, 12.5, 25.0), (0.3, -0.1, -0.4, -1.1), (0.35, 0.8, 0.6, 0.95)
    noise = MeasuredDevices(targets_us=at, mean_errors_us=mean, deviations_us=deviation, g_max_us=g_max)
    g = (25.0 if g_max is None else g_max) * STEPS
    sample = noise.read_devices(noise.program_devices(copies(g), generator()), YEAR, generator(1)).numpy()
    assert agree(sample, rectified(g + np.interp(g, at, mean), np.interp(g, at, deviation)))
    assert not agree(sample, rectified(g + np.interp(g, at, mean), 1.05 * np.interp(g, at, deviation)))
    assert not agree(sample, rectified(g, np.interp(g, at, deviation)))
    without = replace(noise, mean_errors_us=None)
    sample = without.program_devices(copies(g), generator())["conductance_us"].numpy()
    assert agree(sample, rectified(g, np.interp(g, at, deviation)))


def test_cmo_with_constants_of_ones_own() -> None:
    own = replace(CMO().constants, g_min_us=5.0, acceptances=(0.1,), programming_us=((0.5, 0.01),))
    noise = CMO(mapping=Mapping(g_min_us=5.0, pair=False), acceptance=0.1, constants=own)
    g = 5.0 + 83.2 * STEPS
    sample = noise.read_devices(noise.program(CMO_WEIGHTS, generator()), None, generator())[0, 0].numpy()
    assert agree(sample, clamped(g, 0.5 + 0.01 * g, 5.0, 88.2))
    assert not agree(sample, clamped(g, 1.05 * (0.5 + 0.01 * g), 5.0, 88.2))
    still = replace(noise, constants=replace(own, relaxation_us=0.0, relaxation_deviation_us=(0.0, 0.0), read_us=0.0))
    state = still.program(CMO_WEIGHTS, generator())
    assert torch.equal(still.read(state, YEAR, generator(1)), still.read(state, None, generator()))
    assert not torch.equal(noise.read(state, YEAR, generator(1)), noise.read(state, None, generator()))
    with pytest.raises(ValueError, match=r"`acceptance` must be 0.1, got 0.002"):
        CMO(constants=own)


@pytest.mark.parametrize(("g_min", "g_max"), [(1.0, 50.0), (12.0, 60.0), (1.0, 8.0)])
def test_cmo_with_constants_of_ones_own_lays_weights_on_their_range(g_min: float, g_max: float) -> None:
    own = replace(CMO().constants, g_min_us=g_min, g_max_us=g_max)
    w = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)
    for noise in (CMO(constants=own), replace(CMO(), constants=own)):
        targets = noise.mapping.conductances(w, noise.largest_us)["conductance_us"]
        assert targets.flatten().tolist() == pytest.approx([g_min, (g_min + g_max) / 2, g_max])
    given = Mapping(g_min_us=9.0, pair=False)  # what it would be by default
    assert CMO(constants=replace(own, g_min_us=1.0, g_max_us=50.0), mapping=given).mapping == given == CMO().mapping


def test_reram_keeps_one_error_a_device() -> None:
    state = {"conductance_us": torch.tensor(8.0), "error": torch.tensor(1.0)}
    errors = [ReRAM().read_devices(state, t, generator()).item() - 8.0 for t in (DAY, 2 * DAY)]
    assert errors == pytest.approx([3.44, 3.37], abs=0.006)  # not monotone in time
    between = ReRAM(interpolate=True).read_devices(state, 120_000.0, generator()).item() - 8.0
    assert errors[1] < between < errors[0]


@pytest.mark.parametrize("time_s", [0.0, 3600.0, 3 * DAY])
def test_reram_at_another_time_is_an_error(time_s: float) -> None:
    with pytest.raises(ValueError, match="`time_s` must be 1, 86400 or 172800 seconds"):
        ReRAM(time_s)
    noise = ReRAM()
    with pytest.raises(ValueError, match="nothing else was measured"):
        noise.read(noise.program(torch.ones(2, 2), generator()), time_s, generator())
    if time_s != 3600.0:
        with pytest.raises(ValueError, match="`time_s` must be"):
            ReRAM(time_s, interpolate=True)


@pytest.mark.parametrize("time_s", [1.0, DAY, 2 * DAY])
def test_a_measured_chip_of_reram_is_read_as_it_was_measured(time_s: float) -> None:
    """With errors of zero; cells of a map are stuck at all times, while the others err as they were drawn to."""
    layer = nn.Linear(30, 20)
    largest = layer.weight.detach().abs().max()
    measured = 40.0 * torch.rand(1, 2, 20, 30, generator=generator(1))
    weights = (measured[0, 0] - measured[0, 1]) * largest / 40.0
    chip = deploy(layer, ReRAM())
    state = chip.states["weight"]
    state["conductance_us"] = measured
    assert not torch.allclose(chip.read(time_s)["weight"], weights, atol=0.01 * largest)  # why: errors are added
    drawn = state["error"]
    state["error"] = torch.zeros_like(drawn)
    assert torch.allclose(chip.read(time_s)["weight"], weights, atol=1e-6)
    stuck = (torch.rand(20, 30, generator=generator(2)) < 0.2).expand_as(measured)
    state["conductance_us"] = torch.where(stuck, torch.tensor([40.0, 10.0]).view(2, 1, 1), measured)
    state["error"] = torch.where(stuck, 0.0, drawn)
    read = chip.read(time_s)["weight"]
    assert torch.allclose(read[stuck[0, 0]], 0.75 * largest, atol=1e-6)
    assert (read - weights)[~stuck[0, 0]].abs().mean() > 0.01 * largest


def test_a_measured_chip_of_cmo_is_read_as_it_was_measured_without_a_time() -> None:
    """At a time all devices lose conductance, and without `relaxation` all lose the same."""
    layer = nn.Linear(30, 20)
    low, high = layer.weight.detach().aminmax()
    measured = 20.0 + 60.0 * torch.rand(1, 1, 20, 30, generator=generator(1))
    weights = low + (measured[0, 0] - 9.0) * (high - low) / 79.2
    chip = deploy(layer, replace(CMO(), constants=replace(CMO().constants, read_us=0.0)))
    state = chip.states["weight"]
    state["conductance_us"] = measured
    assert torch.allclose(chip.read()["weight"], weights, atol=1e-6)
    moved = chip.read(DAY)["weight"] - weights
    assert moved.std() > 0.005 * (high - low)
    state["relaxation"] = torch.zeros_like(state["relaxation"])
    loss = -0.08900206 * math.log(DAY) * (high - low) / 79.2
    assert torch.allclose(chip.read(DAY)["weight"] - weights, loss, atol=1e-6)


CMO_TARGETS = 9.0 + 79.2 * STEPS
CMO_WEIGHTS = copies(2 * STEPS - 1)


@pytest.mark.parametrize(
    ("acceptance", "intercept", "slope"), [(0.002, 0.00081107, 0.00106879), (0.02, 0.0112185391, 0.01129027418)]
)
def test_cmo_programming_is_a_clamped_normal(acceptance: float, intercept: float, slope: float) -> None:
    noise = CMO(acceptance=acceptance)
    sample = noise.read_devices(noise.program(CMO_WEIGHTS, generator()), None, generator())[0, 0].numpy()
    deviation = intercept + slope * CMO_TARGETS
    for scale, right in ((1.0, True), (1.05, False)):
        one, square = clamped(CMO_TARGETS, scale * deviation, 9.0, 88.2)
        assert agree(sample * 1e3, (one * 1e3, square * 1e6)) == right  # in nS: the variances are small


@pytest.mark.parametrize("time_s", [1.0, DAY, YEAR])
def test_cmo_relaxes_and_is_read_as_the_quadrature(time_s: float) -> None:
    noise = CMO()
    held = copies(CMO_TARGETS)
    state = noise.program_devices(held, generator()) | {"conductance_us": held}
    log_time = math.log(time_s)

    def read(g: Array, scale: float = 1.0) -> Array:
        spread = math.sqrt(math.log((time_s + 1e-6) / 2e-6))
        return scale * 0.0277316483 * np.log10(np.maximum(g, 1)) * spread

    def both(scale: float) -> Moments:
        def relaxed(xi: Array) -> Moments:
            deviation = scale * (0.04201137 * log_time + 0.41183342)
            g = CMO_TARGETS[:, None] - 0.08900206 * log_time + deviation * xi
            return clamped(g, read(g), 9.0, 88.2)

        return over_normal(relaxed)

    def alone(scale: float) -> Moments:
        g = CMO_TARGETS - 0.08900206 * log_time
        return clamped(g, read(g, scale), 9.0, 88.2)

    sample = noise.read_devices(state, time_s, generator(1)).numpy()
    assert agree(sample, both(1.0))
    assert not agree(sample, both(1.05))
    state["relaxation"] = torch.zeros_like(state["relaxation"])
    sample = noise.read_devices(state, time_s, generator(1)).numpy()
    assert agree(sample, alone(1.0))
    assert not agree(sample, alone(1.05))


def test_cmo_below_one_microsiemens_has_no_read_noise() -> None:
    """Where its size, a logarithm, would be negative, or no number."""
    low = replace(CMO().constants, g_min_us=0.01, g_max_us=0.9)
    noise = CMO(mapping=Mapping(g_min_us=0.01, pair=False), constants=low)
    state = noise.program_devices(copies(np.array([0.01, 0.5, 0.9])), generator())
    for time_s in (0.5, DAY):
        one, two = (noise.read_devices(state, time_s, generator(seed)) for seed in (1, 2))
        assert torch.equal(one, two)


def test_cmo_before_one_second_is_read_noise_alone() -> None:
    noise = CMO()
    state = noise.program(torch.linspace(-1, 1, 50), generator())
    programmed, half, early = (noise.read(state, t, generator(1)) for t in (None, 0.5, 0.0))
    assert torch.equal(early, programmed)  # ln(1/2) < 0: nothing has accumulated
    assert 0 < (half - programmed).abs().max() < 0.02


@pytest.mark.needs("aihwkit")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # aihwkit's, under this torch
@every_device
def test_aihwkit_draws_from_the_same_distributions(noise: DeviceNoise) -> None:
    """Each device through the conductance functions of its noise model."""
    from aihwkit.inference.noise.hermes import HermesNoiseModel
    from aihwkit.inference.noise.pcm import PCMLikeNoiseModel

    published = Published(noise)
    theirs = PCMLikeNoiseModel(g_max=25.0) if isinstance(noise, PCM) else HermesNoiseModel(num_devices=noise.devices)
    t = published.g_max * STEPS
    g = copies(t).float()
    torch.manual_seed(0)
    programmed = theirs.apply_programming_noise_to_conductance(g)
    exponent = theirs.generate_drift_coefficients(g)
    assert agree(programmed.double().numpy(), rectified(t, published.programming(STEPS)))
    assert agree(exponent.double().numpy(), folded(*published.drift(STEPS)))
    sample = theirs.apply_drift_noise_to_conductance(programmed, exponent, DAY).double().numpy()
    assert agree(sample, published.after(t, DAY))


def test_the_constants_are_the_published_ones() -> None:
    """Digit by digit, also those that the other constants hide."""
    drift_mean = Logarithmic(-0.0387, -0.0182, 0.0720, 0.13, 0.0945, (0.0736, -0.0126, -0.0436))
    assert PCM().constants == PhaseChangeConstants(
        25.0, 20.0, 250e-9, (0.26348, 1.9650, -1.1731), Logarithmic(-0.0155, 0.0244, 0.049, 0.1),
        Logarithmic(-0.0125, -0.0059, 0.008, 0.045), InversePower(0.0088, 0.65, 1e-3, 0.2),
    )  # fmt: skip
    assert PCMHermes().constants == PhaseChangeConstants(
        10.35, 200.0, 512e-9, (0.15781817, 2.32443916, -2.16310839, 0.68841818), drift_mean,
        Logarithmic(-0.0120, -0.0023, 0.0124, 0.04, 0.3039, (0.0104, 0.0116, -0.0165)),
        Logarithmic(-0.0078, 0.0038, 0.0179, 0.04, 0.1591, (0.0088, 0.0768, -0.1352, 0.0664)),
    )  # fmt: skip
    assert PCMHermes(devices=2, compensation=None).constants == PhaseChangeConstants(
        20.7, 300.0, 512e-9, (0.16603222, 4.71806468, -8.48101252, 4.68961419), drift_mean,
        Logarithmic(-0.0117, -0.0057, 0.0091, 0.04, 0.3055, (0.0073, 0.0093, -0.0118)),
        Logarithmic(-0.0117, -0.0069, 0.015, 0.04, 0.16, (0.0123, 0.0211, -0.0280, 0.0069)),
    )  # fmt: skip
    joshi = preset("pcm-joshi2020").noise.constants
    assert joshi.programming == pytest.approx((0.28638599, 25 * 0.07585724, -625 * 0.00178767), rel=1e-15)
    assert (joshi.g_max_us, joshi.reference_s) == (25.0, 27.36)
    assert ReRAM().constants == ReRAMConstants(
        40.0, (1.0, 86_400.0, 172_800.0),
        ((0.348, 16.030, -43.853, 45.393, -16.815), (0.701, 22.086, -50.773, 47.095, -16.458),
         (0.782, 20.274, -43.507, 37.062, -11.934)),
    )  # fmt: skip
    assert CMO().constants == CMOConstants(
        9.0, 88.2, (0.002, 0.02), ((0.00081107, 0.00106879), (0.0112185391, 0.01129027418)), -0.08900206,
        (0.41183342, 0.04201137), 0.0277316483, 1e-6,
    )  # fmt: skip


def test_logarithms_begin_at_the_published_conductance() -> None:
    """Which the limits of all published curves hide."""
    r = torch.tensor([0.0, 1e-8, 1e-6], dtype=torch.float64)
    expected = [7 * math.log(10), 7 * math.log(10), 6 * math.log(10)]
    assert Logarithmic(-1.0, 0.0, 0.0, 99.0)(r, logarithm(r)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_a_compensation_that_measures_nothing_is_1(per: str) -> None:
    exact = CustomPCM(YEAR, Mapping(per=per), "global", replace(PCM().constants, programming=(0.0,)))
    w = torch.tensor([[0.5, -0.25, 1.0], [0.0, 0.0, 0.0]])
    for weight in (w, torch.zeros(2, 3)):
        weight, factor = exact.reading(exact.program(weight, generator()), YEAR, generator(1))
        assert weight.isfinite().all()
        assert torch.equal(weight[1], torch.zeros(3))
        assert factor.expand(2, 3)[1, 0] == (1.0 if per == "channel" or not weight.any() else factor.flatten()[0])
    state = exact.program(w, generator()) | {"drift_exponent": torch.full((1, 2, 2, 3), 1e3)}
    weight, factor = exact.reading(state, YEAR, generator(1))  # nothing is left of what was programmed
    assert torch.equal(factor, torch.ones_like(factor))
    assert torch.equal(weight, torch.zeros(2, 3))


def test_each_chip_and_time_measures_its_compensation_with_a_draw_of_its_own() -> None:
    """Of devices that do not drift it is nothing but read noise, here of one weight a channel."""
    still = replace(PCM().constants, programming=(0.0,), drift_mean=NOTHING, drift_deviation=NOTHING)
    noise, w = CustomPCM(mapping=Mapping(per="channel"), constants=still), torch.ones(2_000, 1)
    chips = [noise.program(w, generator(seed)) for seed in (0, 1)]
    factors = [noise.reading(chip, t, generator())[1].flatten() for chip in chips for t in (0.0, DAY)]
    again = noise.reading(chips[0], 0.0, generator(1))[1].flatten()
    off = torch.corrcoef(torch.stack([*factors, again])) - torch.eye(5)
    assert off[:4, :4].abs().max() < 5 / len(w) ** 0.5
    assert off[0, 4] > 0.999  # another reading of a chip at that time


def test_each_channel_measures_its_own_compensation() -> None:
    """As in the standard model: a channel of small weights drifts more than one of large weights."""
    w = torch.cat([torch.full((1, 4000), 1.0), torch.full((1, 4000), 0.05)])
    w[1, 0] = 1.0
    noise = replace(preset("standard-hwa").noise, time_s=YEAR)
    state = noise.program(w, generator())
    programmed, (_, factor) = noise.read(state, None, generator()), noise.reading(state, YEAR, generator(1))
    drifted = replace(noise, compensation=None).read(state, YEAR, generator(1))
    expected = programmed.abs().mean(1) / drifted.abs().mean(1)
    torch.testing.assert_close(factor.flatten(), expected, rtol=0.05, atol=0)
    assert expected[1] / expected[0] > 1.2
    tiles = PCM(YEAR, Mapping(per="tile", tile_inputs=4000), "global")
    state = tiles.program(torch.cat([w[:1], w[1:]], 1), generator())
    [one, two] = tiles.reading(state, YEAR, generator(1))[1].flatten()[[0, 4000]]
    assert two / one > 1.2


@pytest.mark.parametrize("g_max", [5.0, 50.0])
def test_errors_of_pcm_scale_with_the_largest_conductance(g_max: float) -> None:
    w = torch.randn(40, 50, generator=generator(3), dtype=torch.float64)
    for time_s in (None, 0.0, DAY):
        expected = PCM(time_s, compensation="global")(w, generator())
        own = PCM(time_s, compensation="global", g_max_us=g_max)(w, generator())
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
        assert (own - w).std() > 0.01


@pytest.mark.parametrize("name", ["scale", "lowest"])
def test_a_name_that_the_mapping_has_is_refused(name: str) -> None:
    @dataclass(frozen=True)
    class Gain(PCM):
        key: str = "gain"

        def program_devices(self, target_us: Tensor, generator: Generator) -> dict[str, Tensor]:
            return {**super().program_devices(target_us, generator), self.key: target_us.new_ones(())}

    w = torch.randn(3, 4, generator=generator(3))
    assert torch.equal(Gain()(w, generator()), PCM()(w, generator()))
    with pytest.raises(ValueError, match=rf"`program_devices` must give other names .* got \['{name}'\]"):
        Gain(key=name)(w, generator())
    with pytest.raises(ValueError, match="`program` must return no `dtype`, which a chip keeps for itself"):
        deploy(nn.Linear(4, 3), Gain(key="dtype"))


def test_a_pair_holds_four_numbers_a_weight() -> None:
    """The memory that the documentation tells."""
    [held] = deploy(nn.Linear(200, 100), PCM(compensation=None)).states.values()
    assert sum(value.numel() * value.element_size() for value in held.values()) == pytest.approx(16 * 20_000, rel=0.01)
    assert "four times the memory" in (PCM.__doc__ or "")
