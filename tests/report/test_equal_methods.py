"""What a report claims where all methods are equal: in at most about 5 % of reports, that one is better."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from samson.records import CLEAN
from samson.report import Overview, View, advice, against_baseline, overview_headline, view
from samson.statistics import mean_interval
from tests.builders import record, with_plan

METHODS = "sgd", "noise", "clip", "sam", "samson"
MANY = "sgd", *(f"method-{number}" for number in range(11))


def measured(problem: str, methods: Sequence[str], draw: np.random.Generator) -> View:
    """A problem with 3 training seeds, which differ by .02, and 3 chips, which differ by .002."""
    plan = with_plan({name: {} for name in methods}, (0.1,), problem={"name": problem}, seeds=3)
    values = draw.normal(0.8, 0.02, (len(methods), 3, 1)) + draw.normal(0, 0.002, (len(methods), 3, 3))
    return view(
        [
            record(method, seed, [[0.9], chips.tolist()], plan)
            for method, networks in zip(methods, values, strict=True)
            for seed, chips in enumerate(networks)
        ]
    )


@pytest.fixture(scope="module")
def equal() -> list[View]:
    draw = np.random.default_rng(3)
    return [measured(f"problem {number}", METHODS, draw) for number in range(48)]


def drawn(count: int) -> list[View]:
    """Problems of which only the means over chips of each network are drawn anew, which takes less time."""
    draw = np.random.default_rng(2)
    first, found = measured("", MANY, draw), []
    for number in range(count):
        values = dict(zip(MANY, draw.normal(0.8, 0.02, (len(MANY), 3)).tolist(), strict=True))
        rows = tuple(replace(row, by_seed=dict(enumerate(values[row.method]))) for row in first.rows)
        found.append(replace(first, problem=replace(first.problem, name=f"problem {number}"), rows=rows))
    return found


def reports(found: Sequence[View], size: int) -> list[Sequence[View]]:
    """Reports over several problems each."""
    return [found[start : start + size] for start in range(0, len(found), size)]


def test_p_values_over_seeds_hold_for_other_networks_and_those_over_chips_do_not(equal: list[View]) -> None:
    least = {
        name: [min(p for row in view.rows if (p := getattr(row, name)) is not None) for view in equal]
        for name in ("p_value", "p_value_seeds")
    }
    shares = {name: float(np.mean(np.array(of) < 0.05)) for name, of in least.items()}
    assert shares["p_value_seeds"] < 0.10  # .05 and under two standard errors
    assert shares["p_value"] > 0.9, "these networks do differ"


def marked_by_each_alone(found: Sequence[View]) -> bool:
    """Whether p over chips, after Holm in each problem, and the interval over seeds by itself claim anything."""
    rows = [row for view in found for row in view.rows if row.kind != CLEAN and row.gain_over_seeds is not None]
    return any(r.p_value < 0.05 and not r.gain_over_seeds.low <= 0 <= r.gain_over_seeds.high for r in rows)


@pytest.mark.parametrize(("size", "by_old"), [(1, 0.1), (6, 0.5)])
def test_wins_and_losses_are_few(equal: list[View], size: int, by_old: float) -> None:
    several = reports(equal, size)
    claimed = [any(sum(against_baseline(one, name)[::2]) for name in METHODS) for one in several]
    assert np.mean(claimed) < 0.10
    assert np.mean([marked_by_each_alone(one) for one in several]) > by_old


def test_a_method_is_seldom_said_to_be_better_on_other_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samson.statistics._ranks.RESAMPLES", 200)
    claimed, taken, apart = [], [], []
    for found in reports(drawn(4 * 24), 4):
        overview = Overview(found)
        (_, best), *others = overview.order
        said = overview_headline(overview)
        claimed.append("these 4 problems can't tell whether" not in said)
        taken.append(re.search(r"better by [\d.]+ points than [^,.]+[.]", said) is not None)
        apart.append(any(other.interval.mean > best.interval.mean + overview.critical / 2 for _, other in others))
    assert np.mean(claimed) < 0.1
    assert np.mean(taken) < 0.1
    assert np.mean(apart) > 0.3, "half of the critical difference says nothing of other problems"


def test_one_is_seldom_said_to_be_surely_better() -> None:
    found = drawn(150)
    said = [advice([one]) for one in found]
    claimed = ["Take <b>sgd</b>" not in one and "which may be chance" not in one for one in said]
    by_each = [any(mean_interval(gains(one, name)).low > 0 for name in MANY[1:]) for one in found]
    assert np.mean(claimed) < 0.06
    assert np.mean(by_each) > 0.1


def test_whole_numbers_of_errors_seldom_seem_surely_better() -> None:
    """Chips that are all alike, and two seeds, whose numbers are often equal."""
    draw, plan = np.random.default_rng(0), with_plan({"sgd": {}, "clip": {}}, (0.1,), {"is_fraction": False}, seeds=2)
    said, p_values = [], []
    for _ in range(150):
        numbers = draw.normal(12, 1, (2, 2)).round()
        runs = [record(m, s, [[9.0], [numbers[i, s]] * 3], plan) for i, m in enumerate(("sgd", "clip")) for s in (0, 1)]
        found = view(runs)
        said.append(advice([found]))
        p_values += [row.p_value_seeds for row in found.rows if row.p_value_seeds is not None]
    assert np.mean(["Take <b>sgd</b>" not in one and "which may be chance" not in one for one in said]) < 0.02
    assert np.mean(np.array(p_values) < 0.05) < 0.05


def gains(found: View, method: str) -> list[float]:
    """Over plain training, by training seed."""
    ours, plain = (found.noisy_by_seed(name) for name in (method, "sgd"))
    return [ours[seed] - plain[seed] for seed in ours]
