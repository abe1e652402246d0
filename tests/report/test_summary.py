"""The summary of hand-made records, against the numbers worked out by hand."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy import stats

from samson.records import CLEAN
from samson.report import against_each, view, views
from samson.statistics import Paired, Trials
from tests.builders import ENVIRONMENT, record, records, with_plan


def summarise(found: list) -> list:
    return list(view(found).rows)


def row(rows: list, method: str, level: float) -> object:
    kind = f"{level:g}" if level else CLEAN
    [found] = [r for r in rows if (r.method, r.kind) == (method, kind)]
    return found


def half_width(values: np.ndarray) -> float:
    return stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))


def test_the_unit_is_the_chip_averaged_over_seeds() -> None:
    rows = summarise(records())
    assert [(r.method, r.kind) for r in rows] == [(m, x) for m in ("samson", "sgd") for x in (CLEAN, "0.1", "0.2")]
    chips = np.array([0.5, 0.5, 0.65])
    found = row(rows, "sgd", 0.2)
    assert found.value.mean == pytest.approx(chips.mean())
    assert found.value.high - found.value.mean == pytest.approx(half_width(chips), rel=1e-8)
    assert found.std == pytest.approx(chips.std(ddof=1))
    assert (found.worst, found.trials, found.seeds) == (0.4, 3, 2)
    assert found.by_seed == pytest.approx({0: 0.6, 1: 0.5})
    assert found.gain is None


def test_the_gain_is_paired_by_chip() -> None:
    found = row(summarise(records()), "samson", 0.2)
    differences = np.array([0.8, 0.8, 0.9]) - np.array([0.5, 0.5, 0.65])
    assert found.gain.mean == pytest.approx(differences.mean())
    assert found.gain.mean - found.gain.low == pytest.approx(half_width(differences), rel=1e-8)


def test_without_noise_the_interval_has_no_width() -> None:
    found = row(summarise(records()), "samson", 0.0)
    assert (found.value.low, found.value.mean, found.value.high) == pytest.approx((0.98, 0.98, 0.98))
    assert (found.gain.low, found.gain.high) == pytest.approx((0.01, 0.01))
    assert (found.trials, found.std) == (1, 0.0)


def test_over_seeds_the_unit_is_the_seed() -> None:
    """By inclusion and exclusion over seeds x chips, worked out here from sums of squares."""
    found = row(summarise(records()), "samson", 0.2)
    table = np.array([[0.8, 0.9, 0.9], [0.8, 0.7, 0.9]])
    gains = table - np.array([[0.5, 0.6, 0.7], [0.5, 0.4, 0.6]])
    assert astuple(found.over_seeds) == pytest.approx(limits(table, (0, 1)), rel=1e-8)
    assert astuple(found.gain_over_seeds) == pytest.approx(limits(gains, (-1, 1)), rel=1e-8)


def test_over_seeds_without_noise_only_seeds_differ() -> None:
    found = row(summarise(records()), "sgd", 0.0)
    half = half_width(np.array([0.98, 0.96]))
    assert found.over_seeds.low == pytest.approx(0.97 - half)
    assert found.over_seeds.high == 1.0
    one = summarise([r for r in records() if r.seed == 0])
    assert all(r.over_seeds is None and r.gain_over_seeds is None for r in one)


def test_intervals_over_seeds_hold_the_truth_where_those_over_chips_do_not() -> None:
    """Seeds with a spread of their own: 400 comparisons with 3 seeds and 20 chips."""
    generator, truth = np.random.default_rng(0), 0.8
    plan = with_plan(seeds=3, trials=20, methods={"sgd": {}}, levels=(0.1,))
    held = np.zeros(2)
    for _ in range(400):
        table = truth + generator.normal(0, 0.03, (3, 1)) + generator.normal(0, 0.02, (3, 20))
        [_, found] = summarise([record("sgd", seed, [[1.0], list(chips)], plan) for seed, chips in enumerate(table)])
        held += [e.low <= truth <= e.high for e in (found.over_seeds, found.value)]
    over_seeds, over_chips = held / 400
    assert 0.917 < over_seeds < 0.983  # .95 and three standard errors
    assert over_chips < 0.5


def limits(table: np.ndarray, bounds: tuple[float, float]) -> list[float]:
    """Mean and interval from the mean squares of seeds, chips and what is left."""
    seeds, chips = table.shape
    mean, of_seeds, of_chips = table.mean(), table.mean(axis=1), table.mean(axis=0)
    residual = table - of_seeds[:, None] - of_chips + mean
    s, c = of_seeds.var(ddof=1) / seeds, of_chips.var(ddof=1) / chips
    both = (seeds - 1) * (chips - 1)
    sc = (residual**2).sum() / both / table.size
    variance, degrees = s + c - sc, (s + c - sc) ** 2 / (s**2 / (seeds - 1) + c**2 / (chips - 1) + sc**2 / both)
    if variance < s:
        variance, degrees = s, seeds - 1
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    return [mean, max(bounds[0], mean - half), min(bounds[1], mean + half)]


def test_equal_chips_have_an_interval_of_the_resolution() -> None:
    plan = with_plan(seeds=1, trials=20, methods={"sgd": {}}, levels=(0.1,))
    [_, found] = summarise([record("sgd", 0, [[1.0], [0.98] * 20], plan)])
    half = stats.t.ppf(0.975, 19) / np.sqrt(20) / 360 / np.sqrt(12)
    assert found.value.high - found.value.low == pytest.approx(2 * half)


def test_the_step_of_what_is_no_fraction_is_that_between_its_values() -> None:
    plan = with_plan(seeds=2, methods={"sgd": {}}, levels=(0.1,), problem={"is_fraction": False})
    found = view([record("sgd", seed, [[9.0], [seed + 12.0] * 3], plan) for seed in (0, 1)])
    assert found.resolution == 1.0
    assert view(records()).resolution == 1 / 360
    [_, noisy] = found.rows
    assert noisy.value.half_width == 0, "chips that are all alike differ by nothing"
    assert noisy.over_seeds.half_width > 1


def test_unfinished_comparisons_use_the_seeds_that_both_have() -> None:
    rows = summarise([r for r in records() if (r.method, r.seed) != ("sgd", 1)])
    assert row(rows, "samson", 0.0).seeds == 2
    assert row(rows, "samson", 0.0).gain.mean == pytest.approx(0.01)  # seed 0 alone
    assert row(rows, "samson", 0.0).value.mean == pytest.approx(0.98)
    alone = summarise([r for r in records() if r.method == "samson"])
    assert all(r.gain is None for r in alone)
    assert views([]) == []


def test_records_of_different_comparisons_are_refused() -> None:
    other = record("sgd", 0, [[0.9], [0.9] * 3, [0.9] * 3], with_plan(problem={"recipe": {"epochs": 2.0}}))
    with pytest.raises(ValueError, match="one comparison"):
        summarise([*records(), other])


@pytest.mark.parametrize("field", ["environment", "chips_added_on"])
def test_records_of_several_kinds_of_device_are_refused(field: str) -> None:
    """Chips of CPU and GPU differ, so that they are no pairs; those of two GPUs are."""
    first, *others = [replace(r, environment=replace(ENVIRONMENT, device="cuda")) for r in records()]

    def with_first_on(device: str) -> list:
        place = replace(ENVIRONMENT, device=device)
        return summarise([replace(first, **{field: place if field == "environment" else (place,)}), *others])

    assert with_first_on("cuda:1") == summarise(records())
    with pytest.raises(ValueError, match="`records` must be of one kind of device, got cpu and cuda"):
        with_first_on("cpu")


def three() -> list:
    """A third method, as good as `samson` but for noise of its own."""
    return [
        *records(),
        record("clip", 0, [[0.98], [0.95, 0.97, 0.97], [0.8, 0.7, 0.9]]),
        record("clip", 1, [[0.98], [0.96, 0.94, 0.96], [0.7, 0.8, 0.9]]),
    ]


def test_any_method_can_be_the_baseline() -> None:
    found = view(three(), baseline="clip")
    assert found.baseline == "clip"
    assert {r.method for r in found.rows if r.gain is not None} == {"sgd", "samson"}
    differences = np.array([0.8, 0.8, 0.9]) - np.array([0.75, 0.75, 0.9])
    gain = row(list(found.rows), "samson", 0.2).gain
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.high - gain.mean == pytest.approx(half_width(differences), rel=1e-8)
    with pytest.raises(ValueError, match="baseline: 'clop' is unknown"):
        views(three(), baseline="clop")


def test_each_pair_is_tested_and_those_chosen_after_the_fact_allow_for_all() -> None:
    own, *others = against_each(view(three()))
    assert [own.baseline, *(v.baseline for v in others)] == ["sgd", "samson", "clip"]
    assert own == view(three())
    samson, clip = (list(v.rows) for v in others)
    one, other = row(samson, "clip", 0.2), row(clip, "samson", 0.2)
    assert astuple(one.gain) == pytest.approx((-other.gain.mean, -other.gain.high, -other.gain.low))
    assert astuple(one.gain) == pytest.approx(
        astuple(row(list(view(three(), baseline="samson").rows), "clip", 0.2).gain)
    )
    assert one.p_value == other.p_value

    raw = {}
    for pair in (("sgd", "samson"), ("sgd", "clip"), ("samson", "clip")):
        for place, level in enumerate(("0.1", "0.2")):
            chips = {m: [Trials(r.measured[0][place], 1 / 360, (0, 1)) for r in three() if r.method == m] for m in pair}
            raw[frozenset(pair), level] = Paired(chips, {}).difference(*pair, over="chips").p_value
    smallest = min(raw, key=raw.get)
    found = {(frozenset((v.baseline, r.method)), r.kind): r.p_value for v in others for r in v.rows if r.p_value}
    assert found.keys() == raw.keys()
    assert found[smallest] == pytest.approx(6 * raw[smallest])  # Holm, for six differences
    assert max(found.values()) <= 1
    assert all(found[key] >= raw[key] for key in raw)
    planned = row(list(own.rows), "samson", 0.2).p_value
    assert planned <= found[frozenset(("sgd", "samson")), "0.2"]
