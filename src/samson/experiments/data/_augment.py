"""Augmentations of a batch of images, each image with numbers of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

PADDING = 4
"""Pixels of zeros around an image, of which a crop cuts a window."""

Augmentation = Callable[[Tensor, Generator], Tensor]
"""Images (n, channels, height, width), uint8 or float, on any device, and a generator on the CPU → new images."""


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Each image with 4 pixels of zeros around it, cut back to its size at an offset of its own, 0 to 8 both ways.

    Reference: He et al. 2016 (arXiv 1512.03385), section 4.2.
    """
    n, _, height, width = images.shape
    down, right = torch.randint(2 * PADDING + 1, (2, n), generator=generator).to(images.device, non_blocking=True)
    windows = functional.pad(images, (PADDING,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(n, device=images.device), :, down, right]


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device, non_blocking=True)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)


def cutout(images: Tensor, generator: Generator) -> Tensor:
    """A box of half the height and width, 16 x 16 pixels of 32 x 32, blanked in each image.

    The box is centred on any pixel, and what of it lies outside is cut off. It is filled with 0 in float images. In
    uint8 images, whose mean is yet to be taken off, it is filled with the batch's mean of each channel.

    Reference: DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    n, channels, height, width = images.shape
    rows = _half(height, torch.randint(height, (n,), generator=generator)).to(images.device, non_blocking=True)
    columns = _half(width, torch.randint(width, (n,), generator=generator)).to(images.device, non_blocking=True)
    fill = images.new_zeros(channels)
    if not images.is_floating_point():
        count = n * height * width
        fill = images.sum((0, 2, 3)).add(count // 2).div(count, rounding_mode="floor").to(images.dtype)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], fill.view(-1, 1, 1), images)


def _half(side: int, centres: Tensor) -> Tensor:
    """Which of `side` pixels lie in the half around each centre (n,): shape (n, side)."""
    first = centres[:, None] - side // 4
    pixels = torch.arange(side)
    return (pixels >= first) & (pixels < first + side // 2)


AUGMENTATIONS: dict[str, Augmentation] = {"crop": crop, "flip": flip, "cutout": cutout}
"""Augmentations by name."""
