"""MNIST and its drop-in replacement, from files in the idx format."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samson.experiments.data._files import find, reading
from samson.experiments.data._loading import Pair
from samson.experiments.data._splits import Splits, split_off


def mnist(root: Path) -> Splits:
    """70,000 grey images of handwritten digits, 28 x 28 pixels: 55,000 train, 5,000 validation, 10,000 test.

    Nothing is augmented by default: mirrored digits are other signs.

    Reference: LeCun et al. 1998, Gradient-based learning applied to document recognition, Proceedings of the IEEE 86.
    """
    folders = ("MNIST/raw", "MNIST", "mnist", "mnist/raw", "")
    train, test = _both("mnist", root, folders, "https://yann.lecun.com/exdb/mnist/")
    return Splits(*split_off(train, share=12), test, outputs=10, mean=(0.1307,), std=(0.3081,))


def fashion_mnist(root: Path) -> Splits:
    """70,000 grey images of clothes, 28 x 28 pixels, 10 classes: 55,000 train, 5,000 validation, 10,000 test.

    Crops and mirror images are used in training by default: both show the same piece of clothing.

    Reference: Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747).
    """
    folders = ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion-mnist/raw", "")
    train, test = _both("fashion-mnist", root, folders, "https://github.com/zalandoresearch/fashion-mnist")
    rest, validation = split_off(train, share=12)
    return Splits(rest, validation, test, outputs=10, mean=(0.2860,), std=(0.3530,), augment=("crop", "flip"))


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes in an idx file, gzipped or not: a head of 4 bytes, big-endian lengths of the dimensions, the values.

    Raises:
        ValueError: If it is no such file.
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"it is no idx file of bytes in {dimensions} dimensions")
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(shape).copy())


def _both(data: str, root: Path, folders: tuple[str, ...], page: str) -> tuple[Pair, Pair]:
    """The training and the test examples, all from one folder."""
    first = "train-images-idx3-ubyte"
    folder = find(data, root, folders, (f"{first}.gz", first), page).parent

    def values(name: str, dimensions: int) -> Tensor:
        path = find(data, folder, ("",), (f"{name}.gz", name), page)
        with reading(path, f"Get it again from {page}."):
            return read_idx(path, dimensions)

    def pair(part: str) -> Pair:
        return values(f"{part}-images-idx3-ubyte", 3).unsqueeze(1), values(f"{part}-labels-idx1-ubyte", 1).long()

    return pair("train"), pair("t10k")
