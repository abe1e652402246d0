"""A model on one simulated chip: noise written into its own tensors, and taken out again bitwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from samson.noise.base import WeightNoise
from samson.noise.random import generator_for
from samson.noise.selection import on_chip


class Chip:
    """One deployment of a model: its weights as one chip holds them. Made by `deploy`."""

    def __init__(self, model: nn.Module, noise: WeightNoise, seed: int, trial: int) -> None:
        self.model, self.noise, self.seed, self.trial = model, noise, seed, trial
        self.tensors = on_chip(model)
        with torch.no_grad():
            self._states = [
                noise.program(t.output_first(t.weight.detach()), self._generator("program", t.name, t.weight.device))
                for t in self.tensors
            ]

    @contextmanager
    def at(self, time_s: float | None = None) -> Iterator[nn.Module]:
        """Run the model as this chip reads at a time.

        Args:
            time_s: Seconds since the reference read; None is the programmed state.

        Yields:
            The model itself, with noisy weights until the block ends; then the same bits as before come back.
        """
        clean = [t.weight.detach().clone() for t in self.tensors]
        try:
            self._write(
                [
                    t.stored(self.noise.read(state, time_s, self._generator("read", t.name, t.weight.device)))
                    for t, state in zip(self.tensors, self._states, strict=True)
                ]
            )
            yield self.model
        finally:
            self._write(clean)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for t, value in zip(self.tensors, values, strict=True):
            t.weight.copy_(value)

    def _generator(self, stage: str, name: str, device: torch.device) -> torch.Generator:
        return generator_for(self.seed, self.trial, stage, name, device=device)


def deploy(model: nn.Module, noise: WeightNoise, *, seed: int = 0, trial: int = 0) -> Chip:
    """Program a model onto one simulated chip.

    The same seed and trial are the same chip for every model with tensors of these names and shapes, and for every
    level of a noise: that is what makes comparisons paired.

    Args:
        model: Any model; it is not converted, and it is unchanged outside `chip.at()`.
        noise: What the hardware does to a weight.
        seed: Seed of the set of chips, ≥ 0.
        trial: Number of the chip within the set, ≥ 0.

    Raises:
        ValueError: If no tensor would lie on the chip, or one could not be written (see `on_chip`).

    Example:
        >>> from samson.noise import Gaussian
        >>> model, x = nn.Linear(3, 2), torch.ones(1, 3)
        >>> chip = deploy(model, Gaussian(0.1), seed=7)
        >>> with chip.at():
        ...     y = model(x)
    """
    if trial < 0:
        raise ValueError(f"`trial` must be ≥ 0, got {trial}.")
    return Chip(model, noise, seed, trial)
