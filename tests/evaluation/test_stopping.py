"""Stopping at a precision: looks in the order of the chips, levels that allow for them, and a bet."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from samson.evaluation import (
    Evaluation,
    ExampleMetric,
    ScoreTable,
    accuracy,
    betting_interval,
    evaluate,
    layout,
    mean_interval,
)
from samson.evaluation.stopping import first_look, next_look
from samson.noise import FixedNoise, Gaussian


class Draws(FixedNoise):
    """A chip whose one weight is drawn: the model's output is that weight."""

    def __init__(self, draw: object) -> None:
        self.draw = draw

    def noisy(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.draw(weight, generator)


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


VALUE = ExampleMetric("value", lambda output, targets: output[:, 0], higher_is_better=True, bounds=(0.0, 1.0))
DATA = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))]


def normal(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 0.5 + 0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)


def test_it_stops_at_the_first_look_that_is_narrow_enough() -> None:
    states = []
    result = evaluate(One(), DATA, Draws(normal), precision=0.03, metric=VALUE, progress=states.append)
    assert result.reached
    assert result.interval.half_width <= 0.03
    look = first_look(1280, 0.95)
    while True:  # the same, by hand
        found = mean_interval(result.trials[: look.size], look.level)
        if found.half_width <= 0.03:
            break
        look = next_look(look, found.half_width, 0.03, 1280, 0.95)
    assert (len(result.trials), result.level) == (look.size, look.level)
    assert look.number > 1
    assert [state.done for state in states] == list(range(1, len(result.trials) + 1))
    assert states[0].interval is None
    assert states[-1].interval is not None
    fixed = evaluate(One(), DATA, Draws(normal), trials=len(result.trials), metric=VALUE)
    assert fixed.trials == result.trials  # the same chips in the same order
    assert fixed.interval.half_width < result.interval.half_width  # looking has its price


def test_the_largest_number_of_chips_ends_it() -> None:
    result = evaluate(One(), DATA, Draws(normal), precision=1e-4, max_trials=25, metric=VALUE)
    assert len(result.trials) == 25
    assert not result.reached


def test_levels_add_up_and_looks_at_most_double() -> None:
    look, error = first_look(10_000, 0.95), 0.0
    sizes = []
    while True:
        sizes.append(look.size)
        error += 1 - look.level
        if look.size == 10_000:
            break
        look = next_look(look, half_width=1.0, precision=1e-6, largest=10_000, confidence=0.95)
    assert sizes == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000]
    assert error == pytest.approx(0.05 * (1 - 1 / 12))
    near = next_look(first_look(1000, 0.95), half_width=0.0105, precision=0.0100, largest=1000, confidence=0.95)
    assert 10 < near.size < 20


def test_stopping_covers_for_gaussian_chips_and_saves_chips() -> None:
    rng, inside, used, every = np.random.default_rng(0), [], [], []
    precision, fixed = 1.96 / math.sqrt(60), 63
    quantiles = stats.t.ppf(0.975, np.arange(1, 640))
    for _ in range(2000):
        x = rng.normal(0, 1, 640)
        look = first_look(640, 0.95)
        while True:
            i = mean_interval(x[: look.size].tolist(), look.level)
            if i.half_width <= precision or look.size == 640:
                break
            look = next_look(look, i.half_width, precision, 640, 0.95)
        inside.append(i.low <= 0 <= i.high)
        used.append(look.size)
        n = np.arange(2, 641)
        means = np.cumsum(x)[1:] / n
        stds = np.sqrt((np.cumsum(x**2)[1:] - n * means**2) / (n - 1))
        halves = quantiles * stds / np.sqrt(n)
        every.append(bool((np.abs(means[3:]) <= halves[3:]).all()))
    assert np.mean(inside) >= 0.95
    assert np.mean(used) <= 3.5 * fixed
    assert np.mean(every) < 0.8  # a 95 % interval looked at after every chip leaves the truth out


def test_the_bet_holds_for_rare_dead_chips_where_the_t_interval_does_not() -> None:
    rng, bets, students = np.random.default_rng(1), [], []
    truth = 0.98 * 0.95 + 0.02 * 0.1
    for _ in range(300):
        x = np.where(rng.random(80) < 0.02, 0.1, 0.95)
        prefixes = [x[:n].tolist() for n in (10, 20, 40, 80)]
        bets.append(all(i.low <= truth <= i.high for i in (betting_interval(p, 0.95, (0, 1)) for p in prefixes)))
        students.append(all(i.low <= truth <= i.high for i in (mean_interval(p) for p in prefixes)))
    assert np.mean(bets) >= 0.95
    assert np.mean(students) < 0.5


def test_the_bet_is_the_published_capital() -> None:
    """Written again with plain loops: the money of both gamblers at the ends is what refutes."""
    x = np.random.default_rng(2).beta(8, 2, 30)

    def capital(m: float, sign: int) -> float:
        money, mu, v, seen = 1.0, 0.5, 0.25, []
        for i, value in enumerate(x, 1):
            stake = math.sqrt(2 * math.log(2 / 0.05) / (v * i * math.log(i + 1)))
            money *= 1 + sign * min(stake, 0.5 / (m if sign > 0 else 1 - m)) * (value - m)
            seen.append(value)
            mus = [(0.5 + sum(seen[: j + 1])) / (j + 2) for j in range(i)]
            mu = mus[-1]
            v = (0.25 + sum((a - b) ** 2 for a, b in zip(seen, mus, strict=True))) / (i + 1)
        assert 0 < mu < 1
        return money

    found = betting_interval(x.tolist(), 0.95, (0.0, 1.0))
    assert capital(found.low, 1) == pytest.approx(40, rel=1e-6)
    assert capital(found.high, -1) == pytest.approx(40, rel=1e-6)
    scaled = betting_interval((10 * x - 3).tolist(), 0.95, (-3.0, 7.0))
    assert scaled.low == pytest.approx(10 * found.low - 3)


def test_betting_stops_too_and_says_so() -> None:
    def uniform(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(weight.shape, generator=generator, dtype=torch.float64)

    result = evaluate(One(), DATA, Draws(uniform), precision=0.2, stopping="betting", metric=VALUE)
    assert result.reached
    assert len(result.trials) % 10 == 0
    expected = betting_interval(result.trials, 0.95, (0.0, 1.0))
    assert (result.interval.low, result.interval.high) == (expected.low, expected.high)


def make_classifier() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return nn.Linear(5, 2), (torch.randn(200, 5), torch.randint(2, (200,)))


def test_a_precision_finer_than_the_examples_allow_is_an_error_after_two_chips() -> None:
    model, data = make_classifier()
    seen: list[object] = []
    with pytest.raises(ValueError, match=r"`precision` must be at least 0\.0\d+ for a population, got 0.01"):
        evaluate(model, data, Gaussian(0.1), precision=0.01, about="population", progress=seen.append)
    assert len(seen) == 1
    assert evaluate(model, data, Gaussian(0.1), precision=0.15, about="population").reached
    with pytest.raises(ValueError, match="`data` must hold at least 2 examples for a population, got 1"):
        evaluate(model, (data[0][:1], data[1][:1]), Gaussian(0.1), trials=3, about="population")


def test_noise_that_levels_examples_leaves_less_open_than_they_do_without_it() -> None:
    """Each chip has right answers of its own, so their means over chips lie together."""
    model, (x, y) = make_classifier()
    without = accuracy(model, [(x, y)])
    floor = 1.97 * (without * (1 - without) / len(x)) ** 0.5
    assert evaluate(model, (x, y), Gaussian(3.0), precision=0.9 * floor, about="population").reached


def test_a_population_stops_where_no_chip_could_help() -> None:
    """The noise-free network is always right, so only the chips show how far the examples are apart."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x = torch.cat([torch.full((50, 1), 1.0), torch.full((50, 1), 1.0)]).repeat(1, 2)
    x[50:, 1] = 60.0
    data = x, torch.zeros(100, dtype=torch.int64)
    result = evaluate(model, data, Gaussian(0.3), precision=0.02, about="population", max_trials=5000)
    assert not result.reached
    assert len(result.trials) < 100


def test_a_population_goes_on_where_more_chips_help() -> None:
    """Noise that decides every answer anew: no example is harder than another, so chips alone make it narrow."""
    torch.manual_seed(0)
    model, data = nn.Linear(40, 2), [(torch.randn(100, 40), torch.zeros(100, dtype=torch.int64))]
    with torch.no_grad():
        model.weight.mul_(1e-3)
        model.bias.copy_(torch.tensor([10.0, -10.0]))
        model.weight[0, 0], model.weight[1, 0] = 30.0, -30.0  # the layer's largest, which the noise is relative to
    data[0][0][:, 0] = 0.0
    result = evaluate(model, data, Gaussian(3.0), precision=0.025, about="population", max_trials=1000)
    assert result.reached
    assert len(result.trials) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 5, "precision": 0.1}, "exclude each other"),
        ({"precision": 0.0}, "half-width > 0"),
        ({"precision": 0.1, "max_trials": 1}, "`max_trials` must be at least 2"),
        ({"stopping": "look"}, "`stopping` must be one of 'looks', 'betting'"),
        ({"about": "everything"}, "`about` must be one of 'test_set', 'population'"),
        ({"confidence": 1.5}, "`confidence` must lie between 0 and 1"),
        ({"stopping": "betting", "metric": "cross-entropy"}, "without bounds or a population"),
        ({"stopping": "betting", "about": "population"}, "without bounds or a population"),
        ({"seed": -1}, "`seed` must be ≥ 0"),
        ({"metric": "acc"}, "`metric` must be a known one"),
        ({"metric": "perplexity", "about": "population"}, "`about` must be 'test_set'"),
    ],
)
def test_bad_arguments_are_named_before_compute(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    model, data = make_classifier()
    runs = []
    model.register_forward_hook(lambda *_: runs.append(1))
    monkeypatch.setattr(layout, "_FOUND", {})
    with pytest.raises(ValueError, match=message):
        evaluate(model, data, Gaussian(0.1), **arguments)
    assert not runs


def test_results_print_as_a_sentence() -> None:
    table = ScoreTable.of([np.array([True, False]), np.array([True, True])])
    text = str(Evaluation((0.5, 1.0), examples=table))
    assert text.startswith("accuracy 0.7500 [0.0000, 1.0000] (95%, 2 chips, about the test set), worst 0.5")
