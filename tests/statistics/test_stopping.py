"""When to stop: levels that allow for looking, and a bet that holds for any distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from samson.statistics import Look, betting_interval, first_look, mean_interval, next_look


def test_levels_add_up_and_looks_at_most_double() -> None:
    look, error, sizes = first_look(10_000, 0.95), 0.0, []
    assert (look.size, look.confidence) == (10, pytest.approx(0.975))  # half of what may be wrong in all
    while True:
        sizes.append(look.size)
        error += 1 - look.confidence
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
            i = mean_interval(x[: look.size].tolist(), look.confidence)
            if i.half_width <= precision or look.size == 640:
                break
            look = next_look(look, i.half_width, precision, 640, 0.95)
        inside.append(i.low <= 0 <= i.high)
        used.append(look.size)
        n = np.arange(2, 641)
        means = np.cumsum(x)[1:] / n
        stds = np.sqrt((np.cumsum(x**2)[1:] - n * means**2) / (n - 1))
        every.append(bool((np.abs(means) <= quantiles * stds / np.sqrt(n))[3:].all()))
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
        students.append(all(i.low <= truth <= i.high for i in map(mean_interval, prefixes)))
    assert np.mean(bets) >= 0.95
    assert np.mean(students) < 0.5


def test_the_bet_is_the_published_capital() -> None:
    """Written again with plain loops: the money of both gamblers at the ends is what refutes."""
    x = np.random.default_rng(2).beta(8, 2, 30)

    def capital(m: float, sign: int) -> float:
        money, v, means = 1.0, 0.25, list[float]()
        for i, value in enumerate(x, 1):
            stake = math.sqrt(2 * math.log(2 / 0.05) / (v * i * math.log(i + 1)))
            money *= 1 + sign * min(stake, 0.5 / (m if sign > 0 else 1 - m)) * (value - m)
            means.append((0.5 + sum(x[:i])) / (i + 1))
            v = (0.25 + sum((a - b) ** 2 for a, b in zip(x, means, strict=False))) / (i + 1)
        return money

    found = betting_interval(x.tolist(), 0.95, (0.0, 1.0))
    assert capital(found.low, 1) == pytest.approx(40, rel=1e-6)
    assert capital(found.high, -1) == pytest.approx(40, rel=1e-6)
    scaled = betting_interval((10 * x - 3).tolist(), 0.95, (-3.0, 7.0))
    assert scaled.low == pytest.approx(10 * found.low - 3)


def test_the_next_look_is_a_tenth_beyond_what_should_do() -> None:
    look = Look(3, 100, 0.99)
    level = 1 - 0.05 / 20
    z, before = (stats.norm.ppf((1 + p) / 2) for p in (level, 0.99))
    found = next_look(look, half_width=0.0105, precision=0.01, largest=1000, confidence=0.95)
    assert (found.number, found.size) == (4, math.ceil(110 * (z * 1.05 / before) ** 2))
    assert found.confidence == pytest.approx(level)
    assert 100 < found.size < 200
    assert next_look(look, 0.0001, 0.01, 1000, 0.95).size == 101
    assert next_look(look, 0.0105, 0.01, 120, 0.95).size == 120
    for wide, narrow in ((math.inf, 0.01), (1e200, 0.01), (1.0, 1e-320)):
        assert next_look(look, wide, narrow, 1000, 0.95).size == 200
