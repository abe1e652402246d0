"""CIFAR-10 and CIFAR-100, from any of the forms in which they are handed on."""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import numpy as np
import torch

from samson._errors import require
from samson.experiments.data._files import channels_first, find, package, read_arrays, reading
from samson.experiments.data._loading import Pair
from samson.experiments.data._splits import Splits, split_off

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PYTHON_MD5 = {10: "c58f30108f718f92721af3b95e74349a", 100: "eb9058c3a382ffc7106e4002c42a8d85"}
"""Of the official archives of pickles, by their number of classes."""


@dataclass(frozen=True)
class Edition:
    """What one of the two sets is called in its files: folders of the binary and the Python form, and files in them."""

    classes: int
    binary: str
    python: str
    train: tuple[str, ...]
    test: str
    python_labels: bytes


TEN = Edition(
    10,
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    tuple(f"data_batch_{n}" for n in range(1, 6)),
    "test_batch",
    b"labels",
)
HUNDRED = Edition(100, "cifar-100-binary", "cifar-100-python", ("train",), "test", b"fine_labels")


def cifar10(root: Path) -> Splits:
    """60,000 colour images of 10 classes, 32 x 32 pixels: 45,000 train, 5,000 validation, 10,000 test.

    Reference: Krizhevsky 2009, Learning multiple layers of features from tiny images, technical report, Toronto.
    """
    return _splits(TEN, root, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def cifar100(root: Path) -> Splits:
    """60,000 colour images of 100 classes, 32 x 32 pixels: 45,000 train, 5,000 validation, 10,000 test.

    Reference: Krizhevsky 2009, Learning multiple layers of features from tiny images, technical report, Toronto.
    """
    return _splits(HUNDRED, root, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def _splits(edition: Edition, root: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> Splits:
    name = f"cifar{edition.classes}"
    readers: dict[str, Callable[[Path, Edition], tuple[Pair, Pair]]] = {
        edition.binary: _folder,
        f"cifar-{edition.classes}-binary.tar.gz": _archive,
        f"{name}.npz": _arrays,
        **({"train_0.png": _sheets} if edition is TEN else {}),
        f"cifar-{edition.classes}-python.tar.gz": _python_archive,  # last, so that any other form is a way out
    }
    path = find(name, root, ("", name, name.upper()), list(readers), PAGE)
    with reading(path, f"Get it again from {PAGE}."):
        train, test = readers[path.name](path, edition)
    rest, validation = split_off(train)
    return Splits(rest, validation, test, edition.classes, mean=mean, std=std, augment=("crop", "flip"))


def _folder(path: Path, edition: Edition) -> tuple[Pair, Pair]:
    return _records(lambda name: (path / name).read_bytes(), edition)


def _archive(path: Path, edition: Edition) -> tuple[Pair, Pair]:
    with tarfile.open(path) as archive:
        return _records(lambda name: _member(archive, f"{edition.binary}/{name}"), edition)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} in it is no file")
    return file.read()


def _records(read: Callable[[str], bytes], edition: Edition) -> tuple[Pair, Pair]:
    """Of the binary form: a label, for 100 classes after one of 20 coarser ones, and three planes of 32 x 32 pixels."""
    first = 1 if edition.classes == 10 else 2

    def pair(names: tuple[str, ...]) -> Pair:
        content = np.frombuffer(b"".join(read(f"{name}.bin") for name in names), np.uint8)
        records = torch.from_numpy(content.reshape(-1, first + 3072).copy())
        return records[:, first:].reshape(-1, 3, 32, 32), records[:, first - 1].long()

    return pair(edition.train), pair((edition.test,))


def _arrays(path: Path, edition: Edition) -> tuple[Pair, Pair]:
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
    train, test = ((channels_first(arrays[f"x_{p}"]), arrays[f"y_{p}"].flatten().long()) for p in ("train", "test"))
    return train, test


def _sheets(path: Path, edition: Edition) -> tuple[Pair, Pair]:
    """Sheets of tiles of 32 x 32 pixels, row by row, with their labels beside them."""
    image = package("PIL.Image", "A sheet of images")

    def pair(names: list[str]) -> Pair:
        sheets = [torch.from_numpy(np.array(image.open(path.with_name(f"{n}.png")).convert("RGB"))) for n in names]
        tiles = [s.view(len(s) // 32, 32, -1, 32, 3).permute(0, 2, 4, 1, 3).flatten(0, 1) for s in sheets]
        labels = [np.load(path.with_name(f"{name}_labels.npy"), allow_pickle=False) for name in names]
        return torch.cat(tiles), torch.from_numpy(np.concatenate(labels)).long()

    return pair([f"train_{number}" for number in range(5)]), pair(["test"])


def _python_archive(path: Path, edition: Edition) -> tuple[Pair, Pair]:
    """Of the form with pickles, which can run any code when they are read: so of the official archive only."""
    content = path.read_bytes()
    require(
        md5(content, usedforsecurity=False).hexdigest() == PYTHON_MD5[edition.classes],
        "`data`",
        "the official archive, since another one of this form could run code",
        str(path),
        f"Get cifar-{edition.classes}-binary.tar.gz from {PAGE}, which holds no code.",
    )
    with tarfile.open(fileobj=io.BytesIO(content)) as archive, warnings.catch_warnings(action="ignore"):

        def pair(names: tuple[str, ...]) -> Pair:
            parts = [pickle.loads(_member(archive, f"{edition.python}/{name}"), encoding="bytes") for name in names]
            images = torch.from_numpy(np.concatenate([part[b"data"] for part in parts])).view(-1, 3, 32, 32)
            return images, torch.tensor([label for part in parts for label in part[edition.python_labels]])

        return pair(edition.train), pair((edition.test,))
