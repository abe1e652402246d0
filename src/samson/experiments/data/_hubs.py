"""Data sets of torchvision and of the Hugging Face hub, in the form that `splits_from` takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samson._errors import SetupError, choose, require
from samson.experiments.data._files import channels_first, package
from samson.experiments.data._loading import Pair
from samson.experiments.data._pictures import MEAN, STD, Pictures, Rows
from samson.experiments.data._splits import Split

SMALL = 64
"""Pixels: pictures whose sides are no longer are held in memory as they are, others become 224 x 224."""
BYTES = 256
"""Tokens in a text that is to be classified."""


def from_torchvision(name: str, root: Path) -> dict[str, Any]:
    """A data set of torchvision that lies in the root folder already; nothing is downloaded.

    Args:
        name: Of a class in `torchvision.datasets` with an argument `train`, or else `split`.
        root: Its folder.

    Raises:
        SetupError: If there is no such class, or its files are not there.
    """
    sets = package("torchvision.datasets", f"torchvision/{name}", extra="vision")
    make = getattr(sets, choose("`data`: in torchvision.datasets", name, sets.__all__))
    trains = "train" in inspect.signature(make).parameters
    try:
        parts = {
            p: make(str(root), download=False, **({"train": p == "train"} if trains else {"split": p}))
            for p in ("train", "test")
        }
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        mend = f"Get it with torchvision.datasets.{name}(ROOT, download=True), or set another folder with `data_root`."
        raise SetupError(f"`data` 'torchvision/{name}' is not in {str(root)!r}: {error}\n{mend}") from error
    return _of_pictures(parts, len(getattr(parts["train"], "classes", ())))


def from_hub(name: str) -> dict[str, Any]:
    """A data set of the Hugging Face hub with columns `image` or `img`, or else `text`, and `label`.

    A text becomes 256 tokens, its first bytes plus 1, with zeros in front: a vocabulary of 257.

    Raises:
        SetupError: If it has no such columns, or no training and test split.
    """
    found = package("datasets", f"hf/{name}").load_dataset(name)
    parts = {"train": found.get("train"), "test": found.get("test") or found.get("validation")}
    require(None not in parts.values(), "`data`", "a set with train and test", list(found), "Take another set.")
    if "test" in found and "validation" in found:
        parts["validation"] = found["validation"]
    columns = parts["train"].column_names
    column = next((each for each in ("image", "img", "text") if each in columns), None)
    rule = "a set with columns `image`, `img` or `text`, and `label`"
    require(column is not None and "label" in columns, "`data`", rule, columns, "Take another set.")
    if column == "text":
        return {key: _of_texts(part["text"], part["label"]) for key, part in parts.items()}
    rows = {key: _Rows(part, str(column)) for key, part in parts.items()}
    return _of_pictures(rows, getattr(parts["train"].features["label"], "num_classes", 0))


@dataclass(frozen=True)
class _Rows:
    """Pictures and labels of a set of the hub, by number."""

    dataset: Any
    column: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        row = self.dataset[number]
        return row[self.column], row["label"]


def _of_texts(texts: Sequence[str], labels: Sequence[int]) -> Pair:
    tokens = np.zeros((len(texts), BYTES), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        found = np.frombuffer(text.encode()[:BYTES], np.uint8)
        row[BYTES - len(found) :] = found.astype(np.int64) + 1
    return torch.from_numpy(tokens), torch.tensor(list(labels))


def _of_pictures(parts: Mapping[str, Rows], classes: int) -> dict[str, Any]:
    """Small pictures in memory, others one by one."""
    first, _ = parts["train"][0]
    if max(first.size) > SMALL:
        sets: dict[str, Split] = {key: Pictures(rows) for key, rows in parts.items()}
        return {**sets, "outputs": classes or None, "mean": MEAN, "std": STD, "augment": Pictures.own}
    mode = "L" if first.mode in ("1", "L") else "RGB"
    return {key: _in_memory(rows, mode) for key, rows in parts.items()}


def _in_memory(rows: Rows, mode: str) -> Pair:
    pairs = [rows[number] for number in range(len(rows))]
    images = [np.array(picture.convert(mode)) for picture, _ in pairs]
    require(len({i.shape for i in images}) == 1, "`data`", "a set of pictures of one size", "several", "Resize them.")
    return channels_first(torch.from_numpy(np.stack(images))), torch.tensor([label for _, label in pairs])
