"""Bounds of ADCs by layer: calibrated as a loop finds them, what they saturate, and what they gain."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from samson.noise import (
    STANDARD_HWA,
    Operation,
    Periphery,
    ThroughChip,
    calibrate,
    calibrate_adc,
    deploy,
    generator_for,
)
from tests.conftest import equal, make_model, snapshot
from tests.noise.layers import data
from tests.noise.test_periphery import CLEAN, EXACT, conversions, product

QUANTILES = [1.0, 0.9, 0.5]
BEFORE = {
    "one tile": Periphery(),
    "tiles": Periphery(tile_inputs=4),
    "dac and ir drop in tiles": Periphery(dac_steps=6, ir_drop=1.0, wire_ratio=6.0, tile_inputs=5),
    "an adc is left out": EXACT["all"],
}


def order_statistic(values: list[float], quantile: float) -> float:
    return sorted(map(abs, values))[round(quantile * len(values)) - 1]


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("given", [None, 1.5])
def test_the_bound_of_a_linear_layer_is_the_loop(name: str, given: float | None) -> None:
    p = replace(BEFORE[name], input_ranges={} if given is None else {"": given})
    layer, x = nn.Linear(11, 3).double(), data(2, 4, 11)
    weight = layer.weight.tolist()
    seen = [y for row in x.view(8, 11).tolist() for _, y, _ in conversions(p, row, weight, given)]
    assert len(seen) == 8 * 3 * math.ceil(11 / (p.tile_inputs or 11))
    for quantile in QUANTILES:
        found = calibrate_adc(layer, [x], p, quantile=quantile)
        assert found == {"": pytest.approx(order_statistic(seen, quantile), rel=1e-9)}
    halves = [calibrate_adc(layer, [half], p)[""] for half in x]
    assert calibrate_adc(layer, x, p)[""] == max(halves) != min(halves)
    whole = [y for row in x.view(8, 11).tolist() for y in product(Periphery(), row, weight, None)]
    assert found[""] != pytest.approx(order_statistic(whole, quantile), rel=1e-3)  # the check can fail: other units


@pytest.mark.parametrize("noise", [{}, {"output_noise": 0.1, "weight_noise": 0.05, "input_noise": 0.05}])
def test_one_minus_the_quantile_of_conversions_saturates(noise: dict[str, float]) -> None:
    n, quantile, layer = 20_000, 0.95, nn.Linear(16, 1, bias=False)
    seen, fresh = data(2, n, 16).float()
    p = Periphery(**noise, input_ranges=calibrate(layer, [seen]))
    bound = calibrate_adc(layer, [seen], p, quantile=quantile)[""]
    scale = layer.weight.abs().max().item() * p.input_ranges[""]

    def saturated(bound: float) -> float:
        chip = deploy(layer, CLEAN, periphery=replace(p, adc_bounds={"": bound}))
        with chip.at(), torch.no_grad():
            return (layer(fresh).abs() > bound * scale * (1 - 1e-5)).float().mean().item()

    error = math.sqrt(quantile * (1 - quantile) * 2 / n)  # of the share, and of the quantile that it is compared with
    assert abs(saturated(bound) - (1 - quantile)) < 4 * error
    assert abs(saturated(1.1 * bound) - (1 - quantile)) > 4 * error


def test_each_layer_has_its_bound() -> None:
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double(), data(7, 6)
    p = replace(STANDARD_HWA, output_noise=0.0, weight_noise=0.0, adc_steps=14, tile_inputs=4)
    p = replace(p, input_ranges=calibrate(model, [x]))
    bounds = calibrate_adc(model, [x], p)
    assert bounds["0"] != pytest.approx(bounds["2"], rel=0.05)

    def by_hand(bounds: dict[str, float]) -> Tensor:
        hidden = x
        for name in ("0", "2"):
            layer, own = model[int(name)], replace(p, adc_bound=bounds[name])
            rows, weight = (hidden if name == "0" else hidden.tanh()).tolist(), layer.weight.tolist()
            found = [product(own, row, weight, p.input_ranges[name]) for row in rows]
            hidden = torch.tensor(found, dtype=torch.float64) + layer.bias.detach()
        return hidden

    for unused in (p.adc_bound, math.inf):
        own = replace(p, adc_bound=unused, adc_bounds=bounds)
        with deploy(model, CLEAN, periphery=own).at(), torch.no_grad():
            output = model(x)
        torch.testing.assert_close(output, by_hand(bounds), rtol=1e-6, atol=1e-9)
        assert not torch.allclose(output, by_hand({"0": bounds["2"], "2": bounds["0"]}), rtol=1e-3)


def test_calibration_leaves_everything_alone_and_repeats() -> None:
    model = make_model(torch.float32)
    parametrizations.spectral_norm(model[4])  # in training, each look at such a weight changes a buffer
    model.train()
    model[2].eval()
    x, before, state = data(16, 2, 5).float(), snapshot(model), torch.get_rng_state()
    batches, modes = list(x.split(5)), [module.training for module in model.modules()]
    ranges = calibrate(model, batches)
    one, two, other = (calibrate_adc(model, batches, STANDARD_HWA, seed=seed) for seed in (0, 0, 1))
    assert equal(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in (model[0], model[4]))
    assert one == two != other
    assert set(one) == set(ranges) == {"0", "4"}
    assert ranges["0"] == x.abs().max()
    assert calibrate(model, [x], quantile=0.5)["0"] == pytest.approx(x.abs().median().item(), rel=0.02)
    old = replace(STANDARD_HWA, adc_bounds={"0": 2.0})
    assert calibrate_adc(model, batches, old) == one  # bounds of before do not matter
    assert set(calibrate_adc(model, [x], STANDARD_HWA, "4")) == {"4"}
    assert calibrate_adc(model, [torch.zeros(1, 2, 5)], Periphery(), "0") == {"0": 1.0}


@pytest.mark.parametrize("parameter", ["input_ranges", "adc_bounds"])
def test_wrong_names_and_quantiles_are_refused(parameter: str) -> None:
    model, x = nn.Sequential(), data(4, 3)
    for name in ("stem", "head"):
        model.add_module(name, nn.Linear(3, 3).double())
    unknown = rf"`{parameter}` must name .* got 'haed'. Did you mean 'head'\? Available: stem, head"
    missing = f"`{parameter}` must name each layer on the chip; 'head' is not there"
    for message, names in ((unknown, ("stem", "head", "haed")), (missing, ("stem",))):
        wrong = replace(STANDARD_HWA, **{parameter: dict.fromkeys(names, 1.0)})
        with pytest.raises(ValueError, match=message):
            deploy(model, CLEAN, periphery=wrong)
        if parameter == "input_ranges":
            with pytest.raises(ValueError, match=message):
                calibrate_adc(model, [x], wrong)
    deploy(model, CLEAN, periphery=replace(STANDARD_HWA, **{parameter: {"stem": 1.0, "head": 1.0}}), select="stem")
    for measured in (partial(calibrate, model), partial(calibrate_adc, model, periphery=Periphery())):
        with pytest.raises(ValueError, match="`quantile` must be in"):
            measured([x], quantile=1.5)
        with pytest.raises(ValueError, match="`stem` had no input"):
            measured([])


def test_bounds_may_be_found_for_a_periphery_that_has_none_yet() -> None:
    """It cannot be used before: steps of an endless range would be endless."""
    layer, x = nn.Linear(11, 3).double(), data(8, 11)
    described = Periphery(adc_steps=14, tile_inputs=4)
    uses = (
        lambda p: deploy(layer, CLEAN, periphery=p),
        lambda p: ThroughChip(layer, p, [x]).remove(),
        lambda p: p(Operation(), x, layer.weight, generator_for(0)),
    )
    for use in uses:
        with pytest.raises(
            ValueError, match=r"`adc_bound` must be finite where ADCs round \(14 steps\).*calibrate_adc"
        ):
            use(described)
    bounds = calibrate_adc(layer, [x], described)
    assert bounds == calibrate_adc(layer, [x], replace(described, adc_bound=1.0))
    for use in uses[:2]:
        use(replace(described, adc_bounds=bounds))
