"""Validation examples split off the training examples at random, with a fixed seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from samson._errors import require
from samson.experiments.data._pictures import Pictures
from samson.experiments.data._splits import Split, length

SPLIT_SEED = 2211
"""Seed of every split; part of each data set's definition."""


def divide(count: int, part: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of `count` examples that stay in training and of the `part` that validate, both in order."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[part:].sort().values, order[:part].sort().values


def split_off(train: Split, share: int = 10) -> tuple[Split, Split]:
    """Split validation examples off the training examples: one in `share`, and at least one.

    Raises:
        SetupError: If there are fewer than two.
    """
    count = length(train)
    require(count >= 2, "`data`", "a set of two training examples at least", count, "Give a `validation` split too.")
    first, second = (_part(train, numbers) for numbers in divide(count, max(1, round(count / share)), SPLIT_SEED))
    return first, second


def _part(split: Split, numbers: Tensor) -> Split:
    if isinstance(split, tuple):
        return split[0][numbers], split[1][numbers]
    if isinstance(split, Pictures):
        return split.part(numbers)
    return Subset(split, numbers.tolist())
