"""How often the intervals of `samson.statistics` hold the truth, by simulation where the truth is known.

    python -m benchmarks.coverage                    # about 10 minutes on one core
    python -m benchmarks.coverage --repetitions 400  # a quick look, not written

    python -m benchmarks.coverage --only budget      # the rows of one part again, the others as they are in the record
    python -m benchmarks.coverage --page             # docs/coverage.md again, from the record

Each row states what was simulated, the share of repetitions whose interval holds the truth with its standard error,
and beside it what a simpler interval does. Writes `benchmarks/records/coverage.json`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.markdown import table
from samson._names import counted
from samson.experiments import environment
from samson.statistics import (
    betting_interval,
    critical_difference,
    crossed_interval,
    crossed_share_interval,
    crossing,
    first_look,
    fixed_sequence,
    holm,
    mean_interval,
    mean_ranks,
    next_look,
    share_interval,
    spread,
    variance_ratio,
)

RECORD = Path(__file__).parent / "records" / "coverage.json"
PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
SEED = 2211
Row = dict[str, Any]
Chips = Callable[[np.random.Generator, int], NDArray[np.float64]]
NORMAL_90 = float(stats.norm.ppf(0.9))


def beta(mean: float, factor: float) -> Chips:
    """Chips with a Beta distribution of sd = factor·√(mean·(1 − mean))."""
    total = 1 / factor**2 - 1
    return lambda rng, n: rng.beta(mean * total, (1 - mean) * total, n)


CHIPS: dict[str, tuple[Chips, float]] = {
    "Gaussian .9 ± .02": (lambda rng, n: rng.normal(0.9, 0.02, n), 0.9),
    "Beta .5, factor .1": (beta(0.5, 0.1), 0.5),
    "Beta .95, factor .1": (beta(0.95, 0.1), 0.95),
    "Beta .99, factor .1": (beta(0.99, 0.1), 0.99),
    "Beta .5, factor .3": (beta(0.5, 0.3), 0.5),
    "Beta .95, factor .3": (beta(0.95, 0.3), 0.95),
    "Beta .99, factor .3": (beta(0.99, 0.3), 0.99),
    "a loss of .02·lognormal, σ = 1": (lambda rng, n: 1 - 0.02 * rng.lognormal(0, 1, n), 1 - 0.02 * math.exp(0.5)),
    "one chip in 50 dead": (
        lambda rng, n: np.where(rng.random(n) < 0.02, 0.1, np.clip(rng.normal(0.95, 0.005, n), 0, 1)),
        0.02 * 0.1 + 0.98 * 0.95,
    ),
}
"""How they are drawn, and their mean."""

FEW_CHIPS = "lognormal", ".99"
"""What is in the names of chips that are also looked at five at a time: the most skewed."""


def mean_rows(repetitions: int) -> Iterator[Row]:
    """`mean_interval` with a fixed number of chips; beside it Student's t alone."""
    for count in (5, 10, 50):
        for name, (draw, truth) in CHIPS.items():
            if count == 5 and not any(word in name for word in FEW_CHIPS):
                continue
            rng, ours, plain = np.random.default_rng(SEED), list[bool](), list[bool]()
            for _ in range(repetitions):
                x = draw(rng, count)
                i = mean_interval(x.tolist())
                ours.append(i.low <= truth <= i.high)
                half = stats.t.ppf(0.975, count - 1) * x.std(ddof=1) / math.sqrt(count)
                plain.append(abs(x.mean() - truth) <= half)
            yield row("mean_interval", f"{count} chips, {name}", ours, {"Student's t alone": float(np.mean(plain))})


def yield_rows(repetitions: int) -> Iterator[Row]:
    """`share_interval`; beside it the normal approximation."""
    for count, share in ((20, 0.9), (20, 0.99), (50, 0.98), (100, 0.5)):
        rng = np.random.default_rng(SEED)
        good = rng.binomial(count, share, repetitions)
        intervals = {k: share_interval(int(k), count) for k in set(good.tolist())}
        ours = [intervals[k].low <= share <= intervals[k].high for k in good.tolist()]
        p = good / count
        wald = np.abs(p - share) <= 1.96 * np.sqrt(p * (1 - p) / count)
        yield row("share_interval", f"{count} chips, yield {share}", ours, {"normal": float(wald.mean())})


def stopping_rows(repetitions: int) -> Iterator[Row]:
    """Stopping at a precision: coverage at the stop, and chips against those of a fixed-n interval."""
    skewed = "Beta .95, factor .1", "Beta .99, factor .1", "Beta .99, factor .3", "one chip in 50 dead"
    for name in ("Gaussian .9 ± .02", *skewed):
        draw, truth = CHIPS[name]
        std = float(np.std(draw(np.random.default_rng(0), 1_000_000)))
        for wanted in (12, 30, 75, 200):
            precision = 1.96 * std / math.sqrt(wanted)
            rng, ours, every, used = np.random.default_rng(SEED + wanted), [], [], []
            for _ in range(repetitions):
                x = draw(rng, 1280)
                look = first_look(1280, 0.95)
                while True:
                    i = mean_interval(x[: look.size].tolist(), look.confidence)
                    if i.half_width <= precision or look.size == 1280:
                        break
                    look = next_look(look, i.half_width, precision, 1280, 0.95)
                ours.append(i.low <= truth <= i.high)
                used.append(look.size)
                steps = np.arange(2, 1281)
                means = np.cumsum(x)[1:] / steps
                stds = np.sqrt(np.maximum(np.cumsum(x**2)[1:] / steps - means**2, 0) * steps / (steps - 1))
                halves = T_QUANTILES[1:1280] * stds / np.sqrt(steps)
                at = int(np.argmax(halves[8:] <= precision)) + 8
                every.append(abs(means[at] - truth) <= halves[at])
            fixed = next(n for n in range(2, 1280) if T_QUANTILES[n - 2] * std / math.sqrt(n) <= precision)
            yield row(
                "looks",
                f"{name}, precision {precision:.2g} (fixed n {fixed})",
                ours,
                {"t looked at after every chip": float(np.mean(every))},
                chips=float(np.mean(used)),
                chips_to_fixed=float(np.mean(used)) / fixed,
            )


T_QUANTILES = stats.t.ppf(0.975, np.arange(1, 1281))


def betting_rows(repetitions: int) -> Iterator[Row]:
    """`betting_interval` looked at after every tenth chip of 100: does it ever leave the truth out?"""
    for name in ("Gaussian .9 ± .02", "Beta .5, factor .3", "Beta .99, factor .3", "one chip in 50 dead"):
        draw, truth = CHIPS[name]
        rng, ours, t, widths = np.random.default_rng(SEED), [], [], []
        for _ in range(repetitions):
            x = np.clip(draw(rng, 100), 0, 1)
            bets = [betting_interval(x[:n].tolist(), 0.95, (0.0, 1.0)) for n in range(10, 101, 10)]
            plain = [mean_interval(x[:n].tolist()) for n in range(10, 101, 10)]
            ours.append(all(i.low <= truth <= i.high for i in bets))
            t.append(all(i.low <= truth <= i.high for i in plain))
            widths.append(bets[-1].half_width / plain[-1].half_width)
        yield row(
            "betting_interval",
            f"{name}, at all of 10, 20, …, 100 chips",
            ours,
            {"mean_interval at all of them": float(np.mean(t))},
            width_to_mean_interval_at_100=float(np.median(widths)),
        )


def crossed_rows(repetitions: int) -> Iterator[Row]:
    """`crossed_interval` for chips x examples, and for seeds x chips; beside it all pooled as if independent."""
    truth = float(stats.norm.cdf(1.2 / math.sqrt(0.09 + 1 + 0.49)))
    for chips, examples in ((10, 100), (10, 1000), (30, 300)):
        rng, ours, pooled = np.random.default_rng(SEED), [], []
        for _ in range(repetitions):
            size = rng.normal(0, 0.3, (chips, 1)) + rng.normal(1.2, 1.0, (1, examples))
            right = size + rng.normal(0, 0.7, (chips, examples)) > 0
            i = crossed_interval(right)
            ours.append(i.low <= truth <= i.high)
            p = right.mean()
            pooled.append(abs(p - truth) <= 1.96 * math.sqrt(p * (1 - p) / right.size))
        yield row("crossed_interval", f"{chips} chips x {examples} examples", ours, {"pooled": float(np.mean(pooled))})
    for seeds in (2, 3):
        for part in PARTS_OF_CHIPS:
            rng, ours, pooled = np.random.default_rng(SEED), [], []
            for _ in range(repetitions):
                values = rng.normal(0, math.sqrt(seeds), (seeds, 1)) + rng.normal(0, part * math.sqrt(20), (1, 20))
                values += rng.normal(0, 0.3, (seeds, 20))
                i, pool = crossed_interval(values, floor=[(0,)]), mean_interval(values.ravel().tolist())
                ours.append(i.low <= 0 <= i.high)
                pooled.append(pool.low <= 0 <= pool.high)
            about = f"{seeds} seeds x 20 chips, which add {part} of the seeds' deviation"
            yield row("crossed_interval", about, ours, {"pooled": float(np.mean(pooled))})
    few, many = ((2, 200), (3, 200), (5, 200)), ((10, 100), (10, 1000), (30, 300))
    for sizes, means in ((few, (0.0, 2.4)), (many, (0.0, 2.4, 3.2, 3.8, 4.4))):
        for chips, examples in sizes:
            for mean in means:
                parts = ((0.3, (chips, 1)), (1.0, (1, examples)))
                yield _share_row(f"{chips} chips x {examples} examples", mean, parts, repetitions)
    for seeds in (2, 3):
        for mean in (0.0, 2.4):
            of_seeds = ((0.3, (seeds, 1, 1)), (0.1, (1, 10, 1)), (1.0, (1, 1, 100)))
            about = f"{seeds} seeds x 10 chips x 100 examples"
            yield _share_row(about, mean, of_seeds, repetitions, floor=[(0,)])


PARTS_OF_CHIPS = 0.0, 0.2, 0.5
"""Deviations of a mean that chips bring, with that which seeds bring as unit."""


def _share_row(
    about: str,
    mean: float,
    parts: Sequence[tuple[float, tuple[int, ...]]],
    repetitions: int,
    floor: Sequence[tuple[int, ...]] = (),
) -> Row:
    """`crossed_share_interval` up to where few answers are wrong; beside it `crossed_interval`.

    An answer is right where the mean and all that adds to it are above 0: each part, by its deviation and the axes
    along which it is drawn, and ± .7 of its own.
    """
    truth = float(stats.norm.cdf(mean / math.sqrt(sum(deviation**2 for deviation, _ in parts) + 0.49)))
    shape = np.broadcast_shapes(*(axes for _, axes in parts))
    rng, ours, plain = np.random.default_rng(SEED), list[bool](), list[bool]()
    for _ in range(repetitions):
        right = mean + sum(rng.normal(0, deviation, axes) for deviation, axes in parts) + rng.normal(0, 0.7, shape) > 0
        for interval, inside in ((crossed_share_interval, ours), (crossed_interval, plain)):
            found = interval(right, floor=floor)
            inside.append(found.low <= truth <= found.high)
    beside = {"crossed_interval": float(np.mean(plain))}
    return row("crossed_share_interval", f"{about}, truth {truth:.4f}", ours, beside)


def pair_rows(repetitions: int) -> Iterator[Row]:
    """Differences with the training seed as the unit; beside it chips and seeds pooled."""
    settings = ((2, True, 0.0), (2, False, 0.0), (3, True, 0.0), (3, False, 0.0), (8, True, 0.0))
    apart = tuple((seeds, True, part) for seeds in (2, 3) for part in PARTS_OF_CHIPS[1:])
    for seeds, shared, part in settings + apart:
        own = part * 0.02 * math.sqrt(20 / seeds)  # a chip's deviation that one method has and the other has not
        rng, ours, pooled = np.random.default_rng(SEED), [], []
        for _ in range(repetitions):
            chip = rng.normal(0, 0.01, (1, 20))
            a, b = (
                0.9 + shift + rng.normal(0, 0.02, (seeds, 1)) + chip + rng.normal(0, 0.01, (seeds, 20))
                for shift in (0.03, 0.0)
            )
            if part:
                a, b = (table + rng.normal(0, own, (1, 20)) for table in (a, b))
            i = spread(a, b, shared=(0, 1) if shared else (1,), floor=[(0,)]).interval(0.95, 0.0)
            ours.append(i.low <= 0.03 <= i.high)
            pool = mean_interval((a - b).ravel().tolist())
            pooled.append(pool.low <= 0.03 <= pool.high)
        paired = "paired seeds" if shared else "seeds of their own"
        added = f", whose differences add {part} of the seeds' deviation" if part else ""
        yield row("difference", f"{seeds} {paired}, 20 common chips{added}", ours, {"pooled": float(np.mean(pooled))})
    for correlation, ratio_of_stds in ((0.0, 1.0), (0.15, 1.0), (0.85, 1.0), (0.15, 2.0)):
        truth = 1 / (1 - 2 * correlation * ratio_of_stds / (1 + ratio_of_stds**2))
        covariance = np.array([[1, correlation * ratio_of_stds], [correlation * ratio_of_stds, ratio_of_stds**2]])
        rng, ours = np.random.default_rng(SEED), []
        root = np.linalg.cholesky(covariance)
        for _ in range(repetitions):
            x = root @ rng.normal(size=(2, 20))
            i = variance_ratio(x[0].tolist(), x[1].tolist())
            ours.append(i.low <= truth <= i.high)
        yield row("variance_ratio", f"20 chips, correlation {correlation}, spreads 1 to {ratio_of_stds:g}", ours, {})


def equal_rows(repetitions: int) -> Iterator[Row]:
    """Equal methods on common chips: is no difference significant, of one or of 24 by Holm's method?"""
    for count in (10, 20, 50):
        for name in ("Gaussian .9 ± .02", "Beta .99, factor .3", "a loss of .02·lognormal, σ = 1"):
            for comparisons in (1, 24):
                rng, ours, plain = np.random.default_rng(SEED), list[bool](), list[bool]()
                for _ in range(repetitions):
                    a, b = (CHIPS[name][0](rng, comparisons * count).reshape(-1, count) for _ in range(2))
                    p_values = [spread(*pair, shared=(0,)).p_value(0.0) for pair in zip(a, b, strict=True)]
                    ours.append(min(holm(p_values)) >= 0.05)
                    student = stats.ttest_rel(a, b, axis=1).pvalue
                    plain.append(bool(student.min() * comparisons >= 0.05))
                about = (
                    f"{comparisons} together, {count} chips, {name}" if comparisons > 1 else f"{count} chips, {name}"
                )
                yield row("equal methods", about, ours, {"Student's t alone": float(np.mean(plain))})


def few_rows(repetitions: int) -> Iterator[Row]:
    """A drop about a population, of a few fragile examples that chips get wrong: by `crossed_interval` of the drops."""
    for examples, share in ((300, 1), (500, 5), (500, 15), (2000, 20)):
        rng, ours, unseen = np.random.default_rng(SEED), list[bool](), list[bool]()
        truth = 0.9 * share / examples
        for _ in range(repetitions):
            fragile = rng.random(examples) < share / examples
            drops = (fragile & (rng.random((20, examples)) < 0.9)).astype(np.float64)
            found = crossed_interval(drops)
            ours.append(found.low <= truth <= found.high)
            unseen.append(not drops.any())
        about = f"20 chips x {examples} examples, {share} fragile on average"
        yield row("few changed examples", about, ours, {"no change seen": float(np.mean(unseen))})


def lognormal(sigma: float) -> Chips:
    """Positive, skewed values of median 1."""
    return lambda rng, n: rng.lognormal(0, sigma, n)


DROPS: dict[str, tuple[Chips, float, float]] = {
    "equal-ish chips": (lognormal(0.2), math.exp(0.2**2 / 2), math.exp(0.2 * NORMAL_90)),
    "unequal chips": (lognormal(0.6), math.exp(0.6**2 / 2), math.exp(0.6 * NORMAL_90)),
    "half of the chips lose nothing": (
        lambda rng, n: np.maximum(rng.normal(size=n), 0),
        1 / math.sqrt(2 * math.pi),
        NORMAL_90,
    ),
}
"""Chips drop by a·level², ± .001: how a is drawn, its mean, and its 90 % quantile."""


def budget_rows(repetitions: int) -> Iterator[Row]:
    """The budget: the mean drop crosses .01 where level = √(.01 / E a), the yield 90 % at √(.01 / q), q = Q_.9(a)."""
    for name in ("equal-ish chips", "unequal chips"):
        draw, mean, quantile = DROPS[name]
        for chips in (20, 50):
            truth = math.sqrt(0.01 / mean)
            yield _crossing_row(f"{chips} chips, {name}", draw, chips, truth, repetitions // 4)
        for chips in (29, 50, 100):
            truth = math.sqrt(0.01 / quantile)
            about = f"yield 90 %: {chips} chips, {name}"
            yield _crossing_row(about, draw, chips, truth, repetitions // 4, min_yield=0.9)
    for name, (draw, mean, _) in DROPS.items():
        for chips in (5, 8, 10, 15, 20, 50):
            yield _holding_row(f"{chips} chips, {name}", draw, chips, math.sqrt(0.01 / mean), repetitions)


def _crossing_row(
    simulated: str, draw: Chips, chips: int, truth: float, repetitions: int, min_yield: float | None = None
) -> Row:
    """How often the interval of `noise_budget` holds the crossing, measured as there: the grid, then 6 refinements."""
    rng, ours, finds = np.random.default_rng(SEED), [], []
    grid = np.geomspace(0.01, 1, 8).tolist()
    threshold = 0.01 if min_yield is None else 1 - min_yield
    for _ in range(repetitions):
        a = draw(rng, chips)

        def measured(level: float, a: NDArray[np.float64] = a) -> NDArray[np.float64]:
            if min_yield is not None:
                return (a * level**2 > 0.01).astype(np.float64)
            return a * level**2 + rng.normal(0, 0.001, chips)

        found = {level: measured(level) for level in grid}
        for number in range(7):
            xs = sorted(found)
            at = crossing(xs, np.stack([found[x] for x in xs]), threshold, 0.95)
            wanted = (at.low, at.high, at.mean)[number % 3]
            if number < 6 and 0 < wanted < math.inf and wanted not in found:
                found[wanted] = measured(wanted)
        ours.append(at.low <= truth <= at.high)
        finds.append(at.mean / truth)
    return row("noise_budget", simulated, ours, {}, median_estimate_to_truth=float(np.median(finds)))


def _holding_row(simulated: str, draw: Chips, chips: int, truth: float, repetitions: int) -> Row:
    """How often `fixed_sequence` keeps below the crossing where a level of the grid is 2 % above it."""
    rng, ours, plain = np.random.default_rng(SEED), list[bool](), list[bool]()
    grid = np.geomspace(0.01, 1.02 * truth, 8)
    t = stats.t.ppf(0.95, chips - 1) / math.sqrt(chips)
    for _ in range(repetitions):
        drops = grid[:, None] ** 2 * draw(rng, chips) + rng.normal(0, 0.001, (len(grid), chips))
        ours.append(fixed_sequence(grid.tolist(), drops, 0.01, 0.95) <= truth)
        plain.append(bool((drops.mean(axis=1) + t * drops.std(axis=1, ddof=1) > 0.01).any()))
    return row("fixed_sequence", simulated, ours, {"Student's t alone": float(np.mean(plain))})


def rank_rows(repetitions: int) -> Iterator[Row]:
    """`mean_ranks` of 8 methods, and `critical_difference`; beside it intervals that do not lie apart.

    A method's value on a problem is its mean over training seeds, which differ by 1. Of the first method the truth is
    its rank in the mean over other such comparisons, 1 + Σ_j P(method j is better): methods are all equal, or each is
    worse than the one before by .5. Where all are equal, no mean rank should be beyond the critical difference from
    the best one.
    """
    methods = 8
    for problems, seeds in ((1, 2), (1, 3), (1, 10), (4, 2), (4, 3), (4, 10)):
        critical = critical_difference(methods, problems) if problems > 1 else math.inf
        for step in (0.0, 0.5):
            effects = -step * np.arange(methods)
            truth = 1 + float(stats.norm.cdf((effects[1:] - effects[0]) * math.sqrt(seeds / 2)).sum())
            rng, ours, within, together = np.random.default_rng(SEED), list[bool](), list[bool](), list[bool]()
            for _ in range(repetitions):
                values = rng.normal(effects[:, None], 1, (problems, methods, seeds))
                ranks = mean_ranks([{str(i): of.tolist() for i, of in enumerate(block)} for block in values])
                intervals = [rank.interval for rank in ranks.values()]
                best = min(intervals, key=lambda interval: interval.mean)
                ours.append(intervals[0].low <= truth <= intervals[0].high)
                within.append(all(interval.mean - best.mean <= critical for interval in intervals))
                together.append(all(interval.low <= best.high for interval in intervals))
            differ = f"each worse than the one before by {step}" if step else "all equal"
            about = f"{methods} methods, {differ}, {counted(problems, 'problem')}, {seeds} seeds"
            yield row("mean_ranks", about, ours, {})
            if not step and problems > 1:
                yield row("critical_difference", about, within, {"no interval apart": float(np.mean(together))})


def row(what: str, simulated: str, inside: list[Any], beside: dict[str, float], **more: float) -> Row:
    """One line of the record."""
    share = float(np.mean(inside))
    return {
        "interval": what,
        "simulated": simulated,
        "repetitions": len(inside),
        "coverage": share,
        "standard_error": math.sqrt(share * (1 - share) / len(inside)),
        "beside": beside,
        **more,
    }


HEAD = """# How often the intervals hold

A 95 % interval should contain the truth in 95 % of cases. This page counts how often it does, in simulations where the
truth is known ([the record](../benchmarks/records/coverage.json)). [What the intervals
promise](evaluating.md#what-the-intervals-promise) has the result in a few sentences.

Each section is one kind of interval, by the name of its function. "Holds the truth" is the share of simulations in
which the interval contains the truth. The column after it is a simpler interval, to compare with. "Pooled" counts
seeds, chips and examples alike. A row is {times:,} simulations, one of `noise_budget` {fewer:,}. The standard error of
a share is at most {error}, there {larger}. "Beta .99, factor .1" are chips of mean accuracy .99 and a standard
deviation of .1·√(.99·.01). For `noise_budget` and `fixed_sequence` a chip loses a·level²; a is lognormal,
with σ = .2 ("equal-ish chips") or .6 ("unequal chips"). "No interval apart" is how often the interval of every method
meets that of the best.
"""
INTERVALS = {
    "mean_interval": "Of the mean of other chips: Student's t, corrected for skewness.",
    "share_interval": "Of a yield, by exact limits.",
    "looks": "Of the mean, with chips drawn until a precision is reached (`evaluate(..., precision=)`), "
    "as a ratio to a fixed number of chips for the same precision.",
    "betting_interval": "Of the mean, looked at as often as you like, whatever the distribution.",
    "crossed_interval": "Of the mean of other chips and other examples.",
    "crossed_share_interval": "The same for a share of right answers, which may lie near 0 or 1.",
    "difference": "Of the difference of two methods, by training seeds.",
    "few changed examples": "Of a drop or a difference on other chips and other examples, where a chip gets nine in "
    "ten of the fragile examples wrong and no others.",
    "equal methods": "Of the difference of two methods that are equal, on common chips, of one training each: "
    "how often no difference is significant at .05, by Holm's method where there are several.",
    "variance_ratio": "Of how much smaller the variance of a difference is because the chips are common.",
    "noise_budget": "Of the level up to which a loss or a yield is kept.",
    "mean_ranks": "Of a method's mean rank over problems, for other training seeds.",
    "critical_difference": "How far mean ranks must be apart to differ on other problems too. "
    "All methods are equal, so that no rank must be beyond it from the best.",
    "fixed_sequence": "The level up to which a loss is kept, with confidence. "
    "A level of the grid is 2 % above the truth, and must not hold.",
}
"""What each is about, in the order of the page."""


def page(record: dict[str, Any]) -> str:
    """The page: a table for each interval."""
    errors = {name: max(found["standard_error"] for found in of(record, name)) for name in INTERVALS}
    text = HEAD.format(
        times=of(record, "mean_interval")[0]["repetitions"],
        fewer=of(record, "noise_budget")[0]["repetitions"],
        error=_short(max(error for name, error in errors.items() if name != "noise_budget"), digits=3),
        larger=_short(errors["noise_budget"], digits=3),
    )
    for name, about in INTERVALS.items():
        rows = of(record, name)
        counted = ["ratio of chips"] if "chips_to_fixed" in rows[0] else []
        head = ["simulated", "holds the truth", *rows[0]["beside"], *counted]
        lines = []
        for found in rows:
            chips = [f"{found['chips_to_fixed']:.1f}"] if counted else []
            shares = map(_short, (found["coverage"], *found["beside"].values()))
            lines.append([found["simulated"], *shares, *chips])
        text += f"\n## {name}\n\n{about}\n\n{table(head, lines)}\n"
    return text


def of(record: dict[str, Any], interval: str) -> list[Row]:
    """The rows of an interval."""
    return [found for found in record["rows"] if found["interval"] == interval]


def _short(share: float, digits: int = 2) -> str:
    """A share without the zero before its point; with a third digit where two would say that it is 1."""
    if share >= 0.9995:
        return "1.0"
    return f"{share:.{3 if share >= 0.995 else digits}f}".removeprefix("0")


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "mean": mean_rows,
    "yield": yield_rows,
    "stopping": stopping_rows,
    "betting": betting_rows,
    "crossed": crossed_rows,
    "pairs": pair_rows,
    "equal": equal_rows,
    "few": few_rows,
    "budget": budget_rows,
    "ranks": rank_rows,
}


def renewed(record: dict[str, Any], part: str, rows: list[Row], run: dict[str, Any]) -> dict[str, Any]:
    """A record with the rows of one part replaced; what those ran on is kept under "again", by part."""
    names = {found["interval"] for found in rows}
    old = record["rows"]
    at = next((i for i, found in enumerate(old) if found["interval"] in names), len(old))
    others = [[found for found in side if found["interval"] not in names] for side in (old[:at], old[at:])]
    again = {**record.get("again", {}), part: run}
    return {**record, "again": again, "rows": [*others[0], *rows, *others[1]]}


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if arguments.page:
        PAGE.write_text(page(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    run: dict[str, Any] = {"environment": vars(environment())}  # before any compute: the commit that is simulated
    rows: list[Row] = []
    for name, part in PARTS.items():
        if arguments.only not in (None, name):
            continue
        for found in part(arguments.repetitions):
            rows.append(found)
            extra = {k: v for k, v in found.items() if k not in ("interval", "simulated", "repetitions", "beside")}
            numbers = ", ".join(f"{k} {v:.3f}" for k, v in {**extra, **found["beside"]}.items())
            print(f"{found['interval']}: {found['simulated']}: {numbers}", flush=True)
    if arguments.repetitions >= 4000:
        run["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        if arguments.only is None:
            content = {**run, "seed": SEED, "rows": rows}
        else:
            content = renewed(json.loads(RECORD.read_text(encoding="utf-8")), arguments.only, rows, run)
        RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
