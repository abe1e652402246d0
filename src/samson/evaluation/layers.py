"""Trials with noise on some layers only: on one at a time, and on all but one, of the same chip."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from samson.evaluation.data import Batch
from samson.evaluation.recording import Recording, ReplayError
from samson.evaluation.replay import recorded, replayed
from samson.evaluation.scoring import Scores, Tally, device_of, readings
from samson.evaluation.task import Task
from samson.noise import Chip, ChipTensor, FixedNoise, on_chip
from samson.noise.calibration import evaluation_mode
from samson.noise.selection import Select


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
        reuse: Whether what two passes have in common is computed once.
    """

    layers: tuple[Layer, ...] = ()
    reuse: bool = False

    def __call__(self, number: int) -> NDArray[Any]:
        """Run the trial of a number.

        Returns:
            Rows of scores: all, then each layer alone, then all but each layer.
        """
        chip = self.chip(number)
        if not self.reuse:
            return np.stack([self.on(part_of(chip, layers)) for layers in self.subsets])
        device = device_of(self.model)
        tallies = [Tally(self.metric, device) for _ in self.subsets]
        with torch.no_grad(), evaluation_mode(self.model):
            for block, pieces in readings(self.batches, self.read_block):
                held = _held(chip, self.time_s, block)
                for piece in pieces:
                    batch = piece.to(device, channels_last=self.layout.channels_last)
                    for tally, output in zip(tallies, self._outputs(held, batch), strict=True):
                        tally.update(output, batch)
        return np.stack([tally.scores() for tally in tallies])

    @property
    def subsets(self) -> list[tuple[Layer, ...]]:
        """The layers with noise, row by row."""
        others = [tuple(layer for layer in self.layers if layer != one) for one in self.layers]
        return [self.layers, *((layer,) for layer in self.layers), *others]

    def _outputs(self, chip: Chip, batch: Batch) -> Iterator[Any]:
        """The model's output, row by row.

        A pass with noise on one layer is as the clean one until the layer's weights are used, and a pass with noise on
        all but one layer is until then as that with noise on all.
        """
        clean, _ = self._recorded(batch)
        starts = [(clean, time) for time in self._first_uses(clean, chip)]
        with chip.at(reading=0):
            noisy, output = self._recorded(batch)
            starts += [(noisy, time) for time in self._first_uses(noisy, chip)]
            yield copy.deepcopy(output)
        for (recording, until), layers in zip(starts, self.subsets[1:], strict=True):
            with part_of(chip, layers).at(reading=0):
                yield self._replayed(batch, recording, until)

    def _run(self, batch: Batch) -> Any:
        return self.layout.forward(self.model)(*batch.inputs, **batch.keywords)

    def _recorded(self, batch: Batch) -> tuple[Recording, Any]:
        try:
            with recorded(self.model) as recording:
                return recording, self._run(batch)
        except ReplayError:
            return Recording(), self._run(batch)

    def _replayed(self, batch: Batch, recording: Recording, until: float) -> Any:
        try:
            with replayed(self.model, recording, until):
                return self._run(batch)
        except ReplayError:
            return self._run(batch)

    def _first_uses(self, recording: Recording, chip: Chip) -> list[float]:
        weights = {t.name: t.place.weight for t in chip.tensors}
        return [recording.first_use(weights[name] for name in layer.tensors) for layer in self.layers]


def part_of(chip: Chip, layers: Collection[Layer]) -> Chip:
    """The same chip with some of its layers only, as `deploy` gives it for these; the others are digital."""
    names = {name for layer in layers for name in layer.tensors}
    tensors = [t for t in chip.tensors if t.name in names]
    states = {name: chip.states[name] for name in names}
    return Chip(chip.model, chip.noise, chip.seed, chip.trial, tensors, states, periphery=chip.periphery)


class _Held(FixedNoise):
    """No noise: for a chip whose weights are known."""

    def noisy(self, weight: Tensor, generator: Generator) -> Tensor:
        """The weight itself."""
        return weight


def _held(chip: Chip, time_s: float | None, reading: int) -> Chip:
    """One reading of a chip, as a chip that reads the same ever after and is not drawn again for every batch."""
    with chip.at(time_s, reading=reading):
        states = {t.name: {"weight": t.output_first(t.weight).clone()} for t in chip.tensors}
    return Chip(chip.model, _Held(), chip.seed, chip.trial, chip.tensors, states)
