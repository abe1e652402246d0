"""Evaluation on chips: the number itself, common chips, and a model left as it was."""

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from torch import nn

from samson.evaluation import ExampleMetric, clean_value, evaluate
from samson.noise import Gaussian
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


def test_data_without_an_example_are_an_error() -> None:
    for ask in (lambda: clean_value(make_model(), []), lambda: evaluate(make_model(), [], Gaussian(0.1), read_block=3)):
        with pytest.raises(ValueError, match="`data` must hold at least one example"):
            ask()
