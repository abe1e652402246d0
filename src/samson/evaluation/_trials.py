"""Monte-Carlo evaluation of one model on many chips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
from torch import nn

from samson._batches import Examples
from samson.evaluation._question import MAX_TRIALS, Question
from samson.evaluation._result import Evaluation
from samson.evaluation._scoring import Scores, value_of
from samson.evaluation._setting import Noise, Prepared, Setting, WithoutNoise, prepare, takes_setting
from samson.evaluation._subject import kind_of, subject_of
from samson.evaluation._watch import require_as_many
from samson.records import Interval
from samson.statistics import (
    CONFIDENCE,
    FIRST_LOOK,
    About,
    Stopping,
    components,
    next_look,
    t_quantile,
)


@dataclass(frozen=True)
class Progress:
    """How far an evaluation has come.

    Args:
        done: Chips so far.
        planned: Chips until the next look at the interval, or in all.
        largest: Chips at most.
        interval: What the first 2, 5, 10, 20, 30, … chips say; above 100 it is taken anew when they are a tenth more.
    """

    done: int
    planned: int
    largest: int
    interval: Interval | None


@takes_setting
def evaluate(
    model: nn.Module,
    data: Examples,
    noise: Noise,
    *,
    trials: int | None = None,
    precision: float | None = None,
    max_trials: int = MAX_TRIALS,
    stopping: Stopping = "looks",
    about: About = "test_set",
    confidence: float = CONFIDENCE,
    progress: Callable[[Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Evaluation:
    """Measure a model on simulated chips.

    The model is not converted and comes back bitwise as it was, and so does global random state, which begins
    each chip alike: a DataLoader that shuffles gives the same order for every chip, also by a generator of its own, and
    a model that draws in evaluation mode draws the same, whatever the global seed. Last comes a pass without noise, for
    `result.clean` and `result.drop`. A process measures one model at a time, also where it has several threads: these
    share the random state and other settings of torch.

    Args:
        model: Any model whose output the metric can look at.
        data: A pair of whole tensors (inputs, targets), a data set, a DataLoader or any iterable of batches; a batch is
            (inputs, targets) or a dict with labels.
        noise: What the hardware does to a weight, or a whole chip (`preset("pcm")`) with its periphery.
        trials: Number of chips, at least 2; 20 by default.
        precision: Instead of `trials`: draw chips until the interval's half-width is at most this.
        max_trials: Chips at most, with `precision`; `result.reached` says whether it was reached.
        stopping: With `precision`, "looks" takes the interval at 10, 20, 40, … chips, at levels that allow for it
            (`next_look`); "betting" takes, at every tenth chip, one that holds for any distribution
            (`betting_interval`).
        about: What the interval speaks of: other chips, for these very examples ("test_set"), or other chips and
            other examples of the same kind ("population").
        confidence: Of the interval, between 0 and 1.
        progress: Called after each chip.
        setting: What is measured, which layers lie on which chips, and where trials run (see `Setting`).

    Raises:
        ValueError: If an argument is out of range, the model has nothing to put on a chip, or there are no examples;
            for a population, if the metric has no value for each example, or if `precision` is finer than these
            examples allow with any number of chips.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> result = evaluate(nn.Linear(4, 3), data, Gaussian(0.1), trials=5)
        >>> len(result.trials)
        5
    """
    question = Question(trials, precision, max_trials, stopping, about, confidence)
    question.check(setting)
    prepared = prepare(model, data, noise, **setting)
    found = with_clean(drawn(prepared, question, progress), prepared.clean())
    return replace(found, subject=subject_of(found, model, data, setting))


def chips_alone(
    model: nn.Module,
    data: Examples,
    noise: Noise,
    *,
    trials: int,
    progress: Callable[[Progress], None] | None = None,
    **setting: Unpack[Setting],
) -> Evaluation:
    """What `evaluate` gives for a number of chips, but for the pass without noise."""
    return drawn(prepare(model, data, noise, **setting), Question(trials), progress)


def drawn(prepared: Prepared, asked: Question, progress: Callable[[Progress], None] | None) -> Evaluation:
    """The answer to a question, but for the pass without noise."""
    task, precision, largest = prepared.task, asked.precision, asked.largest
    task.watch.ordered = asked.about == "population"
    look = asked.first_look()
    start = Evaluation(
        (),
        task.metric,
        asked.about,
        None,
        asked.confidence,
        asked.confidence,
        asked.stopping,
        precision=precision,
        layout=task.layout,
        coverage=prepared.coverage,
        kind=kind_of(task),
    )
    rows: list[Scores] = []
    shown, seen = None, 0
    while True:
        for row in prepared.executor.run(task, range(len(rows), look.size)):
            rows.append(row)
            if len(rows) == 2 and asked.about == "population":
                _check_examples(rows, precision, asked.confidence)
            if progress is not None:
                if (len(rows) in (2, 5) or len(rows) % 10 == 0) and 10 * len(rows) >= 11 * seen:
                    shown, seen = _result(start, rows, look.confidence).interval, len(rows)
                progress(Progress(len(rows), look.size, largest, shown))
        result = _result(start, rows, look.confidence)
        if precision is None or result.reached or look.size == largest or _floor(result) > precision:
            return result
        if asked.stopping == "betting":
            look = replace(look, size=min(look.size + FIRST_LOOK, largest))
        else:
            look = next_look(look, result.interval.half_width, precision, largest, asked.confidence)


def with_clean(found: Evaluation, clean: WithoutNoise) -> Evaluation:
    """The evaluation with what a pass without noise says."""
    scores = clean.scores
    return replace(
        found,
        coverage=clean.coverage,
        clean=value_of(scores),
        clean_scores=None if isinstance(scores, float) else scores,
    )


def _result(start: Evaluation, rows: Sequence[Scores], confidence: float) -> Evaluation:
    tables = [row for row in rows if isinstance(row, np.ndarray)]
    require_as_many(map(len, tables))
    return replace(
        start,
        trials=tuple(value_of(row) for row in rows),
        scores=np.stack(tables) if tables else None,
        look_confidence=confidence,
    )


def _floor(result: Evaluation) -> float:
    """The half-width that no number of chips can go below: that of the examples alone."""
    if result.about == "test_set" or result.scores is None:
        return 0.0
    parts = components(result.scores)
    alone = max(0.0, parts[(1,)].variance - parts[(0, 1)].variance)  # what is left of S_e with ever more chips
    return t_quantile(parts[(1,)].degrees, (1 + result.confidence) / 2) * math.sqrt(alone)


def _check_examples(rows: Sequence[Scores], precision: float | None, confidence: float) -> None:
    """From two chips: whether examples are enough for an interval, and for its precision with any number of chips."""
    first, second = (np.asarray(row, dtype=np.float64) for row in rows)
    examples = len(first)
    if examples < 2:
        raise ValueError("`data` must hold at least 2 examples for a population, got 1. Use more, or about='test_set'.")
    if precision is None:
        return
    # The mean product estimates the variance between examples' means over all chips; it is at least three standard
    # errors less.
    products = (first - first.mean()) * (second - second.mean())
    least = float(products.mean() - 3 * products.std(ddof=1) / math.sqrt(examples))
    floor = t_quantile(examples - 1, (1 + confidence) / 2) * math.sqrt(max(0.0, least) / examples)
    if floor > precision:
        raise ValueError(
            f"`precision` must be at least {floor:.2g} for a population, got {precision}: by the first two chips, that "
            f"is what these {examples} examples leave open whatever the number of chips. Use more examples, or "
            "about='test_set'."
        )
