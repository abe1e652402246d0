"""Attention and recurrent layers behind a periphery, against what is built from linear layers with their weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samson import param_groups
from samson.noise import (
    PCM,
    CustomPCM,
    Gaussian,
    InversePower,
    Periphery,
    ThroughChip,
    calibrate,
    calibrate_adc,
    deploy,
    on_chip,
)
from tests.conftest import equal, snapshot


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


class BuiltAttention(nn.Module):
    """Attention by its textbook formula, from linear layers with an attention layer's weights."""

    def __init__(self, like: nn.MultiheadAttention) -> None:
        super().__init__()
        packed = like._qkv_same_embed_dim
        weights = like.in_proj_weight.chunk(3) if packed else (getattr(like, f"{part}_proj_weight") for part in "qkv")
        for part, weight, bias in zip("qkv", weights, like.in_proj_bias.chunk(3), strict=True):
            self.add_module(part, linear(weight, bias))
        self.out_proj, self.heads = copy.deepcopy(like.out_proj), like.num_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found = []
        split = (x.chunk(self.heads, -1) for x in (self.q(query), self.k(key), self.v(value)))
        for q, k, v in zip(*split, strict=True):
            found.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
        return self.out_proj(torch.cat(found, -1))


class BuiltGRU(nn.Module):
    """A GRU of one layer by its textbook formula, from linear layers with the weights of another."""

    def __init__(self, like: nn.GRU) -> None:
        super().__init__()
        for part in ("ih_l0", "hh_l0"):
            self.add_module(part, linear(getattr(like, f"weight_{part}"), getattr(like, f"bias_{part}")))
        self.size = like.hidden_size

    def forward(self, series: Tensor) -> Tensor:
        h, found = series.new_zeros(series.shape[1], self.size), []
        for x in self.ih_l0(series):
            own = self.hh_l0(h)
            (xr, xz, xn), (hr, hz, hn) = x.split(self.size, -1), own.split(self.size, -1)
            r, z = 1 / (1 + (-xr - hr).exp()), 1 / (1 + (-xz - hz).exp())
            h = (1 - z) * torch.tanh(xn + r * hn) + z * h
            found.append(h)
        return torch.stack(found)


@dataclass
class Case:
    """A layer and the same as built, inputs, and the number of calls of each part."""

    layer: nn.Module
    built: nn.Module
    inputs: list[Tensor]
    calls: dict[str, int]

    @property
    def batches(self) -> list[Any]:
        """The inputs as data."""
        return [dict(zip(("query", "key", "value"), self.inputs, strict=True))] if self.inputs[1:] else self.inputs

    def of_layer(self) -> Tensor:
        return self.layer(*self.inputs)[0]

    def of_built(self) -> Tensor:
        return self.built(*self.inputs)


def attention(**sizes: int) -> Case:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **sizes).double()
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    inputs = [torch.randn(3, n, d).double() for n, d in ((4, 8), (5, layer.kdim), (5, layer.vdim))]
    return Case(layer, BuiltAttention(layer), inputs, dict.fromkeys(("q", "k", "v", "out_proj"), 1))


def gru() -> Case:
    torch.manual_seed(0)
    layer = nn.GRU(7, 6).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.6)
    return Case(layer, BuiltGRU(layer), [torch.randn(5, 3, 7).double()], {"ih_l0": 1, "hh_l0": 5})


CASES: dict[str, Callable[[], Case]] = {
    "packed attention": attention,
    "separate attention": lambda: attention(kdim=6, vdim=10),
    "gru": gru,
}
each_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
AROUND = Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0, tile_inputs=5)


@each_case
@pytest.mark.parametrize("time_s", [None, 365 * 86_400.0], ids=["programmed", "a year"])
def test_it_computes_as_linear_layers_on_the_same_devices(make: Callable[[], Case], time_s: float | None) -> None:
    """Also with the compensation of drift, which scales the columns, and with the periphery's own noise."""
    case = make()
    layer, built, batches = case.layer, case.built, case.batches
    children = list(layer._modules)
    ranges = calibrate(layer, batches)
    assert ranges == pytest.approx(calibrate(built, batches))
    around = replace(AROUND, input_ranges=ranges, output_noise=0.02, ir_drop=1.0)
    bounds, expected = (calibrate_adc(model, batches, around) for model in (layer, built))
    assert bounds == pytest.approx(expected)
    read = InversePower(0.0, 0.65, 1e-3, 0.2)  # none, as read noise goes by names
    noise = CustomPCM(constants=replace(PCM().constants, read=read))
    chip, other = (deploy(model, noise, periphery=around, seed=3) for model in (layer, built))
    other.states = {f"{part}.weight": chip.states[t.name] for part, t in zip(case.calls, on_chip(layer), strict=True)}
    before = snapshot(layer)
    with torch.no_grad(), chip.at(time_s), other.at(time_s):
        found, by_hand = case.of_layer(), case.of_built()
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)
    assert (found - case.of_layer()).abs().max() > 0.01  # the check can fail
    assert chip.reached == other.reached == case.calls
    assert equal(snapshot(layer), before)
    assert list(layer._modules) == children
    assert not layer._forward_hooks


@each_case
def test_it_is_trained_as_linear_layers_are(make: Callable[[], Case]) -> None:
    """Outputs, gradients of weights and of the ranges that are learned."""
    case = make()
    layer, built, parts = case.layer, case.built, case.calls
    keys = layer.state_dict().keys()
    one, other = (ThroughChip(model, AROUND, case.batches, deviations=1.5, decay=0.0) for model in (layer, built))
    assert one.ranges == pytest.approx(other.ranges)
    assert set(param_groups(layer)[1]["param_names"]) == {f"{part}.input_range" for part in parts}
    twin = copy.deepcopy(layer)
    found, by_hand = case.of_layer(), case.of_built()
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(twin(*case.inputs)[0], found)
    assert twin.get_submodule(next(iter(parts))).whole is twin
    for y in (found, by_hand):
        y.square().mean().backward()
    ranges = {part: layer.get_submodule(part).input_range.grad for part in parts}
    for part, t in zip(parts, on_chip(layer), strict=True):
        torch.testing.assert_close(ranges[part], built.get_submodule(part).input_range.grad)
        own = t.matrix.within(t.layer.get_parameter(t.matrix.attribute).grad)
        torch.testing.assert_close(own, built.get_submodule(part).weight.grad)
    assert all(slope.abs() > 0 for part, slope in ranges.items() if part != "out_proj")
    chip = deploy(layer.eval(), Gaussian(0.0), periphery=one.periphery)  # while it is still trained
    with torch.no_grad(), chip.at():
        torch.testing.assert_close(case.of_layer(), found)
    assert one.remove().input_ranges.keys() == parts.keys()
    assert layer.state_dict().keys() == keys
    assert not layer._forward_hooks


@pytest.mark.parametrize(
    ("make", "select", "part"),
    [
        (attention, "*.q", "q"),
        (attention, "out_proj", "out_proj"),
        (gru, "weight_ih_l0", "ih_l0"),
        (gru, "hh_l0", "hh_l0"),
        (gru, "*_hh_l0", "hh_l0"),
    ],
)
def test_a_part_may_lie_on_the_chip_alone(make: Callable[[], Case], select: str, part: str) -> None:
    case = make()
    plain = case.of_layer()
    chip = deploy(case.layer, Gaussian(0.0), periphery=Periphery(dac_steps=6), select=select)
    with chip.at():
        found = case.of_layer()
    assert chip.reached == {part: case.calls[part]}
    assert (found - plain).abs().max() > 1e-3
    with deploy(case.layer, Gaussian(0.0), periphery=Periphery(), select=select).at():
        torch.testing.assert_close(case.of_layer(), plain)


class TwiceAttention(nn.MultiheadAttention):
    def forward(self, *args: Any, **keywords: Any) -> Any:
        return 2 * super().forward(*args, **keywords)[0], None


class TwiceGRU(nn.GRU):
    def forward(self, *args: Any, **keywords: Any) -> Any:
        return 2 * super().forward(*args, **keywords)[0], None


@pytest.mark.parametrize(
    ("kind", "select"),
    [(TwiceAttention, None), (TwiceAttention, "*.q"), (TwiceAttention, "out_proj"), (TwiceGRU, None)],
)
def test_a_layer_with_a_forward_of_its_own_is_refused(
    kind: Callable[[int, int], nn.Module], select: str | None
) -> None:
    with pytest.raises(ValueError, match="a Twice.*, has a `forward` of its own|change their weight before"):
        deploy(kind(4, 2), Gaussian(0.0), periphery=Periphery(), select=select)


def test_a_range_for_what_is_no_part_is_refused() -> None:
    words = "layers of the model and parts of them, got 'p'. Available: q, k, v, out_proj"
    with pytest.raises(ValueError, match=words):
        deploy(attention().layer, Gaussian(0.0), periphery=Periphery(input_ranges={"p": 1.0}))
