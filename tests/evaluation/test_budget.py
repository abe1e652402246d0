"""The noise budget: a network whose drop at each level is known, nested chips, and what cannot be answered."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn

from samson.evaluation import NotFiniteError, evaluate, noise_budget
from samson.noise import (
    PCM,
    BitErrors,
    ChipModel,
    FixedNoise,
    Gaussian,
    Periphery,
    Quantize,
    WeightNoise,
    bit_error_rate,
    voltage_at,
)
from samson.statistics import crossing, upper_limit


class Margins(nn.Module):
    """An example with margin m is right as long as the weight, which is 1 without noise, stays above 1 − m."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def forward(self, margin: torch.Tensor) -> torch.Tensor:
        excess = self.layer(torch.ones_like(margin)) - (1 - margin)
        return torch.cat([-excess, excess], dim=1)


MARGINS = torch.linspace(0.001, 1, 1000)[:, None]
DATA = [(MARGINS, torch.ones(1000, dtype=torch.int64))]  # one batch


def mean_drop(sigma: float) -> float:
    """E[share of margins below −σξ] = E[clip(σ·max(ξ, 0), 0, 1)], by quadrature."""
    return float(stats.norm.expect(lambda x: np.clip(sigma * x, 0, 1), lb=0, ub=8))


def test_the_crossing_of_a_known_curve_is_found() -> None:
    truth = optimize.brentq(lambda s: mean_drop(s) - 0.05, 1e-3, 1)
    found = noise_budget(Margins(), DATA, Gaussian, 0.01, 1.0, max_drop=0.05, trials=100)
    assert found.interval.low <= truth <= found.interval.high
    # A drop of mean .40σ and deviation .58σ: 100 chips give it to ± 29 %, a factor of 1.8 between the ends.
    assert found.interval.high < 2 * found.interval.low
    assert found.holds_up_to is not None
    assert found.holds_up_to <= truth
    assert not found.at_least
    assert found.clean == 1.0
    # The chips are nested: each chip's drop grows with the level.
    drops = np.array([1 - np.array(e.trials) for e in found.evaluations.values()])
    assert (np.diff(drops, axis=0) >= 0).all()
    level = next(iter(found.evaluations))
    assert found.evaluations[level].trials == evaluate(Margins(), DATA, Gaussian(level), trials=100).trials


def test_the_limit_is_that_of_each_level_in_ascending_order() -> None:
    found = noise_budget(Margins(), DATA, Gaussian, 0.01, 1.0, max_drop=0.05, trials=40, refinements=0)
    tested = list(found.evaluations)
    np.testing.assert_allclose(tested, np.geomspace(0.01, 1, 8)[: len(tested)])
    limits = [upper_limit(1 - np.array(e.trials), 0.95) for e in found.evaluations.values()]
    passing = [level for level, limit in zip(tested, limits, strict=True) if limit <= 0.05]
    assert found.holds_up_to == passing[-1] == tested[len(passing) - 1]
    assert limits[len(passing)] > 0.05


def test_refinements_are_at_the_ends_of_the_interval_and_at_the_estimate_in_turn() -> None:
    budgets = [
        noise_budget(Margins(), DATA, Gaussian, 0.01, 1.0, max_drop=0.05, trials=30, refinements=n) for n in range(5)
    ]
    for number, (before, after) in enumerate(pairwise(budgets)):
        new = set(after.evaluations) - set(before.evaluations)
        assert new == {(before.interval.low, before.interval.high, before.interval.mean)[number % 3]}
    # Levels that the chips themselves chose are no fixed sequence: the budget is that of the grid alone.
    assert {budget.holds_up_to for budget in budgets} == {budgets[0].holds_up_to}


@pytest.mark.parametrize("low", [1e-4, 2e-4])
def test_a_crossing_at_a_level_is_not_measured_again(low: float) -> None:
    """It is exp(log(low)), a rounding error above or below."""
    found = noise_budget(Margins(), DATA, Gaussian, low, 0.5, max_drop=0.0, trials=5, levels=2)
    assert found.interval.mean != low == pytest.approx(found.interval.mean)
    assert [*found.evaluations] == [low, 0.5]


def test_the_yield_criterion_counts_chips() -> None:
    """A chip keeps within .05 as long as σξ ≤ .05: a share Φ(.05/σ) of them."""
    truth = 0.05 / stats.norm.ppf(0.9)
    found = noise_budget(
        Margins(), DATA, Gaussian, 0.005, 0.5, max_drop=0.05, criterion="yield", min_yield=0.9, trials=150
    )
    assert found.interval.low <= truth * 1.03
    assert found.interval.high >= truth * 0.97
    assert found.holds_up_to is not None
    assert found.holds_up_to <= truth
    good = [sum(t >= 0.95 for t in e.trials) for e in found.evaluations.values()]
    held = list(found.evaluations).index(found.holds_up_to)
    assert stats.binomtest(good[held], 150, 0.9, alternative="greater").pvalue <= 0.05
    assert "at least 90% of the chips" in str(found)
    assert "at least 99.5% of the chips" in str(replace(found, min_yield=0.995))
    assert "(99.9%, 150 chips)" in str(replace(found, confidence=0.999))
    assert str(replace(found, clean=2.5e-6)).startswith("accuracy under Gaussian, 2.5e-06 without noise")


def test_below_is_none_and_above_is_at_least() -> None:
    none = noise_budget(Margins(), DATA, Gaussian, 0.5, 1.0, max_drop=0.01, trials=10)
    assert (none.holds_up_to, none.interval.mean) == (None, 0.0)
    first, second, *_ = str(none).splitlines()
    assert first == "accuracy under Gaussian, 1.0000 without noise"
    assert second.startswith("none: at level 0.5")
    assert "estimate < 0.5" in str(none)
    above = noise_budget(Margins(), DATA, Gaussian, 1e-4, 1e-3, max_drop=0.05, trials=10)
    assert (above.holds_up_to, above.at_least) == (1e-3, True)
    assert above.interval.mean == math.inf
    assert str(above).splitlines()[1].startswith("at least level 0.001: up to there chips are worse by at most 0.05 in")


@pytest.mark.parametrize("refinements", [0, 3])
def test_what_lies_above_is_measured_before_it_is_said(refinements: int) -> None:
    """The lowest level fails too often, but the interval reaches above it: there is more to measure."""
    wanted = {"max_drop": 0.05, "criterion": "yield", "min_yield": 0.9, "trials": 50, "seed": 7}
    found = noise_budget(Margins(), DATA, Gaussian, 0.0594, 5.0, refinements=refinements, **wanted)
    bad = 1 - np.array(found.evaluations[0.0594].trials) > 0.05
    assert bad.mean() > 0.15
    assert crossing([0.0594], bad[None].astype(float), 0.1, 0.95).high == math.inf  # what was said of one level alone
    assert 0.0594 < found.interval.high < max(found.evaluations) < 5.0
    assert (found.holds_up_to, found.interval.low) == (None, 0.0)


@pytest.mark.parametrize("family", [lambda level: Quantize(int(level)), lambda level: BitErrors(0.01, bits=int(level))])
def test_more_bits_are_no_more_noise(family: Callable[[float], WeightNoise]) -> None:
    with pytest.raises(ValueError, match="`family` must give more noise .* got more bits at a higher level, 2 and 8"):
        noise_budget(Margins(), DATA, family, 2, 8)


def test_a_time_for_all_levels_is_refused_where_levels_are_times() -> None:
    model, runs = Margins(), []
    model.register_forward_hook(lambda *_: runs.append(1))
    with pytest.raises(ValueError, match="`time_s` must be None where the levels are times, got 60"):
        noise_budget(model, DATA, lambda t: PCM(time_s=t), 1.0, 1e8, time_s=60.0)
    assert not runs
    later = noise_budget(model, DATA, Gaussian, 0.01, 0.02, trials=2, levels=2, refinements=0, time_s=60.0)
    assert later.unit == "level"


def test_a_drop_needs_a_value_to_drop_from() -> None:
    wrong = [(MARGINS, torch.zeros(1000, dtype=torch.int64))]
    with pytest.raises(ValueError, match=r"`relative` must be False .* is 0, got 0.0.*`max_drop`"):
        noise_budget(Margins(), wrong, Gaussian, 0.01, 0.1, relative=True)
    with pytest.raises(ValueError, match="`metric` 'cross-entropy' must be finite"):
        noise_budget(Margins(), [(MARGINS * math.nan, DATA[0][1])], Gaussian, 0.01, 0.1, metric="cross-entropy")


def test_one_shot_norm_data_serve_every_level() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval()
    x = torch.randn(60, 4)
    data, batches = (x, model(x).argmax(1)), [(x[:30],), (x[30:],)]
    once, again = (
        noise_budget(model, data, Gaussian, 0.05, 0.5, max_drop=0.2, trials=4, levels=3, refinements=1, norm_data=given)
        for given in (iter(batches), batches)
    )
    assert [e.trials for e in once.evaluations.values()] == [e.trials for e in again.evaluations.values()]
    assert once.clean == 1.0  # with the model's own statistics


def test_a_relative_drop_and_a_loss_follow_the_metric() -> None:
    half = [(MARGINS, (torch.arange(1000) < 500).long())]  # half the answers are wrong without noise
    few = {"trials": 20, "refinements": 1}
    absolute = noise_budget(Margins(), half, Gaussian, 0.01, 1.0, max_drop=0.02, **few)
    relative = noise_budget(Margins(), half, Gaussian, 0.01, 1.0, max_drop=0.04, relative=True, **few)
    assert relative.interval == absolute.interval
    loss = noise_budget(Margins(), DATA, Gaussian, 0.01, 2.0, max_drop=0.05, metric="cross-entropy", **few)
    top = max(loss.evaluations)
    assert np.mean(loss.evaluations[top].trials) > loss.clean  # a loss drops by rising
    assert loss.holds_up_to is not None
    assert loss.holds_up_to < top


def test_bit_errors_are_also_volts_and_energy_and_pcm_is_time() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, 3), torch.randn(40, 6)
    data = x, model(x).argmax(1)
    rate = noise_budget(model, data, BitErrors, 1e-3, 0.2, max_drop=0.2, trials=5, refinements=0)
    assert rate.unit == "bit error rate"
    assert bit_error_rate(rate.voltage) == pytest.approx(rate.holds_up_to)
    assert rate.energy_saved == pytest.approx(1 - rate.voltage**2)
    assert "V/V_min" in str(rate)
    own = ((0.55, 0.2), (0.6, 0.1), (0.8, 1e-4))
    of_mine = noise_budget(
        model, data, lambda r: BitErrors(r, rates_by_voltage=own), 1e-3, 0.2, max_drop=0.2, trials=5, refinements=0
    )
    assert of_mine.holds_up_to == rate.holds_up_to
    assert bit_error_rate(of_mine.voltage, own) == pytest.approx(of_mine.holds_up_to)
    assert of_mine.voltage < rate.voltage - 0.1
    with pytest.raises(ValueError, match="`family` must give more noise at a higher level, got bit errors at a .* 0.8"):
        noise_budget(model, data, lambda v: BitErrors(voltage=v, rates_by_voltage=own), 0.6, 0.8, trials=5)
    below = noise_budget(model, data, lambda s: BitErrors(voltage=1 - s), 0.13, 0.24, max_drop=0.5, trials=3)
    assert (below.unit, below.voltage) == ("level", None)
    always = {"trials": 3, "levels": 2, "refinements": 0}
    nearly_none = noise_budget(model, data, BitErrors, 5e-8, 1e-7, max_drop=0.99, **always)
    assert (nearly_none.voltage, nearly_none.energy_saved) == (1.0, 0.0)  # at V_min there is none
    nearly_all = noise_budget(model, data, BitErrors, 0.01, 0.9, max_drop=1e6, metric="cross-entropy", **always)
    assert nearly_all.holds_up_to == 0.9
    assert nearly_all.voltage == voltage_at(0.5)  # no more than half of the bits are wrong
    assert "V/V_min" in str(nearly_all)
    aged = noise_budget(model, data, lambda t: PCM(time_s=t), 1.0, 1e8, max_drop=0.5, trials=5, levels=3, refinements=0)
    assert (aged.unit, aged.voltage) == ("s", None)
    assert noise_budget(model, data, Gaussian, 0.01, 0.1, trials=3, levels=2, refinements=0).unit == "level"


@dataclass(frozen=True)
class Shrunk(FixedNoise):
    """Each chip loses the same part of a weight."""

    part: float

    def noisy(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return weight * (1 - self.part)


def test_a_chip_exactly_at_the_limit_is_good() -> None:
    """At .0505 and .0506, 50 of 1,000 margins are too small: 1 − .95 is a little more than .05."""
    limit = {"max_drop": 0.05, "trials": 30, "levels": 2, "refinements": 0}
    found = noise_budget(Margins(), DATA, Shrunk, 0.0505, 0.0506, criterion="yield", **limit)
    assert {value for e in found.evaluations.values() for value in e.trials} == {0.95}
    assert found.at_least
    # Equal values are known to half an answer: .049 + 1.7·.001 / √(12·30) is .04909.
    for max_drop, held in ((0.04905, None), (0.0492, 0.0496)):
        limit["max_drop"] = max_drop
        assert noise_budget(Margins(), DATA, Shrunk, 0.0495, 0.0496, **limit).holds_up_to == held
    # Of half the value, half an answer is twice as much: .098 + 1.7·.002 / √(12·30) is .09818.
    half = [(MARGINS, (torch.arange(1000) < 500).long())]
    for max_drop, held in ((0.0981, None), (0.0984, 0.0496)):
        limit["max_drop"] = max_drop
        assert noise_budget(Margins(), half, Shrunk, 0.0495, 0.0496, relative=True, **limit).holds_up_to == held


class Overflowing(nn.Module):
    """NaN as soon as the noise is large, and right before."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.layer.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return torch.where(y.abs() > 1.5, torch.nan, y)


def test_a_level_that_overflows_is_named() -> None:
    data = torch.ones(20, 1), torch.ones(20, dtype=torch.int64)
    with pytest.raises(NotFiniteError, match=r"`high` must leave outputs finite .*, but at 0\.\d+: .*lower `high`"):
        noise_budget(Overflowing(), data, Gaussian, 0.01, 2.0, max_drop=0.1, trials=5)
    assert noise_budget(Overflowing(), data, Gaussian, 0.01, 0.1, max_drop=0.1, trials=5).at_least


def test_a_level_may_be_of_the_periphery() -> None:
    def family(level: float) -> ChipModel:
        return ChipModel(Gaussian(level), "made up", periphery=Periphery(output_noise=level))

    torch.manual_seed(0)
    budget = noise_budget(nn.Linear(4, 3), (torch.randn(40, 4), torch.arange(40) % 3), family, 0.01, 1.0, max_drop=0.02)
    assert len(budget.evaluations) > 2
    for level, found in budget.evaluations.items():
        assert found.kind.periphery == repr(Periphery(output_noise=level))


def test_a_drop_is_below_what_the_metric_can_fall_by() -> None:
    noise_budget(Margins(), DATA, Gaussian, 0.01, 0.1, max_drop=0.99, trials=3, levels=2, refinements=0)
    loss = {"metric": "cross-entropy", "trials": 3, "levels": 2, "refinements": 0}
    assert noise_budget(Margins(), DATA, Gaussian, 0.01, 0.1, max_drop=5.0, **loss).at_least
    assert noise_budget(Margins(), DATA, Gaussian, 0.01, 0.1, max_drop=5.0, relative=True, **loss).at_least


def test_a_relative_yield_is_the_same_in_any_unit() -> None:
    """Prices in cents or in millions: what rounding may hide is of the value, as the drop is."""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 1), torch.randn(64, 4)
    y = layer(x).detach() + 0.3 * torch.randn(64, 1)
    found = []
    for scale in (1.0, 2.0**17):
        scaled = nn.Linear(4, 1)
        scaled.load_state_dict({name: scale * value for name, value in layer.state_dict().items()})
        limits: dict[str, Any] = {"max_drop": 0.1, "relative": True, "criterion": "yield", "min_yield": 0.8}
        wanted = {**limits, "metric": "mse", "trials": 20, "levels": 6, "refinements": 0}
        budget = noise_budget(scaled, [(x, scale * y)], Gaussian, 0.001, 0.5, **wanted)
        found.append((budget.holds_up_to, budget.interval.mean))
    assert found[0][0] < 0.5
    assert found[0] == pytest.approx(found[1])
