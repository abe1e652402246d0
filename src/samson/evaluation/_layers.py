"""Trials with noise on some layers only, of the same chip."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from samson._select import layer_names
from samson.evaluation._scoring import value_of
from samson.evaluation._task import Task
from samson.noise import Chip, ChipTensor, Select, on_chip


@dataclass(frozen=True)
class Layer:
    """What is on the chip or digital as a whole: a layer, or several that share a weight.

    Args:
        name: Name of the (first) layer, as patterns of `on_chip` take it.
        tensors: Names of its weights on the chip.
        weights: Number of weights in these.
        users: Names of all layers that compute with them.
    """

    name: str
    tensors: tuple[str, ...]
    weights: int
    users: tuple[str, ...]


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
    names = layer_names(model)
    return [
        Layer(
            tensors[0].name.removesuffix(tensors[0].matrix.name).rstrip(".") or tensors[0].name,
            tuple(t.name for t in tensors),
            sum(t.weight.numel() for t in tensors),
            tuple(name for name, module in names.items() if module in modules),
        )
        for modules, tensors in groups
    ]


@dataclass(frozen=True, eq=False)
class PartsTask(Task):
    """Trials with noise on some layers of a chip at a time; the others are digital.

    Args:
        parts: The layers with noise, at least one, for each value.
    """

    parts: tuple[tuple[Layer, ...], ...] = ()

    @property
    def _rereads(self) -> bool:
        return True

    def __call__(self, number: int) -> NDArray[Any]:
        """The metric in the trial of a number, once a part, all of the same chip."""
        chip = self.chip(number)
        return np.array([value_of(self.on(part_of(chip, part))) for part in self.parts])


def part_of(chip: Chip, layers: Collection[Layer]) -> Chip:
    """The same chip with some of its layers only, as `deploy` gives it for these; the others are digital."""
    names = {name for layer in layers for name in layer.tensors}
    tensors = [t for t in chip.tensors if t.name in names]
    states = {name: chip.states[name] for name in names}
    return Chip(chip.model, chip.noise, chip.seed, chip.trial, tensors, states, periphery=chip.periphery)
