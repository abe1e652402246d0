"""The data sets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from samson.experiments.data._cifar import cifar10, cifar100
from samson.experiments.data._files import package
from samson.experiments.data._idx import fashion_mnist, mnist
from samson.experiments.data._splits import SPLIT_SEED, Splits
from samson.experiments.data._text import tiny_shakespeare
from samson.experiments.data._vowels import japanese_vowels


def digits(_root: Path) -> Splits:
    """The 1,797 images of handwritten digits that ship inside scikit-learn, 8 x 8 pixels, values 0 to 1.

    Split at random with a fixed seed: 60 % train (1,078), 20 % validation (360), 20 % test (359).

    Reference: E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, UCI machine learning repository.
    """
    bunch = package("sklearn.datasets", "digits", extra="cli").load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.target))
    inputs = torch.from_numpy(bunch.images[order]).to(torch.float32).div(16).unsqueeze(1)
    targets = torch.from_numpy(bunch.target[order]).to(torch.int64)
    first, second = round(0.6 * len(order)), round(0.8 * len(order))
    parts = [(inputs[a:b], targets[a:b]) for a, b in ((0, first), (first, second), (second, None))]
    return Splits(parts[0], parts[1], parts[2], outputs=10)


DATA: dict[str, Callable[[Path], Splits]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny-shakespeare": tiny_shakespeare,
    "japanese-vowels": japanese_vowels,
}
"""The catalogue of data sets: each is loaded from the folder where its files are looked for."""
