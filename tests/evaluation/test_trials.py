"""Evaluation on chips: the number itself, common chips, and a model left as it was."""

import copy
import math
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization import FakeQuantize, MinMaxObserver

from samson.evaluation import ExampleMetric, clean_value, evaluate
from samson.noise import Gaussian, calibrate, deploy, multiply_adds
from tests.conftest import equal, make_batch, make_model, snapshot

DATA = make_batch(size=64)


class Sign(nn.Module):
    """Right on a chip exactly if the noisy weight stays positive: w = 1, so with probability Φ(1/σ)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.layer(x)
        return torch.cat([-score, score], dim=1)


def test_accuracy_is_the_known_truth() -> None:
    truth, chips = NormalDist().cdf(1 / 0.8), 2000
    result = evaluate(Sign(), (torch.ones(1, 1), torch.ones(1, dtype=torch.int64)), Gaussian(0.8), trials=chips)
    assert abs(result.mean - truth) < 4 * (truth * (1 - truth) / chips) ** 0.5
    assert set(result.trials) == {0.0, 1.0}


def test_a_chip_is_the_same_in_any_run_and_the_model_comes_back() -> None:
    model = make_model().train()
    model[2].eval()
    before, state, modes = snapshot(model), torch.get_rng_state(), [m.training for m in model.modules()]
    eight = evaluate(model, DATA, Gaussian(0.3), trials=8, seed=2)
    assert equal(snapshot(model), before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert evaluate(model, DATA, Gaussian(0.3), trials=4, seed=2).trials == eight.trials[:4]
    assert evaluate(model, DATA, Gaussian(0.3), trials=8, seed=3).trials != eight.trials


def observed() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A network with fake-quantised activations, whose range follows in evaluation mode too, and data that it saw."""
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    model = nn.Sequential(nn.Linear(6, 16), FakeQuantize(MinMaxObserver, quant_min=0, quant_max=7), nn.Linear(16, 3))
    model.eval()(x)
    return model, (x, y)


def test_what_an_observer_sees_on_one_chip_is_forgotten_on_the_next() -> None:
    model, (x, y) = observed()
    alone = []
    for trial in range(4):
        new = copy.deepcopy(model)
        with torch.no_grad(), deploy(new, Gaussian(0.3), seed=2, trial=trial).at():
            alone.append(float(nn.functional.cross_entropy(new(x), y)))
        assert not equal(dict(new.named_buffers()), dict(model.named_buffers()))
    found = evaluate(model, (x, y), Gaussian(0.3), trials=4, seed=2, metric="cross-entropy")
    assert found.trials == pytest.approx(alone, rel=1e-5)


def test_questions_leave_buffers_as_they_were() -> None:
    model, (x, y) = observed()
    questions = (
        lambda: evaluate(model, (x, y), Gaussian(0.3), trials=2),
        lambda: clean_value(model, (2 * x, y)),
        lambda: calibrate(model, [2 * x]),
        lambda: multiply_adds(model, [2 * x]),
    )
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for ask in questions:
        ask()
        assert equal(dict(model.named_buffers()), before)
    model(2 * x)
    assert not equal(dict(model.named_buffers()), before)  # which would be noticed


class Table(nn.Module):
    """Adds positions from a table that grows with the longest input, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.register_buffer("positions", torch.zeros(1, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.size:
            self.size = x.shape[1]
            self.positions = torch.arange(self.size, dtype=x.dtype)[None]
        return x + self.positions[:, : x.shape[1]]


def test_a_table_that_grows_stays() -> None:
    """Its layer would not make it again."""
    model, data = nn.Sequential(Table(), nn.Linear(6, 3)), (torch.randn(40, 6), torch.randint(3, (40,)))
    by_hand = (model[1](data[0] + torch.arange(6.0)).argmax(1) == data[1]).double().mean()
    assert [clean_value(model, data) for _ in range(2)] == pytest.approx([float(by_hand)] * 2)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_model_has_a_value() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    data = torch.randn(40, 6), torch.randint(3, (40,))
    scripted = torch.jit.script(model)
    assert clean_value(scripted, data) == clean_value(model, data)


def test_a_graph_from_before_a_question_can_run_backward() -> None:
    model, x = nn.BatchNorm1d(6), torch.randn(40, 6, requires_grad=True)
    [alone] = torch.autograd.grad(copy.deepcopy(model)(x).square().mean(), x)
    loss = model(x).square().mean()
    clean_value(model, (x.detach(), torch.randint(6, (40,))))
    assert torch.equal(torch.autograd.grad(loss, x)[0], alone)


def test_a_model_that_writes_into_its_inputs_sees_the_same_data_each_time() -> None:
    model = nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 3))
    x, y = torch.randn(40, 6), torch.randint(3, (40,))
    before = x.clone()
    expected = evaluate(nn.Sequential(nn.ELU(), model[1]), (x, y), Gaussian(0.2), trials=3, metric="cross-entropy")
    first, again = (evaluate(model, (x, y), Gaussian(0.2), trials=3, metric="cross-entropy") for _ in range(2))
    assert first.trials == again.trials == pytest.approx(expected.trials)
    assert torch.equal(x, before)


def test_values_outside_of_the_bounds_are_an_error() -> None:
    data = torch.randn(40, 6), torch.randint(3, (40,))
    percent = ExampleMetric("percent", lambda y, t: 100.0 * (y.argmax(1) == t), higher_is_better=True, bounds=(0, 1))
    with pytest.raises(ValueError, match=r"must stay within its `bounds` \(0, 1\), got values from 0 to 100"):
        evaluate(nn.Linear(6, 3), data, Gaussian(0.2), trials=3, metric=percent)
    for beyond in (1.01, -0.01):  # a rounding error of float32 is cut off
        constant = replace(percent, score=lambda y, t, beyond=beyond: torch.full((len(t),), beyond))
        with pytest.raises(ValueError, match="within its `bounds`"):
            evaluate(nn.Linear(6, 3), data, Gaussian(0.2), trials=3, metric=constant)
    for bounds in ((0.0, math.inf), (1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="`bounds` must be two finite numbers in ascending order"):
            replace(percent, bounds=bounds)


class Holding(nn.Module):
    """Adds a buffer of its own to what a layer gives."""

    def __init__(self, buffer: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("held", buffer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.held.dequantize()[0, 0] if self.held.is_quantized else self.layer(x) + self.held[0]


def test_a_buffer_that_nobody_may_write_to_is_left_alone(tmp_path: Path) -> None:
    """Written to, a file that is mapped to be read ends the process."""
    np.save(tmp_path / "table.npy", np.ones(5, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: it may not be written
        mapped = torch.from_numpy(np.load(tmp_path / "table.npy", mmap_mode="r"))
        codes = torch.quantize_per_channel(
            torch.ones(2, 3), torch.ones(2), torch.zeros(2), 0, torch.quint8
        )  # as of an embedding; it has no copy
    data = torch.randn(20, 4), torch.arange(20) % 3
    for buffer in (mapped, codes):
        model = Holding(buffer)
        assert len(evaluate(model, data, Gaussian(0.1), trials=2).trials) == 2
        assert model.held is buffer
