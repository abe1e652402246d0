"""What calibration, re-estimation and rescaling run a model on: every form of data gives the same."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from samson._modes import training_mode
from samson.noise import Periphery, ThroughChip, calibrate, calibrate_adc, reestimated_norms, rescale

X, Y = torch.randn(24, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.arange(24)


def dicts() -> list[dict[str, Tensor]]:
    return [{"input": x, "labels": y} for x, y in zip(X.split(7), Y.split(7), strict=True)]


FORMS: dict[str, Callable[[], Any]] = {
    "inputs": lambda: X,
    "inputs and targets": lambda: (X, Y),
    "data set": lambda: TensorDataset(X, Y),
    "data set of inputs": lambda: TensorDataset(X),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True),
    "loader of dicts": lambda: DataLoader([{"input": x, "labels": y} for x, y in zip(X, Y, strict=True)], batch_size=7),
    "list of inputs": lambda: list(X.split(7)),
    "list of dicts": dicts,
    "iterator": lambda: iter(dicts()),
}


def found(data: Callable[[], Any]) -> list[Tensor]:
    """All that is measured with the data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    before, state, even = X.clone(), torch.get_rng_state(), copy.deepcopy(model)
    ranges, bounds = calibrate(model, data()), calibrate_adc(model, data(), Periphery(tile_inputs=4))
    with reestimated_norms(model, data()):
        statistics = [model[2].running_mean.clone(), model[2].running_var.clone()]
    assert list(rescale(even, data())) == ["2.weight"]
    with ThroughChip(copy.deepcopy(model), Periphery(), data()) as through:  # the mean of batches' deviations
        assert through.ranges["1"] == pytest.approx(3 * X.relu().std().item(), rel=0.2)
    assert torch.equal(X, before)  # the first layer writes into its input
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert all(module.training for one in (model, even) for module in one.modules())
    return [torch.tensor([*ranges.values(), *bounds.values()]), *statistics, even[3].weight.detach()]


@pytest.fixture(scope="module")
def expected() -> list[Tensor]:
    return found(lambda: [X])


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same(data: Callable[[], Any], expected: list[Tensor]) -> None:
    for one, other in zip(found(data), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_other_data_give_something_else(expected: list[Tensor]) -> None:
    """The check can fail."""
    for one, other in zip(found(lambda: [X[:12]]), expected, strict=True):
        assert not torch.allclose(one, other, rtol=1e-3)


class Remembering(nn.Module):
    """It writes into a buffer and sets another anew; into two it cannot write."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(6))
        self.register_buffer("expanded", torch.zeros((), dtype=torch.float64).expand(3))
        self.register_buffer("sparse", torch.eye(3, dtype=torch.float64).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.last = x[-1]
        return self.norm(self.layer(x))


def test_what_a_model_writes_into_its_buffers_in_training_mode_is_undone() -> None:
    model = Remembering().double()
    before = dict(model.named_buffers())
    assert calibrate(model.eval(), [X])
    model.seen.zero_()
    model.last = before["last"]
    with training_mode(model):
        model(X)
        assert model.training
        assert model.seen == 24
    assert not model.training
    ThroughChip(model, Periphery(), [X]).remove()
    after = dict(model.named_buffers())
    assert after.keys() == before.keys()
    assert all(after[name] is buffer for name, buffer in before.items())
    assert not model.seen
    assert not model.last.any()
    model(X)
    assert (model.seen, model.last is not before["last"]) == (24, True)  # the check can fail


def test_what_is_no_batch_is_named() -> None:
    with pytest.raises(ValueError, match=r"A batch of `data` must be \(inputs, targets\), a dict with labels"):
        calibrate(nn.Linear(6, 4), ["text"])
