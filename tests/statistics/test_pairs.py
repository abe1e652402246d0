"""Means and differences of methods: the seed as the unit, common chips and examples, and families of comparisons."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from samson.statistics import (
    Interval,
    Paired,
    Trials,
    combine,
    components,
    crossed_share_interval,
    family,
    holm,
    mean_interval,
    spread,
    variance_ratio,
)


def paired(ours: np.ndarray, theirs: np.ndarray, *, common: bool = True, resolution: float = 0.0) -> Paired:
    """From two tables of networks x chips."""
    models = {
        name: [Trials(row, resolution) for row in table.tolist()]
        for name, table in (("ours", ours), ("theirs", theirs))
    }
    return Paired(models, {"ours": 1, "theirs": 1 if common else 2})


def population(**tables: np.ndarray) -> Paired:
    """From tables of networks x chips x examples."""
    made = {
        name: [
            SimpleNamespace(trials=scores.mean(axis=1), resolution=0.0, scores=scores, bounds=None) for scores in table
        ]
        for name, table in tables.items()
    }
    return Paired(made, {}, "population")


def t_limits(values: np.ndarray) -> tuple[float, float, float]:
    """Student's interval of a mean."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def crossed_limits(table: np.ndarray, *, floor: bool) -> tuple[float, float, float]:
    """By sums of squares of rows, columns and what is left; with a floor, at least Student's interval of the rows."""
    n, m = table.shape
    rows, columns = table.mean(1), table.mean(0)
    residual = table - rows[:, None] - columns + table.mean()
    of_rows, of_columns = rows.var(ddof=1) / n, columns.var(ddof=1) / m
    both = (n - 1) * (m - 1)
    left = (residual**2).sum() / both / table.size
    v = of_rows + of_columns - left
    degrees = v**2 / (of_rows**2 / (n - 1) + of_columns**2 / (m - 1) + left**2 / both)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(v) if v > 0 else 0
    if floor:
        mean, low, _ = t_limits(rows)
        half = mean - low if v < of_rows else max(half, mean - low)
    return table.mean(), table.mean() - half, table.mean() + half


def ends(found: Any) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def tables(seed: int, networks: int, chips: int) -> tuple[np.ndarray, np.ndarray]:
    """Two methods with a spread between networks, between chips in common, and in each pair of them."""
    rng = np.random.default_rng(seed)
    chip = rng.normal(0, 0.02, (1, chips))
    ours, theirs = (
        0.9 + rng.normal(0, 0.01, (networks, 1)) + chip + rng.normal(0, 0.01, (networks, chips)) for _ in range(2)
    )
    return ours, theirs


def test_the_unit_is_asked_for_by_over() -> None:
    for seed in range(8):
        ours, theirs = tables(seed, 3, 6)
        both = paired(ours, theirs)
        chips, seeds = t_limits(ours.mean(0)), crossed_limits(ours, floor=True)
        assert ends(both.mean("ours", over="chips")) == pytest.approx(chips, rel=1e-9)
        assert ends(both.mean("ours", over="seeds")) == pytest.approx(seeds, rel=1e-9)
        assert both.mean("ours") == both.mean("ours", over="seeds")
        assert chips[2] - chips[0] != pytest.approx(seeds[2] - seeds[0], rel=1e-4)
        of_chips, of_seeds = (both.difference("ours", "theirs", over=over) for over in ("chips", "seeds"))
        assert ends(of_chips) == pytest.approx(t_limits((ours - theirs).mean(0)), rel=1e-9, abs=1e-11)
        assert ends(of_seeds) == pytest.approx(crossed_limits(ours - theirs, floor=True), rel=1e-9, abs=1e-11)
        assert of_chips.p_value == pytest.approx(stats.ttest_1samp((ours - theirs).mean(0), 0).pvalue)
        assert both.difference("ours", "theirs") == of_seeds
        assert (of_chips.unit, of_chips.common_seeds) == ("these networks", False)
        assert (of_seeds.unit, of_seeds.common_seeds) == ("training seeds", True)


def test_seeds_are_no_level_of_one_network() -> None:
    ours, theirs = tables(0, 1, 6)
    one = paired(ours, theirs)
    assert ends(one.mean("ours")) == pytest.approx(t_limits(ours[0]))
    assert one.difference("ours", "theirs").unit == "these two networks"
    more = paired(np.concatenate([ours, theirs]), theirs)
    assert ends(more.difference("ours", "theirs")) == pytest.approx(t_limits((ours - theirs)[0] / 2))
    for ask in (lambda: one.mean("ours", over="seeds"), lambda: more.difference("ours", "theirs", over="seeds")):
        with pytest.raises(ValueError, match="`over` must be 'chips' with one network for a method, got 'seeds'"):
            ask()


def test_without_noise_only_seeds_and_examples_are_random() -> None:
    """One value a network: no level of chips, and nothing at all for one network."""
    ours, theirs = tables(1, 4, 1)
    clean = paired(ours, theirs, resolution=0.01)
    assert ends(clean.mean("ours")) == pytest.approx(t_limits(ours[:, 0]))
    assert ends(clean.difference("ours", "theirs")) == pytest.approx(t_limits((ours - theirs)[:, 0]))
    assert clean.mean("ours", over="chips") == Interval(*[pytest.approx(ours.mean())] * 3)
    two = paired(ours[:1], theirs[:1], resolution=0.01).difference("ours", "theirs")
    assert ends(two) == pytest.approx([ours[0, 0] - theirs[0, 0]] * 3)
    assert two.p_value == 0.0
    assert two.ratio is None
    scores = np.random.default_rng(1).normal(size=(2, 1, 1, 9))
    about = population(ours=scores[0], theirs=scores[1])
    assert ends(about.mean("ours")) == pytest.approx(t_limits(scores[0, 0, 0]))
    assert ends(about.difference("ours", "theirs")) == pytest.approx(t_limits((scores[0] - scores[1])[0, 0]))
    floored = 0
    for seed in range(8):
        ours, theirs = np.random.default_rng(seed).normal(size=(2, 3, 1, 9))
        limits = crossed_limits((ours - theirs)[:, 0], floor=True)  # by seeds and examples, at least by seeds
        assert ends(population(ours=ours, theirs=theirs).difference("ours", "theirs")) == pytest.approx(limits)
        floored += limits != crossed_limits((ours - theirs)[:, 0], floor=False)
    assert floored


def test_a_population_takes_the_examples_into_account() -> None:
    rng = np.random.default_rng(6)
    ours, theirs = rng.random((2, 1, 6, 40)) < 0.8
    both = population(ours=ours, theirs=theirs)
    difference = ours[0].astype(float) - theirs[0]
    assert ends(both.difference("ours", "theirs")) == pytest.approx(crossed_limits(difference, floor=False))
    assert both.mean("ours") == crossed_share_interval(ours[0])  # right and wrong answers have exact limits
    losses = rng.normal(size=(1, 6, 40)) + rng.normal(size=(1, 1, 40))
    assert ends(population(a=losses).mean("a")) == pytest.approx(crossed_limits(losses[0], floor=False))


def test_shares_are_never_known_better_than_the_seeds_make_it() -> None:
    """Where inclusion and exclusion come out below the variance between seeds, that is taken, with its degrees.

    Where they come out a little above, their many degrees of freedom would make it narrower: that is taken too.
    """
    rng, z, floored = np.random.default_rng(2), stats.norm.ppf(0.975), 0
    table = rng.normal(0, 0.3, (2, 1, 1)) + rng.normal(0, 0.3, (1, 10, 1)) + rng.normal(0, 1, (2, 10, 50)) > 0
    p, (whole, seeds) = table.mean(), combine(components(table), [(0,)])
    assert stats.t.ppf(0.975, whole.degrees) * whole.variance**0.5 < stats.t.ppf(0.975, 1) * seeds.variance**0.5
    assert whole.variance > seeds.variance == pytest.approx(table.mean(axis=(1, 2)).var(ddof=1) / 2)
    n = p * (1 - p) / seeds.variance * (z / stats.t.ppf(0.975, 1)) ** 2
    assert population(a=table).mean("a").low == pytest.approx(stats.beta.ppf(0.025, n * p, n * (1 - p) + 1))
    for _ in range(20):
        table = rng.random((3, 4, 30)) < 0.7
        of_seeds = components(table)[(0,)].variance
        if combine(components(table))[0].variance >= of_seeds:
            continue
        floored += 1
        assert of_seeds == pytest.approx(table.mean(axis=(1, 2)).var(ddof=1) / 3)
        share = table.mean()
        n = share * (1 - share) / of_seeds * (z / stats.t.ppf(0.975, 2)) ** 2
        found = population(a=table).mean("a")
        assert found.low == pytest.approx(stats.beta.ppf(0.025, n * share, n * (1 - share) + 1))
        assert found.high == pytest.approx(stats.beta.ppf(0.975, n * share + 1, n * (1 - share)))
        assert found != crossed_share_interval(table)
    assert floored > 3


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
    common = paired(a[None], b[None]).difference("ours", "theirs")
    assert ends(common) == pytest.approx(ends(mean_interval((a - b).tolist())))  # with Hall's correction
    assert "these two networks, common chips" in str(common)


def test_differences_of_equal_chips_are_known_to_the_nearest_step() -> None:
    a, b = np.full((1, 20), 0.75), np.full((1, 20), 0.74)
    for common, degrees, error in ((True, 19, 0.01 / math.sqrt(12 * 20)), (False, 38, 0.01 / math.sqrt(12))):
        found = paired(a, b, common=common, resolution=0.01).difference("ours", "theirs")
        assert found.interval.half_width == pytest.approx(stats.t.ppf(0.975, degrees) * error)
        assert found.p_value == pytest.approx(2 * stats.t.cdf(-0.01 / error, degrees))


def test_seeds_that_differ_alike_by_whole_numbers_are_not_sure() -> None:
    """Numbers of errors on chips that are all alike: 12 and 11 of one method, 11 and 10 of the other."""
    ours, theirs = np.full((2, 3), [[12.0], [11.0]]), np.full((2, 3), [[11.0], [10.0]])
    found = paired(ours, theirs)
    assert found.difference("ours", "theirs").p_value == pytest.approx(2 * stats.t.sf(math.sqrt(12), 1))
    assert found.difference("ours", "theirs", over="chips").p_value == 0  # these networks do differ
    half = stats.t.ppf(0.975, 1) / math.sqrt(12)
    assert paired(ours * 0 + 12, theirs).mean("ours").half_width == pytest.approx(half)


@pytest.mark.parametrize("common", [True, False])
def test_differences_may_be_as_large_as_records_hold(common: bool) -> None:
    ours, theirs = tables(0, 3, 6)
    small, large = (
        ends(paired(scale * ours, scale * theirs, common=common).difference("ours", "theirs")) for scale in (1, 1e149)
    )
    assert large == pytest.approx([1e149 * end for end in small])


def test_unequal_numbers_of_seeds_are_not_paired() -> None:
    rng = np.random.default_rng(4)
    ours, theirs = (rng.normal(0.9, 0.02, (networks, 1)) + np.zeros((networks, 5)) for networks in (3, 5))
    found = paired(ours, theirs).difference("ours", "theirs")
    welch = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert (found.unit, found.common_seeds) == ("training seeds", False)


def test_unequal_seeds_on_common_chips_count_each_seed_on_each_chip_once() -> None:
    """V = S_seeds − S_both of each method, and S_chips of the difference of their means, in which is both's part."""
    ours, theirs = tables(0, 3, 6)[0], tables(1, 5, 6)[0]
    parts, seeds = [], []
    for table in (ours, theirs):
        rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
        n, both = len(rows), (len(rows) - 1) * 5
        seeds.append((rows.var(ddof=1) / n, n - 1))
        parts.append((-((table - rows - columns + table.mean()) ** 2).sum() / both / table.size, both))
    chips = (ours.mean(0) - theirs.mean(0)).var(ddof=1) / 6
    v, of_seeds = sum(s for s, _ in (*parts, *seeds)) + chips, sum(s for s, _ in seeds)
    df = [sum(s for s, _ in of) ** 2 / sum(s**2 / d for s, d in of) for of in (seeds, parts)]
    of_both = sum(s for s, _ in parts)
    degrees = v**2 / (of_seeds**2 / df[0] + of_both**2 / df[1] + chips**2 / 5)
    assert v > of_seeds
    half = max(stats.t.ppf(0.975, d) * math.sqrt(s) for s, d in ((v, degrees), (of_seeds, df[0])))
    assert paired(ours, theirs).difference("ours", "theirs").interval.half_width == pytest.approx(half)


def test_differences_of_three_levels_cover_and_pooling_does_not() -> None:
    rng, inside, pooled = np.random.default_rng(5), [], []
    stds = {(0,): 0.5, (1,): 0.4, (2,): 0.5, (0, 1): 0.3, (0, 2): 0.5, (1, 2): 0.5, (0, 1, 2): 1.0}
    sizes = (4, 10, 30)
    for _ in range(1000):
        both = np.zeros((2, *sizes))
        for axes, std in stds.items():
            shape = [n if axis in axes else 1 for axis, n in enumerate(sizes)]
            for table in both:
                table += rng.normal(0, std, shape)
        i = spread(both[0], both[1], shared=(0, 1, 2), floor=[(0,)]).interval(0.95, 0.0)
        inside.append(i.low <= 0 <= i.high)
        difference = (both[0] - both[1]).ravel()
        pooled.append(abs(difference.mean()) <= 1.96 * difference.std() / math.sqrt(difference.size))
    assert 0.93 <= np.mean(inside) <= 0.985
    assert np.mean(pooled) < 0.5


@pytest.mark.parametrize("seeds", [2, 3])
def test_few_seeds_cover_where_chips_add_a_little(seeds: int) -> None:
    """Chips whose part is .3 of the seeds': with two seeds, the degrees of freedom of both would cover .88."""
    rng, inside = np.random.default_rng(seeds), []
    for _ in range(800):
        table = rng.normal(0, math.sqrt(seeds), (seeds, 1)) + rng.normal(0, 0.3 * math.sqrt(20), (1, 20))
        table += rng.normal(0, 0.3, (seeds, 20))
        found = spread(table, np.zeros_like(table), shared=(0, 1), floor=[(0,)])
        i, alone = found.interval(0.95, 0.0), mean_interval(table.mean(axis=1).tolist())
        assert i.low <= alone.low + 1e-9
        assert i.high >= alone.high - 1e-9
        inside.append(i.low <= 0 <= i.high)
        assert inside[-1] == (found.p_value(0.0) >= 0.05)
    assert 0.93 <= np.mean(inside) <= 0.985


def test_what_pairing_brought_has_an_interval() -> None:
    rng = np.random.default_rng(7)
    chip = rng.normal(0, 1, 30)
    a, b = chip + rng.normal(0, 0.3, 30), chip + rng.normal(0, 0.3, 30)
    ratio = variance_ratio(a.tolist(), b.tolist())
    assert ratio.mean == pytest.approx((a.var(ddof=1) + b.var(ddof=1)) / (a - b).var(ddof=1))
    assert paired(a[None], b[None]).difference("ours", "theirs").ratio == ratio
    inside, truth = [], 1 / (1 - 0.3)
    root = np.linalg.cholesky(np.array([[1, 0.3], [0.3, 1]]))
    for _ in range(4000):
        x = root @ rng.normal(size=(2, 12))
        i = variance_ratio(x[0].tolist(), x[1].tolist())
        inside.append(i.low <= truth <= i.high)
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("scale", [1.0, 1e100, 1e-9])
def test_where_no_chip_varies_pairing_brought_any_ratio(scale: float) -> None:
    """The variance of equal numbers is not 0 by rounding: of three times .1 − .2 it is not."""
    assert np.var([0.1 - 0.2] * 3, ddof=1) > 0
    for ours, theirs, n in ((0.1, 0.2, 3), (0.97, 0.93, 5), (0.432, 0.9, 50)):
        found = variance_ratio([scale * ours] * n, [scale * theirs] * n)
        assert (found.mean, found.low, found.high) == (math.inf, 0.5, math.inf)
    assert variance_ratio([scale, scale * (1 + 1e-9)], [scale, scale]).mean == pytest.approx(1)


def test_a_family_holds_together() -> None:
    rng = np.random.default_rng(8)
    gains = {"sgd": 0, "sam": 0.01, "samson": 0.05}
    levels = {
        level: Paired({name: [Trials(rng.normal(0.9 + gain, 0.02, 15))] for name, gain in gains.items()}, {})
        for level in ("0.1", "0.2")
    }
    found = family(levels, "sgd").rows
    assert set(found) == {(level, name) for level in levels for name in ("sam", "samson")}
    alone = {(level, name): levels[level].difference(name, "sgd", 1 - 0.05 / 4) for level, name in found}
    assert {key: row.interval for key, row in found.items()} == {key: row.interval for key, row in alone.items()}
    assert [row.p_value for row in found.values()] == holm([row.p_value for row in alone.values()])


def test_holm_keeps_the_error_of_the_family() -> None:
    rng = np.random.default_rng(9)
    sets = rng.random((4000, 6))
    assert np.mean([min(holm(row)) < 0.05 for row in sets.tolist()]) < 0.06
    assert np.mean(sets.min(axis=1) < 0.05) > 0.2  # without it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_intervals_stay_within_what_the_metric_can_be() -> None:
    """Two seeds and two chips whose parts nearly cancel: Satterthwaite's degrees of freedom would be far below 1."""
    a, b = np.array([[0.9, 0.1], [0.5, 0.4999]]), np.full((2, 2), 0.5)
    found = components(a - b)
    (whole,) = combine(found)
    variance = whole.variance
    assert whole.degrees == 1
    assert variance == pytest.approx(found[0,].variance + found[1,].variance - found[0, 1].variance)
    assert variance**2 / sum(part.variance**2 for part in found.values()) < 1e-6
    b[0] += 0.4
    b[1] -= 0.4
    models = {name: [Trials(row, 1e-4, (0.0, 1.0)) for row in table.tolist()] for name, table in (("a", a), ("b", b))}
    gap = Paired(models, {}).difference("a", "b")
    assert (gap.low, gap.high) == (-1.0, 1.0)
    assert gap.cut
    assert str(gap).endswith("(95%, training seeds, common chips): too few seeds to tell")
    mean = Paired(models, {}).mean("a")
    assert 0 < mean.low < mean.high < 1
    assert (Paired(models, {}).mean("b").low, Paired(models, {}).mean("b").high) == (0.0, 1.0)
    free = {name: [Trials(row, 1e-4) for row in table.tolist()] for name, table in (("a", a), ("b", b))}
    wide = Paired(free, {}).difference("a", "b")
    assert 1 < wide.interval.half_width < 100
    assert not wide.cut
    assert "too few" not in str(wide)
    one = {"a": [Trials([0.99, 0.1], 0.01, (0.0, 1.0))], "b": [Trials([0.5, 0.6], 0.01, (0.0, 1.0))]}
    assert str(Paired(one, {}).difference("a", "b")).endswith("too few chips to tell")
    clear = {"a": [Trials([1.0, 0.97], 0.01, (0.0, 1.0))], "b": [Trials([0.0, 0.02], 0.01, (0.0, 1.0))]}
    sure = Paired(clear, {}).difference("a", "b", 0.9)
    assert (sure.high, sure.cut, sure.low > 0.5) == (1.0, True, True)
    reverse = Paired(clear, {}).difference("b", "a", 0.9)
    assert (reverse.low, reverse.cut) == (-1.0, True)
    assert "too few" not in str(sure)


def test_differences_of_few_seeds_are_never_absurd() -> None:
    for rng in map(np.random.default_rng, range(40)):
        seeds, chips = rng.integers(2, 4, size=2)
        ours, theirs = rng.normal(0, 0.02, (2, seeds, chips)) + rng.normal(0, 0.0001, (2, 1, 1))
        for common in (True, False):
            gap = paired(ours, theirs, common=common).difference("ours", "theirs")
            assert gap.interval.half_width <= stats.t.ppf(0.975, 1) * np.abs(ours - theirs).sum()


def test_small_values_print_with_their_digits() -> None:
    """Losses of some 1e-8; four decimals would be zeros. Accuracies keep four, also where they hardly differ."""
    models = {"a": [Trials([1e-8, 3e-8])], "b": [Trials([3e-8, 5.5e-8])]}
    text, gap = str(Paired(models, {})), Paired(models, {}).difference("b", "a", 0.995)
    for sign, mean, deviation in (("", 4.25e-8, 1.25e-8), ("+", 2.25e-8, 2.5e-9)):
        half = stats.t.ppf(0.975, 1) * deviation
        assert "{0:{3}.4g} [{1:{3}.4g}, {2:{3}.4g}]".format(mean, mean - half, mean + half, sign) in text
    assert str(gap).startswith("b − a: +2.25e-08 [")
    assert "(99.5%, these two networks, common chips)" in str(gap)
    assert "  +2.25e-08 [" in str(family({"": Paired(models, {})}, "a"))
    alike = {"a": [Trials([0.9, 0.92])], "b": [Trials([0.901, 0.9214])]}
    assert "  +0.0012 [" in str(Paired(alike, {}))
