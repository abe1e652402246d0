"""Pictures that are decoded as they are needed, as of ImageNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Subset

from samson._errors import choose, require
from samson.experiments.data._dividing import split_off
from samson.experiments.data._files import package, reading
from samson.experiments.data._loading import AugmentingDataset
from samson.experiments.data._splits import Split, Splits
from samson.noise import generator_for

SIZE, RESIZED = 224, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, as is the custom."""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Rows(Protocol):
    """Pictures, as paths or of Pillow, and their class numbers, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> tuple[Any, int]: ...


@dataclass(frozen=True, eq=False)
class Pictures(AugmentingDataset):
    """Pictures as uint8 tensors of shape (3, 224, 224), with class numbers.

    The smaller side is made 256 pixels, and the middle is cut out. In training, "crop" cuts out a box at random
    instead, of 8 % to 100 % of the area and of aspect ratio 3/4 to 4/3, and "flip" mirrors with probability 1/2.

    Args:
        rows: The pictures as they are.
        names: Augmentations that are used.
        seed: Of their draws.
        epoch: The same.

    Reference: Szegedy et al. 2015 (arXiv 1409.4842), section 6, for the random box.
    """

    rows: Rows
    names: tuple[str, ...] = ()
    seed: int = 0
    epoch: int = 0
    own = ("crop", "flip")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        picture, target = self.rows[number]
        if isinstance(picture, str):
            image = package("PIL.Image", "A folder of pictures")
            with reading(Path(picture), "Mend it, or take it away."), image.open(picture) as file:
                picture = file.convert("RGB")
        generator = generator_for(self.seed, "picture", self.epoch, number)
        box = (
            _random_box(picture.width, picture.height, generator)
            if "crop" in self.names
            else _middle(picture.width, picture.height)
        )
        resized = picture.convert("RGB").resize((SIZE, SIZE), resample=2, box=box)  # 2 is bilinear
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        mirrored = "flip" in self.names and float(torch.rand((), generator=generator)) < 0.5
        return (pixels.flip(2) if mirrored else pixels).contiguous(), target

    def augmented(self, names: Sequence[str], seed: int, epoch: int) -> Self:
        """The set with augmentations."""
        return replace(self, names=tuple(names), seed=seed, epoch=epoch)

    def part(self, numbers: Tensor) -> Self:
        """The set of the examples of these numbers."""
        return replace(self, rows=Subset(self.rows, numbers.tolist()))  # type: ignore[arg-type]


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """The box that is 224 x 224 pixels when the smaller side is made 256: left, top, right, bottom, in pixels."""
    side = min(width, height) * SIZE / RESIZED
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _random_box(width: int, height: int, generator: Generator) -> tuple[float, float, float, float]:
    """A box of random area, aspect ratio and place; the middle if none of ten fits."""
    for area, ratio, right, down in torch.rand(10, 4, generator=generator, dtype=torch.float64).tolist():
        aspect = (4 / 3) ** (2 * ratio - 1)
        pixels = (0.08 + 0.92 * area) * width * height
        wide, high = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(right * (width - wide + 1)), int(down * (height - high + 1))
            return left, top, left + wide, top + high
    return _middle(width, height)


def folder_splits(folder: Path, seed: int) -> Splits:
    """Pictures in ImageNet's layout: `train/CLASS/*.jpg`, `val/CLASS/*.jpg` and possibly `test/CLASS/*.jpg`.

    Without a `test`, or with one that has no classes, `val` is the test, and validation is split off `train`.

    Args:
        folder: The folder.
        seed: Of the split.

    Raises:
        SetupError: If the folder is not like this.
    """
    package("PIL.Image", "A folder of pictures")  # said here and not in a worker process
    classes = _classes(folder / "train")
    parts = {name: _pictures(folder / name, classes) for name in ("train", "val", "test") if _classes(folder / name)}
    layout, mend = "a folder with train/CLASS/*.jpg and val/CLASS/*.jpg", "Make a folder of each class in both."
    require("train" in parts and len(parts) > 1, "`data`", layout, str(folder), mend)
    train: Split = parts["train"]
    validation: Split | None = parts.get("val") if "test" in parts else None
    if validation is None:
        train, validation = split_off(train, seed)
    test = parts["test" if "test" in parts else "val"]
    return Splits(train, validation, test, len(classes), mean=MEAN, std=STD, augment=Pictures.own)


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _pictures(folder: Path, classes: list[str]) -> Pictures:
    rows = []
    for name in _classes(folder):
        label = classes.index(choose(f"`data`: in {str(folder)!r} the class", name, classes))
        found = sorted(str(path) for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS)
        rows += [(path, label) for path in found]
    require(bool(rows), "`data`", f"folders of pictures ({', '.join(ENDINGS)})", str(folder), "Put some there.")
    return Pictures(rows)
