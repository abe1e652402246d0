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
from torch.utils.data import Dataset, Subset

from samson.experiments.data._files import package, reading
from samson.noise import generator_for

SIZE, RESIZED = 224, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pictures, as is the custom."""


class Rows(Protocol):
    """Pictures, as paths or of Pillow, and their class numbers, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> tuple[Any, int]: ...


@dataclass(frozen=True, eq=False)
class Pictures(Dataset[Any]):
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
    """Augmentations of `AUGMENTATIONS` that the worker processes carry out."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        picture, target = self.rows[number]
        if isinstance(picture, str):
            image = package("PIL.Image", "a folder of pictures")
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
        """The set with augmentations, whose draws depend on nothing but seed, epoch and the number of the example."""
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
