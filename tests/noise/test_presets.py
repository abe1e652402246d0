"""The standard model as one chip, and phase-change devices with constants of one's own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from samson.noise import (
    PCM,
    CustomPCM,
    DeviceNoise,
    Mapping,
    PCMHermes,
    deploy,
    preset,
)
from tests.conftest import generator

HWA = preset("standard-hwa")


def error_by_row(noise: DeviceNoise, w: Tensor) -> Tensor:
    return (noise(w, generator()) - w).square().mean(dim=1).sqrt()


def test_the_standard_model_has_the_published_constants() -> None:
    p = HWA.periphery
    assert p is not None
    assert (p.dac_steps, p.adc_steps, p.adc_bound, p.tile_inputs) == (254, 254, 10.0, 512)
    assert (p.output_noise, p.weight_noise, p.weight_noise_grows, p.ir_drop) == (0.04, 0.0175, True, 1.0)
    assert p.wire_ratio == pytest.approx(1 / (0.35 * 5e-6))
    assert HWA.noise == PCM(mapping=Mapping(per="channel"), compensation="global")
    w = torch.randn(1, 20_000, generator=generator(1)) * torch.tensor([[1.0], [0.01]])
    scaled, plain = (error_by_row(noise, w) for noise in (HWA.noise, PCM()))
    assert (scaled[1] / scaled[0]).item() == pytest.approx(0.01, rel=4 / 20_000**0.5)  # a scale for each channel
    assert plain[1] / plain[0] > 0.1  # the check can fail


def test_its_read_noise_is_drawn_for_each_product_and_its_programming_once() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 1, bias=False), torch.ones(400, 64)
    chip = deploy(layer, HWA.noise, periphery=replace(HWA.periphery, output_noise=0.0, adc_steps=None))
    with torch.no_grad(), chip.at():
        held = layer.weight.clone()
        outputs = layer(x).flatten()
    assert not torch.equal(held, layer.weight)
    largest = layer.weight.detach().abs().max()  # as it was to be programmed
    expected = 0.0175 * (held.abs() / largest).sum().sqrt() * largest  # inputs are 1, the column is scaled to 1
    assert outputs.std().item() == pytest.approx(expected.item(), rel=4 / (2 * 400) ** 0.5)
    with torch.no_grad(), chip.at():
        assert torch.equal(layer.weight, held)
        assert not torch.equal(layer(x).flatten(), outputs)
    quiet = deploy(layer, HWA.noise, periphery=replace(chip.periphery, weight_noise=0.0))
    with torch.no_grad(), quiet.at():
        assert layer(x).std() < 1e-6  # the check can fail


@pytest.mark.parametrize("known", [PCM(), PCMHermes(), PCMHermes(devices=2)])
def test_with_published_constants_it_is_the_published_device(known: DeviceNoise) -> None:
    w, constants = torch.randn(30, 40, generator=generator(2)), known.constants
    for time_s in (None, 0.0, 86_400.0):
        own = CustomPCM(time_s, compensation="global", constants=constants)
        expected = replace(known, time_s=time_s, compensation="global")(w, generator())
        assert torch.equal(own(w, generator()), expected)
        wider = replace(own, constants=replace(constants, programming=tuple(2 * c for c in constants.programming)))
        assert not torch.equal(wider(w, generator()), expected)
