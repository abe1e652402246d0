"""Chips inside autocast, which keeps casts of weights; and what is drawn and computed there."""

import torch
from torch import nn

from samson.noise import PCM, Gaussian, Mapping, Periphery, deploy


def make() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(32, 8)


def test_a_chip_is_seen_inside_one_autocast_region_and_gone_after_it() -> None:
    model, x = make()
    chip = deploy(model, Gaussian(0.5))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with chip.at():
            expected = model(x)
        torch.clear_autocast_cache()
        clean = model(x)
        with chip.at():
            noisy = model(x)
        after = model(x)
    assert torch.equal(noisy, expected)
    assert torch.equal(after, clean)
    assert not torch.equal(noisy, clean)


def test_chips_are_drawn_and_surrounded_in_full_precision() -> None:
    model, x = make()
    noise = PCM(3600.0, Mapping(significance=(1.0, 1.0)), compensation="global")
    exact = deploy(model, noise)
    with torch.autocast("cpu", torch.bfloat16):
        inside = deploy(model, noise)
        with inside.at():
            read = model[0].weight.clone()
        with deploy(model, Gaussian(0.0), select="0", periphery=Periphery()).at(), torch.no_grad():
            surrounded = model[0](x)
    with exact.at():
        assert torch.equal(read, model[0].weight)
    with torch.no_grad():
        torch.testing.assert_close(surrounded.float(), model[0](x), rtol=2**-7, atol=1e-2)
