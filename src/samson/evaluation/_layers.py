"""Trials with noise on some layers only: on one at a time, and on all but one, of the same chip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from samson.evaluation._scoring import Scores
from samson.evaluation._task import Task
from samson.noise import Chip, ChipTensor, Select, on_chip


@dataclass(frozen=True)
class Layer:
    """What is on the chip or digital as a whole: a layer, or several that share a weight.

    Args:
        name: Name of the (first) layer, as patterns of `on_chip` take it.
        tensors: Names of its weights on the chip.
        weights: Number of weights in these.
    """

    name: str
    tensors: tuple[str, ...]
    weights: int


def layers_on_chip(model: nn.Module, select: Select = None) -> list[Layer]:
    """The layers that lie on the chip, in the order of the model.

    Args:
        model: Any model.
        select: Which of them (see `on_chip`); of a layer that is selected in part, only that part counts.

    Example:
        >>> [layer.name for layer in layers_on_chip(nn.Sequential(nn.LSTM(4, 3), nn.Linear(3, 2)))]
        ['0', '1']
    """
    groups: list[tuple[set[nn.Module], list[ChipTensor]]] = []
    for tensor in on_chip(model, select):
        modules, tensors = {tensor.layer, *tensor.place.modules}, [tensor]
        for group in [group for group in groups if group[0] & modules]:
            groups.remove(group)
            modules, tensors = group[0] | modules, group[1] + tensors
        groups.append((modules, tensors))
    return [
        Layer(
            tensors[0].name.removesuffix(tensors[0].matrix.name).rstrip(".") or tensors[0].name,
            tuple(t.name for t in tensors),
            sum(t.weight.numel() for t in tensors),
        )
        for _, tensors in groups
    ]


@dataclass(frozen=True, eq=False)
class PartTask(Task):
    """Trials with noise on some layers of each chip; the others are digital.

    Args:
        noisy: The layers with noise, at least one.
    """

    noisy: tuple[Layer, ...] = ()

    def __call__(self, number: int) -> Scores:
        """Run the trial of a number."""
        return self.on(part_of(self.chip(number), self.noisy))


@dataclass(frozen=True, eq=False)
class LayersTask(Task):
    """Trials with noise on all layers, on each one alone, and on all but each one, of the same chip.

    Args:
        layers: All layers on the chip, at least two.
    """

    layers: tuple[Layer, ...] = ()

    def __call__(self, number: int) -> NDArray[Any]:
        """Run the trial of a number.

        Returns:
            Rows of scores: all, then each layer alone, then all but each layer.
        """
        chip = self.chip(number)
        alone = [(layer,) for layer in self.layers]
        others = [tuple(layer for layer in self.layers if layer != one) for one in self.layers]
        return np.stack([self.on(part_of(chip, noisy)) for noisy in (self.layers, *alone, *others)])


def part_of(chip: Chip, layers: Collection[Layer]) -> Chip:
    """The same chip with some of its layers only, as `deploy` gives it for these; the others are digital."""
    names = {name for layer in layers for name in layer.tensors}
    tensors = [t for t in chip.tensors if t.name in names]
    states = {name: chip.states[name] for name in names}
    return Chip(chip.model, chip.noise, chip.seed, chip.trial, tensors, states, periphery=chip.periphery)
