"""Differences of methods: the seed as the unit, common chips and examples, and families of comparisons."""

import math

import numpy as np
import pytest
from scipy import stats
from torch import nn

from samson.evaluation import Evaluation, Paired, ScoreTable, compare, family, mean_interval
from samson.evaluation.differences import holm, spread, variance_ratio
from samson.noise import Gaussian
from tests.conftest import make_model
from tests.evaluation.test_trials import data


def of(trials: list[float]) -> Evaluation:
    return Evaluation(tuple(trials))


def paired(ours: np.ndarray, theirs: np.ndarray, *, common: bool = True) -> Paired:
    models = {"ours": tuple(map(of, ours.tolist())), "theirs": tuple(map(of, theirs.tolist()))}
    return Paired(models, {"ours": 1, "theirs": 1 if common else 2})


def test_one_network_each_is_the_interval_of_the_chips_differences() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.02, (2, 20))
    found = paired(a[None], b[None]).difference("ours", "theirs")
    expected = mean_interval((a - b).tolist())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.unit, found.common_chips, found.common_seeds) == ("these two networks", True, False)
    assert "these two networks, common chips" in str(found)


def test_chips_of_their_own_are_welchs_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.9, 0.02, 20), rng.normal(0.88, 0.05, 20)
    found = paired(a[None], b[None], common=False).difference("ours", "theirs")
    reference = stats.ttest_ind(a, b, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.common_chips, found.ratio) == (False, None)
    assert "chips of their own: the networks differ in shape" in str(found)


def test_several_seeds_make_the_seed_the_unit() -> None:
    rng = np.random.default_rng(2)
    chips = rng.normal(0, 0.001, (1, 20))
    ours, theirs = (0.9 + rng.normal(0, 0.05, (3, 1)) + chips + rng.normal(0, 0.001, (3, 20)) for _ in range(2))
    found = paired(ours, theirs).difference("ours", "theirs")
    by_seed = stats.ttest_1samp((ours - theirs).mean(axis=1), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_seed.low, by_seed.high), abs=1e-4)
    assert (found.unit, found.common_seeds) == ("training seeds", True)
    pooled = mean_interval((ours - theirs).ravel().tolist())
    assert pooled.half_width < found.interval.half_width / 5  # what pooling would claim


def test_the_interval_is_never_narrower_than_the_seeds_make_it() -> None:
    """Seeds that mirror each other chip by chip: inclusion and exclusion alone would go below them."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        ours, theirs = rng.normal(0.9, 0.02, (2, 3, 4))
        found = paired(ours, theirs).difference("ours", "theirs")
        seeds = (ours - theirs).mean(axis=1)
        # With more degrees of freedom the quantile is smaller, but the standard error is not.
        assert found.interval.half_width >= 1.96 * seeds.std(ddof=1) / math.sqrt(3)


def test_unequal_numbers_of_seeds_are_not_paired() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(0.9, 0.02, (3, 1)) + np.zeros((3, 5)), rng.normal(0.9, 0.02, (5, 1)) + np.zeros((5, 5))
    found = paired(ours, theirs).difference("ours", "theirs")
    welch = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert (found.unit, found.common_seeds) == ("training seeds", False)


def test_differences_of_three_levels_cover_and_pooling_does_not() -> None:
    rng, inside, pooled = np.random.default_rng(5), [], []
    stds = {(0,): 0.5, (1,): 0.4, (2,): 0.5, (0, 1): 0.3, (0, 2): 0.5, (1, 2): 0.5, (0, 1, 2): 1.0}
    sizes = (4, 10, 30)
    for _ in range(1000):
        tables = np.zeros((2, *sizes))
        for axes, std in stds.items():  # chips and examples are in part common to both methods, seeds are not
            shape = [n if axis in axes else 1 for axis, n in enumerate(sizes)]
            for table in tables:
                table += rng.normal(0, std, shape)
        i = spread(tables[0], tables[1], shared=(0, 1, 2), floor=[(0,)]).interval(0.95, 0.0)
        inside.append(i.low <= 0 <= i.high)
        difference = (tables[0] - tables[1]).ravel()
        pooled.append(abs(difference.mean()) <= 1.96 * difference.std() / math.sqrt(difference.size))
    assert 0.93 <= np.mean(inside) <= 0.985
    assert np.mean(pooled) < 0.5


def test_a_population_takes_the_examples_into_account() -> None:
    rng = np.random.default_rng(6)
    tables = [ScoreTable.of(list(rng.random((6, 40)) < 0.8)) for _ in range(2)]
    made = {
        name: (Evaluation(tuple(table.values.mean(1)), about="population", examples=table),)
        for name, table in zip(("ours", "theirs"), tables, strict=True)
    }
    found = Paired(made, {"ours": 1, "theirs": 1}, "population").difference("ours", "theirs")
    values = tables[0].values.astype(float) - tables[1].values
    rows, columns = values.mean(1), values.mean(0)
    residual = values - rows[:, None] - columns + values.mean()
    parts = rows.var(ddof=1) / 6, columns.var(ddof=1) / 40, (residual**2).sum() / (5 * 39) / 240
    v = parts[0] + parts[1] - parts[2]
    degrees = v**2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 39 + parts[2] ** 2 / (5 * 39))
    assert found.interval.half_width == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(v))


def test_what_pairing_brought_has_an_interval() -> None:
    rng = np.random.default_rng(7)
    chip = rng.normal(0, 1, 30)
    a, b = chip + rng.normal(0, 0.3, 30), chip + rng.normal(0, 0.3, 30)
    ratio = variance_ratio(a.tolist(), b.tolist())
    assert ratio.mean == pytest.approx((a.var(ddof=1) + b.var(ddof=1)) / (a - b).var(ddof=1))
    assert 1 < ratio.low < ratio.mean < ratio.high
    apart = variance_ratio(rng.normal(size=30).tolist(), rng.normal(size=30).tolist())
    assert apart.low < 1 < apart.high
    inside = []
    truth = 1 / (1 - 0.3)
    root = np.linalg.cholesky(np.array([[1, 0.3], [0.3, 1]]))
    for _ in range(4000):
        x = root @ rng.normal(size=(2, 12))
        i = variance_ratio(x[0].tolist(), x[1].tolist())
        inside.append(i.low <= truth <= i.high)
    assert 0.93 <= np.mean(inside) <= 0.97


def test_a_family_states_itself_and_holds_together() -> None:
    rng = np.random.default_rng(8)
    tables = {}
    for level in ("0.1", "0.2"):
        methods = {
            name: (of(rng.normal(0.9 + gain, 0.02, 15).tolist()),)
            for name, gain in (("sgd", 0), ("sam", 0.01), ("samson", 0.05))
        }
        tables[level] = Paired(methods, dict.fromkeys(methods, 1))
    found = family(tables, "sgd")
    assert set(found.rows) == {(x, m) for x in ("0.1", "0.2") for m in ("sam", "samson")}
    assert found.statement.startswith("4 differences to sgd (2 methods, 2 levels)")
    raw = {key: tables[key[0]].difference(key[1], "sgd") for key in found.rows}
    alone = {key: tables[key[0]].difference(key[1], "sgd", confidence=1 - 0.05 / 4) for key in found.rows}
    for key, row in found.rows.items():
        assert row.interval == alone[key].interval
        assert row.interval.half_width > raw[key].interval.half_width
    assert [row.p_value for row in found.rows.values()] == holm([row.p_value for row in raw.values()])


def test_holm_keeps_the_error_of_the_family() -> None:
    rng = np.random.default_rng(9)
    wrong = [min(holm(rng.random(6).tolist())) < 0.05 for _ in range(4000)]
    assert np.mean(wrong) < 0.06
    assert np.mean([min(rng.random(6)) < 0.05 for _ in range(4000)]) > 0.2  # without it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_compare_runs_several_models_a_method_on_common_chips() -> None:
    models = {"a": [make_model(seed=0), make_model(seed=1)], "b": [make_model(seed=2), make_model(seed=3)]}
    seen = []
    found = compare(
        models, data(), Gaussian(0.3), trials=4, about="population", progress=lambda n, s: seen.append((n, s.done))
    )
    assert [len(e) for e in found.models.values()] == [2, 2]
    assert seen == [(name, done) for name in ("a", "b") for _ in range(2) for done in range(1, 5)]
    alone = compare({"b": models["b"][1]}, data(), Gaussian(0.3), trials=4)
    assert alone.evaluations["b"].trials == found.models["b"][1].trials
    assert found.difference("b", "a").unit == "training seeds"
    one_shot = compare({"a": models["a"][0], "b": models["b"][0]}, iter([data()]), Gaussian(0.3), trials=2)
    assert len(one_shot.evaluations["b"].trials) == 2


def test_models_of_another_shape_fall_back_to_chips_of_their_own() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(10, 3)).double()
    found = compare({"a": make_model(), "b": flat}, data(), Gaussian(0.3), trials=5).difference("b", "a")
    assert not found.common_chips
    assert found.ratio is None


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="got none for 'a'"):
        compare({"a": []}, data(), Gaussian(0.3))
    with pytest.raises(ValueError, match="those of 'a' differ"):
        compare({"a": [make_model(), nn.Sequential(nn.Flatten(), nn.Linear(10, 3))]}, data(), Gaussian(0.3))
    with pytest.raises(ValueError, match="got 'c'. Available: ours, theirs"):
        paired(np.ones((1, 3)), np.ones((1, 3))).difference("c", "ours")
