"""Series of spoken vowels, which ship inside aeon."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from samson._errors import SetupError, installing
from samson.experiments.data._files import find, reading
from samson.experiments.data._loading import Pair
from samson.experiments.data._splits import SPLIT_SEED, Splits, divide

STEPS = 29
"""Of the longest series."""


def japanese_vowels(_root: Path) -> Splits:
    """640 series of 12 channels, two vowels spoken by 9 men, who are the classes: 216 train, 54 validation, 370 test.

    The files are those of the package aeon. Each channel has mean 0 and deviation 1 over the steps of the training
    split. Series of 7 to 29 steps are filled up to 29 with zeros at the front, so that the last step is real. Of the
    270 series to train with, a fifth of each class is validation.

    Reference: Kudo, Toyama and Shimbo 1999, Multidimensional curve classification using passing-through regions,
    Pattern Recognition Letters 20.
    """
    spec = find_spec("aeon")  # not imported, which takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"`data`: japanese-vowels needs aeon.\nInstall it: {installing('data')}.")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "JapaneseVowels"
    (series, classes), (test, test_classes) = (_series(folder, part) for part in ("TRAIN", "TEST"))
    labels = [(classes == label).nonzero().flatten() for label in range(9)]
    divided = [divide(len(each), len(each) // 5, SPLIT_SEED + label) for label, each in enumerate(labels)]
    rest, validation = (torch.cat([each[d[p]] for each, d in zip(labels, divided, strict=True)]) for p in (0, 1))
    std, mean = torch.std_mean(torch.cat([series[number] for number in rest]), dim=0, correction=0)

    def pair(chosen: list[Tensor], targets: Tensor) -> Pair:
        return torch.stack([functional.pad((s - mean) / std, (0, 0, STEPS - len(s), 0)) for s in chosen]), targets

    train, valid = (pair([series[number] for number in part], classes[part]) for part in (rest, validation))
    return Splits(train, valid, pair(test, test_classes), outputs=9)


def _series(folder: Path, part: str) -> tuple[list[Tensor], Tensor]:
    """Series of shape (steps, channels), and class numbers from 0, from a `.ts` file.

    A line holds the channels, parted by colons, each with its values parted by commas, and the class name at its end.
    """
    path = find("japanese-vowels", folder, ("",), (f"JapaneseVowels_{part}.ts",), "aeon 1.6.0")
    series, classes = [], []
    with reading(path, "Install aeon 1.6.0."):
        for line in path.read_text(encoding="utf-8").partition("@data")[2].split():
            *channels, name = line.split(":")
            series.append(torch.tensor([[float(value) for value in channel.split(",")] for channel in channels]).T)
            classes.append(int(name) - 1)
    return series, torch.tensor(classes)
