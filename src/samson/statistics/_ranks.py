"""Ranks of methods over several data sets, and how far apart they must be."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samson._checks import require, require_between
from samson.records import Interval
from samson.statistics._student import expanded_tail

RESAMPLES = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class MeanRank:
    """A method's mean rank over blocks; 1 is best.

    Args:
        interval: The mean, with an interval over training seeds: what other networks, trained alike, would give.
        wins: Blocks in which it is first, alone or with others.
        blocks: Number of blocks.
    """

    interval: Interval
    wins: int
    blocks: int


def mean_ranks(
    blocks: Sequence[Mapping[str, Sequence[float]]],
    *,
    networks: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> dict[str, MeanRank]:
    """Rank methods in each block by their means over seeds, and average the ranks; ties share theirs.

    The interval is from percentiles of ranks after the seeds were drawn anew, with replacement, within each block and
    method; blocks of the same networks have the same draw. Percentiles are expanded for few seeds, by the fewest of a
    method (`benchmarks/coverage.py` has how often it holds). It does not speak of other data sets: that two lie apart
    does not show that methods differ there, `critical_difference` does.

    Args:
        blocks: For each block, such as a data set, the value of each method's networks, one a training seed; larger is
            better. Only methods that every block has are ranked.
        networks: For each block, a label of its networks: blocks with the same label, such as one data set on several
            families of chips, are of the same networks in the same order. None is other networks in each block.
        confidence: Of the intervals.

    Raises:
        ValueError: If there is no block, no method that all blocks have, a value is NaN, or labels do not fit blocks.

    Example:
        >>> found = mean_ranks([{"a": [0.9], "b": [0.8]}, {"a": [0.5], "b": [0.7]}])
        >>> found["a"].interval.mean, found["a"].wins
        (1.5, 1)
    """
    require(len(blocks) > 0, "blocks", "be at least one", blocks)
    require_between(0, 1, confidence=confidence)
    methods = [name for name in blocks[0] if all(len(block.get(name, ())) for block in blocks)]
    require(len(methods) > 0, "blocks", "have a method in common", [list(block) for block in blocks])
    for name in methods:
        for block in blocks:
            require(not np.isnan(block[name]).any(), "blocks", f"hold numbers for {name!r}", block[name])
    means = rounded(np.array([[np.mean(block[name]) for name in methods] for block in blocks]))
    labels = range(len(blocks)) if networks is None else networks
    require(len(labels) == len(blocks), "networks", f"be one label for each of {len(blocks)} blocks", networks)
    generator = np.random.default_rng(0)
    drawn = np.zeros((RESAMPLES, len(methods)))
    picks: dict[tuple[Hashable, str], NDArray[np.int_]] = {}
    for label, block in zip(labels, blocks, strict=True):
        columns = []
        for name in methods:
            values = np.asarray(block[name], dtype=np.float64)
            if (label, name) not in picks:
                picks[label, name] = generator.integers(len(values), size=(RESAMPLES, len(values)))
            pick = picks[label, name]
            rule = f"hold as many networks of {name!r} wherever the label is {label!r}"
            require(pick.shape[1] == len(values), "blocks", rule, block[name])
            columns.append(values[pick].mean(axis=1))
        drawn += _ranks(rounded(np.stack(columns, axis=1)))
    ranks = _ranks(means)
    ordered = np.sort(drawn / len(blocks), axis=0)
    seeds = min(pick.shape[1] for pick in picks.values())
    tail = int(expanded_tail(seeds, confidence, len({*labels})) * RESAMPLES)
    return {
        name: MeanRank(
            Interval(float(mean), float(min(low, mean)), float(max(high, mean))),
            int((means[:, place] == means.max(axis=1)).sum()),
            len(blocks),
        )
        for place, (name, mean, low, high) in enumerate(
            zip(methods, ranks.mean(axis=0), ordered[tail], ordered[-1 - tail], strict=True)
        )
    }


def critical_difference(methods: int, blocks: int) -> float:
    """The difference of two mean ranks beyond which methods differ on other data sets too (Nemenyi, at .05).

    CD = q·√(k(k + 1) / (6N)), with q the upper .05 point of the studentised range of k groups over √2. For two methods
    it is that of the exact sign test, which needs 6 data sets to tell anything.

    Args:
        methods: k ≥ 2.
        blocks: N ≥ 2 data sets, independent of one another.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25

    Reference: Demšar 2006, Journal of Machine Learning Research 7, section 3.2.2.
    """
    require(methods >= 2, "methods", "be at least 2", methods)
    require(blocks >= 2, "blocks", "be at least 2", blocks)
    if methods == 2:
        from scipy.special import bdtr  # slow to import

        losses = sum(bool(2 * bdtr(count, blocks, 0.5) <= LEVEL) for count in range(blocks)) - 1
        return 1 - (2 * losses + 1) / blocks + 1e-9  # with a tie, mean ranks may lie that far apart but for rounding
    q = _upper_studentized_range(methods) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def _upper_studentized_range(groups: int) -> float:
    """Where the range of k normal variables stays below with 1 − `LEVEL`: P(q) = k·∫ φ(z)·(Φ(z + q) − Φ(z))ᵏ⁻¹ dz.

    That of scipy takes a second, with its import.
    """
    from scipy.special import ndtr  # slow to import

    z, width = np.linspace(-9, 9, 301, retstep=True)  # so smooth that the trapezoid rule is exact
    density, below = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), ndtr(z)
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        q = (low + high) / 2
        probability = groups * width * float(density @ (ndtr(z + q) - below) ** (groups - 1))
        low, high = (q, high) if probability < 1 - LEVEL else (low, q)
    return q


def rounded(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same to 12 digits: those are equal that differ by nothing but the order in which values were added."""
    fractions, exponents = np.frexp(means)
    return np.ldexp(np.round(fractions, 12), exponents)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks within rows, 1 for the largest; ties have the mean of theirs."""
    larger = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return np.asarray(1 + larger + (equal - 1) / 2, dtype=np.float64)
