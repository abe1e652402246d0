"""Sensitivity of layers: known truths, both directions of a metric, and suggestions that are confirmed."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import Attempt, Interval, Kept, Progress, Sensitivity, evaluate, layers_on_chip, sensitivity
from samson.noise import Gaussian, Periphery
from samson.statistics import mean_interval

TRIALS = 100
EPS = float(np.finfo(np.float32).eps)
SCALES = {"small": 0.1, "large": 2.0, "middle": 0.5}


class Sum(nn.Module):
    """The sum of three scalar layers; a fourth is multiplied by 0. Unit weights, so noise is N(0, σ²) on each."""

    def __init__(self) -> None:
        super().__init__()
        for name in (*SCALES, "nothing"):
            layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
            nn.init.ones_(layer.weight)
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        total = sum(scale * self.get_submodule(name)(x) for name, scale in SCALES.items())
        return total + 0 * self.get_submodule("nothing")(x)


def data() -> tuple[Tensor, Tensor]:
    x = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    return x, x * sum(SCALES.values())  # no error without noise


def ranked(trials: int = TRIALS, **setting: object) -> Sensitivity:
    return sensitivity(Sum(), data(), Gaussian(0.3), trials=trials, metric="mse", **setting)


def test_drops_are_the_known_truth() -> None:
    """With noise on a layer of scale a the mean squared error is (a·σ·ξ)²·mean(x²): lower is better."""
    found = ranked()
    assert found.clean == 0
    assert found.examples == 3
    assert [row.name for row in found.rows] == ["large", "middle", "small", "nothing"]
    for row in found.rows:
        expected = SCALES.get(row.name, 0) ** 2 * 0.09 * 2
        error = expected * math.sqrt(2 / TRIALS)  # a χ² with one degree of freedom
        assert abs(row.drop.mean - expected) <= 4 * error
        assert row.drop.low < row.drop.mean < row.drop.high or row.name == "nothing"
    total = sum(a**2 for a in SCALES.values()) * 0.18
    assert abs(found.drop.mean - total) < 4 * total * math.sqrt(2 / TRIALS)
    assert found.rows[-1].drop.mean == 0
    assert found.rows[-1].gain.mean == 0
    assert found.rows[0].gain.low > 0


def test_chips_are_common() -> None:
    """Errors add up chip by chip: √mse of all is |Σ a·ξ|·√2, with the ξ of each layer alone."""
    found = ranked(trials=5)
    rows = {row.name: row for row in found.rows}
    for chip in range(5):
        alone = [rows[name].alone[chip] ** 0.5 for name in SCALES]
        sums = [abs(sum(s * v for s, v in zip(signs, alone, strict=True))) for signs in product((1, -1), repeat=3)]
        assert min(abs(value - found.noisy[chip] ** 0.5) for value in sums) < 1e-6
    middle = evaluate(Sum(), data(), Gaussian(0.3), trials=5, metric="mse", select="middle")
    assert rows["middle"].alone == middle.trials
    others = evaluate(Sum(), data(), Gaussian(0.3), trials=5, metric="mse", select=["small", "large", "nothing"])
    assert rows["middle"].others == others.trials
    gains = np.array(found.noisy) - others.trials  # lower is better
    assert rows["middle"].gain.mean == pytest.approx(gains.mean())
    together = 1 - 0.05 / 9  # two intervals a layer, and that of noise on all
    for interval, values in (
        (found.drop, found.noisy),
        (rows["middle"].drop, middle.trials),
        (rows["middle"].gain, gains.tolist()),
    ):
        assert interval == mean_interval(values, together)
    assert rows["nothing"].gain == mean_interval([0.0] * 5, together, resolution=EPS * max(found.noisy))  # has a width


def test_each_layer_alone_is_on_the_chip_with_its_periphery() -> None:
    around = Periphery(output_noise=0.3)
    rows = {row.name: row for row in ranked(trials=3, periphery=around).rows}
    for periphery in (around, None):
        alone = evaluate(Sum(), data(), Gaussian(0.3), trials=3, metric="mse", select="middle", periphery=periphery)
        assert (rows["middle"].alone == alone.trials) == (periphery is around)


def test_a_kept_sensitivity_grows_with_its_layers_and_not_with_its_examples(tmp_path: Path) -> None:
    """Twice the layers are twice the values, and one manifest has no list of lists of layers."""

    def kept(layers: int, examples: int) -> tuple[int, int]:
        folder = tmp_path / f"{layers} {examples}"
        model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers)))
        data = torch.randn(examples, 2), torch.zeros(examples, dtype=torch.long)
        sensitivity(model, data, Gaussian(0.1), trials=2, metric="cross-entropy", executor=Kept(folder))
        chips = [len(np.load(path)) for path in folder.rglob("*.npy")]
        assert chips == [2 * layers + 1] * 2
        return sum(chips), max(path.stat().st_size for path in folder.rglob("manifest.json"))

    few, many = kept(8, 3), kept(16, 30)
    assert many[0] < 2 * few[0]
    assert many[1] < 1.9 * few[1]


def test_the_table_says_what_it_shows() -> None:
    text = str(ranked(trials=3))
    assert [line.split()[0] for line in text.splitlines()[2:6]] == ["large", "middle", "small", "nothing"]
    assert "3 chips" in text
    assert "Chips: Gaussian(sigma=0.3)" in text.splitlines()
    assert "the 9 intervals hold together with 95% (Bonferroni)" in text


def test_small_values_stand_in_columns_with_their_digits() -> None:
    """Losses of some 1e-9; four decimals would be zeros."""
    x, y = data()
    found = sensitivity(Sum(), (x * 1e-4, y * 1e-4), Gaussian(0.3), trials=4, metric="mse", max_drop=1e-9)
    first, header, *rows = str(found).splitlines()
    assert f"{np.mean(found.noisy):.4g} with noise on all" in first
    assert f"{found.rows[0].drop.mean:+.4g} [" in rows[0]
    assert {len(line) for line in (header, *rows[:4])} == {len(header)}  # ends below one another
    for one in (found.rows[0], found.suggestion, found.suggestion.chosen):
        assert "e-" in str(one)


def test_drops_and_gains_are_possible() -> None:
    """Two chips leave open more than there is: accuracies lie from 0 to 1, which it is without noise."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(200, 4)
    found = sensitivity(model, (x, model(x).argmax(1)), Gaussian(0.5), trials=2, confidence=0.9999)
    assert {(drop.low, drop.high) for drop in (found.drop, *(row.drop for row in found.rows))} == {(0.0, 1.0)}
    assert {(row.gain.low, row.gain.high) for row in found.rows} == {(-1.0, 1.0)}


def test_higher_is_better_has_drops_of_the_same_sign() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(200, 4)
    found = sensitivity(model, (x, model(x).argmax(1)), Gaussian(0.3), trials=10)
    assert found.clean == 1.0
    for row in found.rows:
        assert row.drop.mean > 0
        assert row.drop.mean == pytest.approx(1 - np.mean(row.alone))
        assert row.gain.mean == pytest.approx(np.mean(row.others) - np.mean(found.noisy))
    all_digital = sensitivity(model, (x, model(x).argmax(1)), Gaussian(0.3), trials=5, max_drop=1e-9).suggestion
    assert len(all_digital.digital) == 2
    assert "which are all, so that no chip is left" in str(all_digital)
    assert str(replace(all_digital, chosen=Attempt((), found.drop), share=0.0)).startswith("keep digital: none\n")
    assert all_digital.chosen.drop == all_digital.confirmed == Interval(0.0, 0.0, 0.0)  # no noise is left


def measured(digital: set[str], trials: int) -> list[float]:
    """The errors with noise on all layers but these."""
    rest = [name for name in (*SCALES, "nothing") if name not in digital]
    return list(evaluate(Sum(), data(), Gaussian(0.3), trials=trials, metric="mse", select=rest).trials)


def test_a_suggestion_is_confirmed_on_other_chips() -> None:
    seen: list[Progress] = []
    found = ranked(trials=30, max_drop=0.2, progress=seen.append)
    suggestion = found.suggestion
    assert suggestion.select == ["default", *(f"!{name}" for name in suggestion.digital)]
    assert suggestion.digital == ("large",)  # .045 + .002 are left, of .77
    assert (suggestion.share, suggestion.trials, suggestion.holds) == (0.25, 30, True)
    values = measured({"large"}, 60)
    assert suggestion.chosen.drop == mean_interval(values[:30], resolution=EPS * max(values[:30]))
    assert suggestion.confirmed == mean_interval(values[30:], resolution=EPS * max(values[30:]))
    assert suggestion.confirmed.mean != suggestion.chosen.drop.mean
    assert [state.done for state in seen] == [*range(1, 91)]  # ranked, chosen, confirmed
    assert [state.planned for state in seen[::30]] == [30, 60, 90]
    assert {state.largest for state in seen} == {2 * 4 * 30}
    assert "confirm it on others" in str(found)
    assert "keep digital: large, which hold 25.0% of the chip's weights" in str(found)
    assert "hold 99.9% of the chip's weights" in str(replace(suggestion, share=0.9999))  # a chip is left
    assert "(99.5%) on 30 chips" in str(replace(suggestion, confidence=0.995))
    limit = suggestion.confirmed.high
    assert replace(suggestion, max_drop=limit).holds  # the limit itself is allowed
    assert not replace(suggestion, max_drop=math.nextafter(limit, 0)).holds
    assert ranked(trials=30).suggestion is None


def test_layers_are_added_until_a_set_keeps_the_limit() -> None:
    found = ranked(trials=10, max_drop=0.01)
    suggestion = found.suggestion
    assert suggestion.digital == ("large", "middle")  # .0018 are left
    by_drop = [row.name for row in found.rows]
    by_gain = [row.name for row in sorted(found.rows, key=lambda row: -row.gain.mean)]
    assert by_drop[0] == by_gain[0] == "large"
    tried = [[layer.name for layer in attempt.digital] for attempt in suggestion.attempts]
    assert tried == [[], ["large"], by_drop[:2], by_gain[:2]]
    for attempt in suggestion.attempts:
        values = measured({layer.name for layer in attempt.digital}, 10)
        assert attempt.drop == mean_interval(values, resolution=EPS * max(values))
        assert (attempt.drop.high <= 0.01) is (attempt == suggestion.chosen)


class Crossed(nn.Module):
    """Errors 10·e_x·e_y + e_x/10 + 2·e_y·e_z: digital x or y, either does; x has two weights."""

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("x", 2), ("y", 1), ("z", 1)):
            layer = nn.Linear(size, 1, bias=False)
            nn.init.ones_(layer.weight)
            self.add_module(name, layer)

    def forward(self, inputs: Tensor) -> Tensor:
        x, y, z = (self.get_submodule(name).weight.mean() - 1 for name in "xyz")
        return inputs * (10 * x * y + x / 10 + 2 * y * z)


def test_of_two_sets_that_keep_the_limit_the_smaller_is_chosen() -> None:
    found = sensitivity(
        Crossed(), (torch.ones(2, 1), torch.zeros(2, 1)), Gaussian(0.3), trials=30, metric="mse", max_drop=0.15
    )
    nothing, by_drop, by_gain = found.suggestion.attempts
    assert nothing.drop.high > 0.15 > max(by_drop.drop.high, by_gain.drop.high)
    assert [[layer.name for layer in attempt.digital] for attempt in (by_drop, by_gain)] == [["x"], ["y"]]
    assert found.suggestion.digital == ("y",)


def test_a_suggestion_may_be_empty_or_everything() -> None:
    nothing = ranked(trials=5, max_drop=100.0)
    assert (nothing.suggestion.digital, nothing.suggestion.share) == ((), 0.0)
    assert nothing.suggestion.chosen.drop.mean == nothing.drop.mean
    everything = ranked(trials=5, max_drop=1e-30).suggestion
    assert set(everything.digital) >= set(SCALES)
    assert everything.confirmed.high <= 1e-30


def test_a_limit_that_the_other_chips_do_not_confirm_is_said() -> None:
    holds = set()
    for seed in (0, 4, 5):
        limit = ranked(trials=10, seed=seed, max_drop=0.2).suggestion.chosen.drop.high
        suggestion = ranked(trials=10, seed=seed, max_drop=limit).suggestion  # just within the limit: luck
        holds.add(suggestion.holds)
        assert suggestion.holds is (suggestion.confirmed.high <= limit)
        assert ("NOT shown" in str(suggestion)) is not suggestion.holds
    assert holds == {True, False}


def test_layers_that_share_a_weight_are_one() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.LSTM(3, 2))
    model[2].weight = model[0].weight
    assert [(layer.name, layer.tensors, layer.weights) for layer in layers_on_chip(model)] == [
        ("0", ("0.weight",), 9),
        ("3", ("3.weight_ih_l0", "3.weight_hh_l0"), 40),
    ]
    assert layers_on_chip(model, ["3.weight_hh_l0"])[0].tensors == ("3.weight_hh_l0",)
    assert layers_on_chip(nn.Linear(2, 2))[0].name == "weight"


@pytest.mark.parametrize(
    ("select", "tied"), [(None, True), (["default", "!4"], False), (["!0"], True), (nn.Linear, False)]
)
def test_the_selection_of_a_suggestion_is_what_was_measured(select: Any, tied: bool) -> None:
    """Within the selection that was asked for, and for layers that share a weight."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    if tied:
        model[2].weight = model[0].weight
    x = torch.randn(200, 6)
    data, noise = (x, model(x).argmax(1)), Gaussian(1.0)
    chosen = []
    for max_drop in (0.3, 0.1, 0.02):
        found = sensitivity(model, data, noise, trials=5, max_drop=max_drop, select=select).suggestion
        chosen.append(found.digital)
        if not found.nothing_left:
            drop = evaluate(model, data, noise, trials=5, select=found.select).drop
            assert drop.mean == pytest.approx(found.chosen.drop.mean)
    assert any(chosen)  # the check can fail
