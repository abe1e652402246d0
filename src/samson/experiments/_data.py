"""Data sets by name, split once and for all into train, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]

SPLIT_SEED = 2211
"""Seed of the split of the digits; part of the data set's definition."""


@dataclass(frozen=True)
class Splits:
    """A data set in memory.

    Args:
        train: Inputs of shape (n, channels, height, width), float32, and class numbers of shape (n,), int64.
        validation: The same; chooses hyper-parameters.
        test: The same; is only ever reported.
        classes: Number of classes.
    """

    train: Pair
    validation: Pair
    test: Pair
    classes: int


def digits() -> Splits:
    """The 1,797 images of handwritten digits that ship inside scikit-learn, 8 x 8 pixels, values 0 to 1.

    Split at random with a fixed seed: 60 % train (1,078), 20 % validation (360), 20 % test (359).

    Reference: E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, UCI machine learning repository.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("The digits need scikit-learn: pip install 'samson-torch[cli]'.") from error
    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.target))
    inputs = torch.from_numpy(bunch.images[order]).to(torch.float32).div(16).unsqueeze(1)
    targets = torch.from_numpy(bunch.target[order]).to(torch.int64)
    first, second = round(0.6 * len(order)), round(0.8 * len(order))
    parts = [(inputs[a:b], targets[a:b]) for a, b in ((0, first), (first, second), (second, None))]
    return Splits(parts[0], parts[1], parts[2], classes=10)


DATA: dict[str, Callable[[], Splits]] = {"digits": digits}
"""The catalogue of data sets."""
