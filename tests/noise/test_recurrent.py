"""Recurrent layers behind a periphery: against torch's own, and against cells that are built from linear layers."""

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

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
)
from tests.conftest import equal, snapshot

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "LSTM": (nn.LSTM, {}),
    "LSTM with projections": (nn.LSTM, {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
    "GRU": (nn.GRU, {}),
    "GRU of two layers and ways": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "GRU without biases": (nn.GRU, {"bias": False}),
    "tanh": (nn.RNN, {"bidirectional": True}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
}
INPUTS = ("batch", "batch first", "one series", "packed", "packed and sorted")


def torchs_and_ours(layer: nn.Module, *args: Any) -> tuple[Any, Any]:
    """What a layer gives by itself, and behind an exact periphery."""
    with torch.no_grad():
        expected = layer(*args)
        chip = deploy(layer, Gaussian(0.0), periphery=Periphery())
        with chip.at():
            return expected, layer(*args)


def flat(found: Any) -> list[Tensor]:
    """All tensors of an output."""
    if isinstance(found, Tensor):
        return [found]
    return [tensor for one in found if one is not None for tensor in flat(one)]


@pytest.mark.parametrize("start", ["zeros", "a state"])
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_behind_an_exact_periphery_it_is_torchs_own(kind: str, inputs: str, start: str) -> None:
    torch.manual_seed(0)
    make, settings = KINDS[kind]
    layer = make(4, 5, batch_first=inputs == "batch first", **settings).double()
    series = torch.randn(6, 3, 4).double()
    lengths = [6, 4, 1] if inputs == "packed and sorted" else [1, 6, 4]
    given: Tensor | PackedSequence = {
        "batch": series,
        "batch first": series.transpose(0, 1),
        "one series": series[:, 0],
        "packed": pack_padded_sequence(series, torch.tensor(lengths), enforce_sorted=inputs == "packed and sorted"),
    }[inputs.removesuffix(" and sorted")]
    ways = layer.num_layers * (1 + layer.bidirectional)
    batch = () if inputs == "one series" else (3,)
    h, c = (torch.randn(ways, *batch, n).double() for n in (layer.proj_size or 5, 5))
    args = (given,) if start == "zeros" else (given, (h, c) if isinstance(layer, nn.LSTM) else h)
    expected, found = torchs_and_ours(layer, *args)
    assert type(found) is type(expected)
    assert [t.shape for t in flat(found)] == [t.shape for t in flat(expected)]
    torch.testing.assert_close(flat(found), flat(expected))
    assert not layer._modules
    assert not layer._forward_hooks


CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "tanh": nn.RNNCell}


@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
@pytest.mark.parametrize("start", ["zeros", "a state"])
@pytest.mark.parametrize("cell", [*CELLS, "relu"])
def test_so_are_cells(cell: str, start: str, batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = (nn.RNNCell(4, 5, nonlinearity="relu") if cell == "relu" else CELLS[cell](4, 5)).double()
    h, c = torch.randn(2, *batch, 5).double()
    args = [torch.randn(*batch, 4).double(), (h, c) if cell == "LSTM" else h]
    expected, found = torchs_and_ours(layer, *args[: 1 if start == "zeros" else 2])
    torch.testing.assert_close(flat(found), flat(expected))


@pytest.mark.parametrize("inputs", ["batch", "no series", "packed"])
@pytest.mark.parametrize("kind", ["LSTM", "tanh"])
def test_it_gives_torchs_types_under_autocast_and_takes_no_series(kind: str, inputs: str) -> None:
    torch.manual_seed(0)
    make, settings = KINDS[kind]
    layer, series = make(4, 5, **settings), torch.randn(6, 3, 4)
    x = {"batch": series, "no series": series[:, :0], "packed": pack_padded_sequence(series, torch.tensor([6, 4, 2]))}
    for narrow in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            expected, found = torchs_and_ours(layer, x[inputs])
        assert [(t.shape, t.dtype) for t in flat(found)] == [(t.shape, t.dtype) for t in flat(expected)]
    assert inputs != "batch" or any(t.dtype == torch.bfloat16 for t in flat(expected))  # the check can fail


class OneMask(nn.Module):
    """Dropout of a weight, as a parametrisation, which counts how often it is computed."""

    computed = 0

    def forward(self, weight: Tensor) -> Tensor:
        OneMask.computed += 1
        return weight * (torch.rand_like(weight) < 0.5)


def test_a_computed_weight_is_computed_once_a_pass_in_training() -> None:
    layer, _, x = pair()
    parametrize.register_parametrization(layer, "weight_hh_l0", OneMask())
    with ThroughChip(layer, Periphery(), [x]):
        OneMask.computed = 0
        layer(x)
        of_ours = OneMask.computed
    OneMask.computed = 0
    layer(x)
    assert of_ours == OneMask.computed + 1  # torch's own pass comes first, and is thrown away


def test_arguments_may_be_given_by_name() -> None:
    layer, x, h = nn.GRU(4, 5).double(), torch.randn(6, 3, 4).double(), torch.randn(1, 3, 5).double()
    with torch.no_grad(), deploy(layer, Gaussian(0.0), periphery=Periphery()).at():
        found = layer(input=x, hx=h)
    torch.testing.assert_close(found, layer(x, h))


class Built(nn.Module):
    """A GRU of one layer by its textbook formula, from linear layers with the weights of another."""

    def __init__(self, like: nn.GRU) -> None:
        super().__init__()
        for part in ("ih_l0", "hh_l0"):
            weight, bias = getattr(like, f"weight_{part}"), getattr(like, f"bias_{part}")
            layer = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype)
            layer.load_state_dict({"weight": weight, "bias": bias})
            self.add_module(part, layer)
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


PARTS = ("ih_l0", "hh_l0")


def pair() -> tuple[nn.GRU, Built, Tensor]:
    """A layer and what is built like it, and series."""
    torch.manual_seed(0)
    layer = nn.GRU(7, 6).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.6)
    return layer, Built(layer), torch.randn(5, 3, 7).double()


@pytest.mark.parametrize("time_s", [None, 365 * 86_400.0], ids=["programmed", "a year"])
def test_it_computes_as_linear_layers_on_the_same_devices(time_s: float | None) -> None:
    """Also with the compensation of drift, which scales the columns, and with the periphery's own noise."""
    layer, built, x = pair()
    ranges = calibrate(layer, [x])
    assert ranges == pytest.approx(calibrate(built, [x]))
    around = Periphery(
        dac_steps=30, adc_steps=60, adc_bound=2.0, tile_inputs=5, input_ranges=ranges, output_noise=0.02, ir_drop=1.0
    )
    bounds, expected = (calibrate_adc(model, [x], around) for model in (layer, built))
    assert bounds == pytest.approx(expected)
    noise = CustomPCM(
        constants=replace(PCM().constants, read=InversePower(0.0, 0.65, 1e-3, 0.2))
    )  # read noise goes by names
    chip, other = (deploy(model, noise, periphery=around, seed=3) for model in (layer, built))
    for part in PARTS:
        other.states[f"{part}.weight"] = chip.states[f"weight_{part}"]
    before = snapshot(layer)
    with torch.no_grad(), chip.at(time_s), other.at(time_s):
        found, by_hand = layer(x)[0], built(x)
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)
    assert (found - layer(x)[0]).abs().max() > 0.01  # the check can fail
    assert chip.reached == other.reached == {"ih_l0": 1, "hh_l0": 5}
    assert equal(snapshot(layer), before)


@pytest.mark.parametrize("select", ["weight_ih_l0", "hh_l0", "*_hh_l0"])
def test_a_part_may_lie_on_the_chip_alone(select: str) -> None:
    layer, _, x = pair()
    plain = layer(x)[0]
    chip = deploy(layer, Gaussian(0.0), periphery=Periphery(dac_steps=6), select=select)
    with chip.at():
        found = layer(x)[0]
    assert chip.reached.keys() == {select.removeprefix("*_").removeprefix("weight_")}
    assert (found - plain).abs().max() > 1e-3


def test_it_is_trained_as_linear_layers_are() -> None:
    """Outputs, gradients of weights and of the ranges that are learned."""
    layer, built, x = pair()
    around, keys = Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0, tile_inputs=5), layer.state_dict().keys()
    one, other = (ThroughChip(model, around, [x], deviations=1.5, decay=0.0) for model in (layer, built))
    assert one.ranges == pytest.approx(other.ranges)
    assert set(param_groups(layer)[1]["param_names"]) == {f"{part}.input_range" for part in PARTS}
    twin = copy.deepcopy(layer)
    found, by_hand = layer(x)[0], built(x)
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(twin(x)[0], found)
    for y in (found, by_hand):
        y.square().mean().backward()
    for part in PARTS:
        range_grads = [model.get_submodule(part).input_range.grad for model in (layer, built)]
        torch.testing.assert_close(*range_grads)
        assert range_grads[0].abs() > 0
        torch.testing.assert_close(layer.get_parameter(f"weight_{part}").grad, built.get_submodule(part).weight.grad)
    chip = deploy(layer.eval(), Gaussian(0.0), periphery=one.periphery)  # while it is still trained
    with torch.no_grad(), chip.at():
        torch.testing.assert_close(layer(x)[0], found)
    assert one.remove().input_ranges.keys() == set(PARTS)
    assert layer.state_dict().keys() == keys
    assert not layer._forward_hooks


def test_what_narrows_a_range_comes_once_a_pass_and_not_once_a_step() -> None:
    layer, _, x = pair()
    ThroughChip(layer, Periphery(input_ranges=dict.fromkeys(PARTS, 50.0)), decay=0.01)  # nothing saturates
    layer(x)[0].sum().backward()
    for part in PARTS:
        assert layer.get_submodule(part).input_range.grad.item() == pytest.approx(50 * 0.01)


def test_dropout_between_layers_is_that_of_training_alone() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 300, num_layers=2, dropout=0.4), torch.randn(1, 8, 4)
    expected = layer.eval()(x)[0]
    with ThroughChip(layer, Periphery(), [x]):
        torch.testing.assert_close(layer(x)[0], expected)
        seen: list[Tensor] = []
        layer.train().ih_l1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        layer(x)
    number = seen[0].numel()
    assert (seen[0] == 0).double().mean().item() == pytest.approx(0.4, abs=4 * (0.4 * 0.6 / number) ** 0.5)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_it_is_trained_in_a_compiled_model_and_under_autocast() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 5), torch.randn(6, 3, 4)
    model = nn.Sequential(layer)
    ThroughChip(model, Periphery(dac_steps=30, adc_steps=60, adc_bound=2.0), [x])
    found = []
    compiled = torch.compile(model, backend="aot_eager")
    for run, narrow in product((model, compiled), (False, True)):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            run(x)[0].float().square().sum().backward()
        found.append(layer.weight_hh_l0.grad.clone())
    torch.testing.assert_close(found[2], found[0])
    assert found[1].isfinite().all()
    torch.testing.assert_close(found[1], found[0], rtol=0.1, atol=0.1 * float(found[0].abs().max()))
    torch.testing.assert_close(found[3], found[0], rtol=0.1, atol=0.1 * float(found[0].abs().max()))


class Twice(nn.GRU):
    def forward(self, *args: Any, **keywords: Any) -> Any:
        return 2 * super().forward(*args, **keywords)[0], None


def test_a_layer_with_a_forward_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="a Twice, has a `forward` of its own|change their weight before"):
        deploy(Twice(4, 2), Gaussian(0.0), periphery=Periphery())
