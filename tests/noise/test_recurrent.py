"""Recurrent layers behind a periphery, against torch's own; `test_parts.py` has them against linear layers."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from samson.noise import (
    Gaussian,
    Periphery,
    ThroughChip,
    deploy,
)
from tests.noise.test_parts import gru

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


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_behind_an_exact_periphery_it_is_torchs_own(kind: str, inputs: str) -> None:
    """From zeros, and from a state."""
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
    for args in ((given,), (given, (h, c) if isinstance(layer, nn.LSTM) else h)):
        expected, found = torchs_and_ours(layer, *args)
        assert type(found) is type(expected)
        torch.testing.assert_close(flat(found), flat(expected))
    assert not layer._modules
    assert not layer._forward_hooks


@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
@pytest.mark.parametrize(
    "cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell, partial(nn.RNNCell, nonlinearity="relu")], ids=str
)
def test_so_are_cells(cell: Callable[[int, int], nn.RNNCellBase], batch: tuple[int, ...]) -> None:
    layer = cell(4, 5).double()
    h, c = torch.randn(2, *batch, 5).double()
    x = torch.randn(*batch, 4).double()
    for args in ((x,), (x, (h, c) if isinstance(layer, nn.LSTMCell) else h)):
        expected, found = torchs_and_ours(layer, *args)
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
    case = gru()
    layer, [x] = case.layer, case.inputs
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


def test_what_narrows_a_range_comes_once_a_pass_and_not_once_a_step() -> None:
    case = gru()
    layer, [x] = case.layer, case.inputs
    ThroughChip(layer, Periphery(input_ranges=dict.fromkeys(case.calls, 50.0)), decay=0.01)  # nothing saturates
    layer(x)[0].sum().backward()
    for part in case.calls:
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
