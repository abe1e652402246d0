"""The noise budget: the largest noise that costs a network at most so much."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Unpack, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from samson._batches import Examples
from samson._checks import is_number, require, require_between, require_whole
from samson.evaluation._budget_result import Budget, Criterion
from samson.evaluation._metric import NotFiniteError, require_possible
from samson.evaluation._question import TRIALS, Question
from samson.evaluation._result import Evaluation, rounding
from samson.evaluation._scoring import value_of
from samson.evaluation._setting import Noise, Setting, parts_of, prepare, takes_setting
from samson.evaluation._subject import kind_of, subject_of
from samson.evaluation._trials import Progress, drawn, with_clean
from samson.evaluation._watch import Watch
from samson.noise import RATES, BitErrors, ChipModel, Quantize, WeightNoise
from samson.records import Interval
from samson.statistics import CONFIDENCE, ROUNDING, crossing, fixed_sequence

LEVELS = 8
"""Levels of a budget's grid."""
REFINEMENTS = 6
"""Levels that narrow the crossing down at most."""


@takes_setting
def noise_budget(
    model: nn.Module,
    data: Examples,
    family: Callable[[float], Noise],
    low: float,
    high: float,
    *,
    max_drop: float = 0.01,
    relative: bool = False,
    criterion: Criterion = "mean",
    min_yield: float = 0.9,
    confidence: float = CONFIDENCE,
    trials: int = TRIALS,
    levels: int = LEVELS,
    refinements: int = REFINEMENTS,
    progress: Callable[[float, Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Budget:
    """Find the largest noise that costs at most `max_drop`.

    Levels rise in equal ratios from `low` to `high`, on the same chips, until the level at which the mean just crosses
    the limit (`crossing`) is known with its interval; the budget is the largest of them up to which every one holds
    with confidence (`samson.statistics.fixed_sequence`). Then the crossing is narrowed down by `refinements` more
    levels, at the ends of its interval and at the estimate in turn.

    Where the crossing is known (`benchmarks/coverage.py`), a 95 % interval holds it in .93–.94 of 1,000 simulated
    budgets at 20 and 50 chips; that of a yield of 90 % in .90–.92 at 29 chips, .93 at 50 and .94 at 100. The
    budget was a level 2 % above the crossing in at most .05 of 4,000 with 8 to 50 chips, in up to .07 with 5
    (`samson.statistics.upper_limit` says for which).

    With `norm_data`, batch-norm statistics are estimated anew on every chip, but the value without noise is that of the
    model with its own.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`; the drop is against the model without noise on these same examples.
        family: Gives a noise from a level: `Gaussian`, `BitErrors`, `lambda t: PCM(time_s=t)`.
        low: The lowest level, > 0.
        high: The highest level.
        max_drop: How much worse than without noise is allowed, in the metric's unit (0.01 is a point of accuracy).
        relative: Whether `max_drop` is a fraction of the value without noise.
        criterion: "mean" is about the mean over chips, "yield" about the share of chips.
        min_yield: For "yield": the share of chips that must keep to `max_drop`, between 0 and 1.
        confidence: Of the limit and of the interval, between 0 and 1.
        trials: Number of chips, at least 2.
        levels: Levels of the grid, at least 2.
        refinements: Levels after those, ≥ 0.
        progress: Called after each chip, with the level.
        setting: As for `evaluate` (see `Setting`).

    Raises:
        ValueError: If an argument is out of range; if `time_s` is set and levels are times; if so few chips could not
            show the yield even if all were good; if the value without noise is 0 and the drop relative; or as for
            `evaluate`.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> budget = noise_budget(nn.Linear(4, 3), data, Gaussian, 0.001, 1.0, max_drop=0.05, trials=5)
        >>> 0.001 <= (budget.holds_up_to or 0.001) <= 1.0
        True
    """
    _check(low, high, max_drop, relative, criterion, min_yield, confidence, trials, levels, refinements)
    made = _rising(family, low, high)
    unit = unit_of(made, low)
    if unit == "s" and setting.get("time_s") is not None:
        raise ValueError(
            f"`time_s` must be None where the levels are times, got {setting['time_s']!r}: every level would be read "
            "at that time. Leave it out, or give a family whose level is not a time."
        )
    prepared = prepare(model, data, family(low), **setting)
    metric = prepared.task.metric
    require_possible(max_drop, metric, relative=relative)
    without_noise = prepared.clean()
    clean = value_of(without_noise.scores)
    if relative and clean == 0:
        raise ValueError(
            f"`relative` must be False where the value without noise is 0, got {clean!r}: a fraction of it is no drop. "
            "Give `max_drop` in the metric's unit."
        )
    named = replace(kind_of(prepared.task), label=type(prepared.task.noise).__name__)
    sign = (1 if metric.higher_is_better else -1) / (abs(clean) if relative else 1)
    threshold = max_drop if criterion == "mean" else 1 - min_yield
    found: dict[float, Evaluation] = {}

    def curve(level: float) -> NDArray[Any]:
        """What is limited, for each chip: the drop, or whether it is too large."""
        if level not in found:
            noise, around = parts_of(_made(family, level), setting.get("periphery"))
            # Each level is looked at anew: noise of a lower one may have changed no weight.
            task = replace(prepared.task, noise=noise, periphery=around, watch=Watch())
            of_level = replace(prepared, task=task, executor=prepared.executor.named(repr(level)))
            try:
                result = drawn(of_level, Question(trials), None if progress is None else partial(progress, level))
            except NotFiniteError as error:
                raise NotFiniteError(
                    f"`high` must leave outputs finite at each level that is measured, but at {level:g}: {error} Or "
                    "give a lower `high`."
                ) from error
            found[level] = with_clean(result, without_noise)
        drops = sign * (clean - np.asarray(found[level].trials))
        slack = ROUNDING + rounding([clean]) * abs(sign)  # drops are of the value where `relative`
        return drops if criterion == "mean" else drops > max_drop + slack

    grid = np.geomspace(low, high, levels).tolist()

    def cross() -> Interval:
        """The crossing; higher levels of the grid are measured for as long as an end of it lies above them."""
        while True:
            measured = sorted(found)
            curves = np.stack([curve(x) for x in measured]).astype(np.float64)
            at = crossing(measured, curves, threshold, confidence)
            above = [x for x in grid if x > measured[-1]]
            if not above or max(at.mean, at.high) < math.inf:
                return at
            curve(above[0])

    curve(low)
    at = cross()
    for number in range(refinements):
        wanted = (at.low, at.high, at.mean)[number % 3]
        # The crossing is exp(log(level)): at a level that is known it may lie a rounding error beside it.
        if 0 < wanted < math.inf and not any(math.isclose(wanted, level) for level in found):
            curve(wanted)
            at = cross()
    tested = [x for x in grid if x in found]
    step = found[low].resolution * abs(sign)
    held = fixed_sequence(tested, np.stack([curve(x) for x in tested]), threshold, confidence, resolution=step)
    return Budget(
        held or None,
        at,
        low,
        high,
        clean,
        dict(sorted(found.items())),
        max_drop,
        relative,
        criterion,
        min_yield,
        confidence,
        unit,
        metric,
        str(named if unit != "s" else replace(named, time_s=None)),
        made.rates_by_voltage if isinstance(made, BitErrors) else RATES,
        subject_of(found[low], model, data, setting),
    )


def _rising(family: Callable[[float], Noise], low: float, high: float) -> WeightNoise:
    """The noise of the lowest level; that of the highest is looked at before compute, too."""
    made, most = (parts_of(_made(family, level))[0] for level in (low, high))
    if isinstance(made, BitErrors) and isinstance(most, BitErrors) and (made.voltage or 0) < (most.voltage or 0):
        raise ValueError(
            f"`family` must give more noise at a higher level, got bit errors at a higher voltage, {most.voltage!r}. "
            "Give `lambda rate: BitErrors(rate, rates_by_voltage=…)`: `voltage` of the budget is its rate's."
        )
    bits = [one.bits for one in (made, most) if isinstance(one, BitErrors | Quantize)]
    if len(bits) == 2 and bits[0] < bits[1]:
        raise ValueError(
            "`family` must give more noise at a higher level, got more bits at a higher level, "
            f"{bits[0]} and {bits[1]}. Evaluate each number of bits: there are at most seven."
        )
    return made


def _made(family: Callable[[float], Noise], level: float) -> Noise:
    makes = callable(family) and not isinstance(family, WeightNoise | ChipModel)  # a noise itself takes no level
    found = family(level) if makes else None
    if not isinstance(found, WeightNoise | ChipModel):
        raise TypeError(
            f"`family` must give a noise from a level, such as Gaussian or lambda t: PCM(time_s=t), got {family!r:.80}."
        )
    return found


def unit_of(noise: WeightNoise, level: float) -> str:
    """What a level is from which a noise was made: "bit error rate", "s" for an age, or "level"."""
    if isinstance(noise, BitErrors) and noise.rate == level:
        return "bit error rate"
    return "s" if noise.default_time_s == level else "level"


def _check(
    low: float,
    high: float,
    max_drop: float,
    relative: bool,
    criterion: str,
    min_yield: float,
    confidence: float,
    trials: int,
    levels: int,
    refinements: int,
) -> None:
    if not (is_number(low) and is_number(high) and 0 < low < high < math.inf):
        raise ValueError(f"`low` and `high` must be levels with 0 < low < high, got {low!r} and {high!r}.")
    require(is_number(max_drop) and 0 <= max_drop < math.inf, "max_drop", "be ≥ 0", max_drop)
    require(isinstance(relative, bool), "relative", "be True or False", relative)
    require(criterion in get_args(Criterion), "criterion", "be 'mean' or 'yield'", criterion)
    require_between(0, 1, min_yield=min_yield, confidence=confidence)
    require_whole(2, trials=trials, levels=levels)
    require_whole(0, refinements=refinements)
    needed = math.ceil(math.log(1 - confidence) / math.log(min_yield))
    if criterion == "yield" and trials < needed:
        raise ValueError(
            f"`trials` must be at least {needed} to show a yield of {min_yield:g} with {100 * confidence:g}%, even if "
            f"every chip is good; got {trials}."
        )
