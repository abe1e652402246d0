"""Stopping at a precision: looks in the order of the chips, and a population that knows when chips cannot help."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import nn

from samson.evaluation import ExampleMetric, clean_value, evaluate
from samson.noise import FixedNoise, Gaussian
from samson.statistics import betting_interval, first_look, mean_interval, next_look


class Uniform(FixedNoise):
    """A chip whose one weight is drawn between 0 and 1."""

    def noisy(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(weight.shape, generator=generator, dtype=torch.float64)


MODEL = nn.Linear(1, 1, bias=False, dtype=torch.float64)  # its output is that weight
nn.init.constant_(MODEL.weight, 0.5)  # without noise it keeps to the metric's bounds too
VALUE = ExampleMetric("value", lambda output, targets: output[:, 0], higher_is_better=True, bounds=(0.0, 1.0))
DATA = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))]


def test_it_stops_at_the_first_look_that_is_narrow_enough() -> None:
    states = []
    result = evaluate(MODEL, DATA, Uniform(), precision=0.09, metric=VALUE, progress=states.append)
    look = first_look(1280, 0.95)
    while True:  # the same, by hand
        found = mean_interval(result.trials[: look.size], look.confidence)
        if found.half_width <= 0.09:
            break
        look = next_look(look, found.half_width, 0.09, 1280, 0.95)
    assert (len(result.trials), result.look_confidence, result.reached) == (look.size, look.confidence, True)
    assert look.number > 1
    assert [state.done for state in states] == list(range(1, len(result.trials) + 1))
    assert states[0].interval is None
    assert states[-1].interval is not None
    fixed = evaluate(MODEL, DATA, Uniform(), trials=len(result.trials), metric=VALUE)
    assert fixed.trials == result.trials  # the same chips in the same order
    assert fixed.interval.half_width < result.interval.half_width  # looking has its price
    short = evaluate(MODEL, DATA, Uniform(), precision=1e-4, max_trials=25, metric=VALUE)
    assert (len(short.trials), short.reached) == (25, False)


def test_betting_stops_at_a_tenth_chip() -> None:
    result = evaluate(MODEL, DATA, Uniform(), precision=0.2, stopping="betting", metric=VALUE)
    tens = range(10, len(result.trials) + 1, 10)
    intervals = [betting_interval(result.trials[:n], 0.95, (0.0, 1.0)) for n in tens]
    assert [i.half_width <= 0.2 for i in intervals] == [False] * (len(intervals) - 1) + [True]
    assert (result.interval.low, result.interval.high) == (intervals[-1].low, intervals[-1].high)
    assert result.look_confidence == 0.95


def test_progress_shows_the_interval_of_each_tenth_chip() -> None:
    states = []
    found = evaluate(MODEL, DATA, Uniform(), trials=21, metric=VALUE, progress=states.append)
    for state in states:
        last = max((n for n in (2, 5, 10, 20) if n <= state.done), default=0)
        expected = mean_interval(found.trials[:last], resolution=found.resolution) if last else None
        assert state.interval == expected or state.interval.low == pytest.approx(max(0, expected.low))
        assert state.interval is None or state.interval.mean == expected.mean


def test_beyond_a_hundred_chips_progress_looks_at_each_tenth_more() -> None:
    """A look goes over all chips so far: at every tenth chip they would grow with the square of the chips."""
    states = []
    evaluate(MODEL, DATA, Uniform(), trials=210, metric=VALUE, progress=states.append)
    looks = [state.done for last, state in itertools.pairwise(states) if state.interval is not last.interval]
    assert looks == [2, 5, *range(10, 120, 10), 130, 150, 170, 190, 210]


def make_classifier() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    return nn.Linear(5, 2), (torch.randn(200, 5), torch.randint(2, (200,)))


def test_a_precision_finer_than_the_examples_allow_is_an_error_after_two_chips() -> None:
    model, data = make_classifier()
    seen: list[object] = []
    with pytest.raises(ValueError, match=r"`precision` must be at least 0\.0\d+ for a population, got 0.01") as said:
        evaluate(model, data, Gaussian(0.1), precision=0.01, about="population", progress=seen.append)
    assert 0.05 < float(str(said.value).split("at least ")[1].split()[0]) < 0.07  # of ½ ± 1.97·½ / √200
    assert len(seen) == 1
    assert evaluate(model, data, Gaussian(0.1), precision=0.15, about="population").reached
    with pytest.raises(ValueError, match="`data` must hold at least 2 examples for a population, got 1"):
        evaluate(model, (data[0][:1], data[1][:1]), Gaussian(0.1), trials=3, about="population")


def test_a_precision_is_refused_after_two_chips_only_where_they_are_sure() -> None:
    """What two chips leave open is an estimate: between it and three standard errors less, it goes on."""
    model, data = make_classifier()
    first, second = (row - row.mean() for row in evaluate(model, data, Gaussian(1.0), trials=2).scores.astype(float))
    products, t = first * second, stats.t.ppf(0.975, 199)
    least = products.mean() - 3 * products.std(ddof=1) / math.sqrt(200)
    sure, guessed = (t * math.sqrt(variance / 200) for variance in (least, products.mean()))
    asked = {"about": "population", "max_trials": 10}
    assert len(evaluate(model, data, Gaussian(1.0), precision=(sure + guessed) / 2, **asked).trials) > 2
    with pytest.raises(ValueError, match="`precision` must be at least"):
        evaluate(model, data, Gaussian(1.0), precision=0.999 * sure, **asked)


def test_noise_that_levels_examples_leaves_less_open_than_they_do_without_it() -> None:
    """Each chip has right answers of its own, so their means over chips lie together."""
    model, (x, y) = make_classifier()
    without = clean_value(model, [(x, y)])
    floor = 1.97 * (without * (1 - without) / len(x)) ** 0.5
    assert evaluate(model, (x, y), Gaussian(3.0), precision=0.9 * floor, about="population").reached


def test_a_population_stops_where_no_chip_could_help() -> None:
    """The noise-free network is always right, so only the chips show how far the examples are apart."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x = torch.ones(100, 2)
    x[50:, 1] = 60.0
    data = x, torch.zeros(100, dtype=torch.int64)
    result = evaluate(model, data, Gaussian(0.3), precision=0.02, about="population", max_trials=5000)
    assert not result.reached
    assert len(result.trials) < 100


def test_a_population_goes_on_where_more_chips_help() -> None:
    """Noise that decides every answer anew: no example is harder than another, so chips alone make it narrow."""
    torch.manual_seed(0)
    model, x = nn.Linear(40, 2), torch.randn(100, 40)
    with torch.no_grad():
        model.weight.mul_(1e-3)
        model.bias.copy_(torch.tensor([10.0, -10.0]))
        model.weight[0, 0], model.weight[1, 0] = 30.0, -30.0  # the layer's largest, which the noise is relative to
    x[:, 0] = 0.0
    data = [(x, torch.zeros(100, dtype=torch.int64))]
    result = evaluate(model, data, Gaussian(3.0), precision=0.025, about="population", max_trials=1000)
    assert result.reached
    assert len(result.trials) > 10
