"""Monte-Carlo evaluation: one model on many chips, and several models on the same chips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from samson.evaluation.accuracy import Batches, accuracy, accuracy_by_blocks, as_batches
from samson.evaluation.statistics import Interval, mean_interval, paired_interval
from samson.noise import Chip, WeightNoise, deploy, on_chip
from samson.noise.periphery import Periphery
from samson.noise.selection import Select


@dataclass(frozen=True)
class Evaluation:
    """A model's accuracy on simulated chips.

    Args:
        trials: One accuracy a chip, in the order of the chips, fractions.
    """

    trials: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """The mean over chips and its 95 % interval (see `mean_interval`)."""
        return mean_interval(self.trials)

    @property
    def mean(self) -> float:
        """The mean over chips."""
        return self.interval.mean

    @property
    def std(self) -> float:
        """The standard deviation between chips, with n − 1."""
        return float(np.std(self.trials, ddof=1))

    @property
    def worst(self) -> float:
        """The accuracy on the worst chip."""
        return min(self.trials)


@dataclass(frozen=True)
class Paired:
    """Evaluations of several models on the same chips.

    Args:
        evaluations: One a model, by its name.
    """

    evaluations: dict[str, Evaluation]

    def difference(self, name: str, baseline: str) -> Interval:
        """The mean chip-by-chip difference of two of the models, with its 95 % interval."""
        return paired_interval(self.evaluations[name].trials, self.evaluations[baseline].trials)


def evaluate(
    model: nn.Module,
    data: Batches | tuple[Tensor, Tensor],
    noise: WeightNoise,
    *,
    trials: int = 20,
    seed: int = 0,
    select: Select = None,
    read_block: int | None = None,
    periphery: Periphery | None = None,
    on_trial: Callable[[], None] | None = None,
) -> Evaluation:
    """Measure a classifier's accuracy on simulated chips.

    The model is not converted and comes back bitwise as it was; global random state is not touched.

    Args:
        model: Gives logits of shape (batch, classes).
        data: A pair of whole tensors (inputs, class numbers), a DataLoader or any iterable of such batches.
        noise: What the hardware does to a weight.
        trials: Number of chips, at least 2.
        seed: Seed of the set of chips; chip 7 of seed 0 is the same whatever the number of trials.
        select: Which layers lie on the chip (see `samson.noise.on_chip`).
        read_block: Examples that are computed with one reading of the chip, ≥ 1, counted from the start of the data
            whatever the batches; None reads once for all.
        periphery: What surrounds the weights (see `samson.noise.deploy`).
        on_trial: Called after each chip, for a progress bar.

    Raises:
        ValueError: If `trials` is below 2, `read_block` below 1, the model has nothing to put on a chip, or there are
            no examples.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> result = evaluate(nn.Linear(4, 3), data, Gaussian(0.1), trials=5)
        >>> len(result.trials)
        5
    """
    if trials < 2:
        raise ValueError(f"`trials` must be at least 2 for an interval, got {trials}.")
    if read_block is not None and read_block < 1:
        raise ValueError(f"`read_block` must be ≥ 1, or None for one reading, got {read_block!r}.")
    on_chip(model, select)
    batches = as_batches(data)
    accuracies = []
    for trial in range(trials):
        chip = deploy(model, noise, seed=seed, trial=trial, select=select, periphery=periphery)
        accuracies.append(_on_one_chip(chip, batches, read_block))
        if on_trial is not None:
            on_trial()
    return Evaluation(tuple(accuracies))


def _on_one_chip(chip: Chip, batches: Batches, read_block: int | None) -> float:
    if read_block is not None:
        return accuracy_by_blocks(chip.model, batches, read_block, lambda number: chip.at(reading=number))
    with chip.at():
        return accuracy(chip.model, batches)


def compare(
    models: Mapping[str, nn.Module],
    data: Batches | tuple[Tensor, Tensor],
    noise: WeightNoise,
    *,
    trials: int = 20,
    seed: int = 0,
    select: Select = None,
    read_block: int | None = None,
    periphery: Periphery | None = None,
) -> Paired:
    """Evaluate models of one architecture on the same chips, for paired differences.

    Args:
        models: Two or more models by name, whose tensors on the chip have the same names and shapes.
        data: As for `evaluate`.
        noise: What the hardware does to a weight.
        trials: Number of chips, at least 2.
        seed: Seed of the set of chips.
        select: As for `evaluate`.
        read_block: As for `evaluate`.
        periphery: As for `evaluate`.

    Raises:
        ValueError: If the models' tensors differ, so that chips could not be common; or as for `evaluate`.

    Example:
        >>> import torch
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> paired = compare({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}, data, Gaussian(0.1), trials=5)
        >>> low, high = paired.difference("a", "b").low, paired.difference("a", "b").high
    """
    layouts = {
        name: [(t.name, tuple(t.weight.shape)) for t in on_chip(model, select)] for name, model in models.items()
    }
    first = next(iter(layouts), None)
    for name, layout in layouts.items():
        if first is not None and layout != layouts[first]:
            raise ValueError(
                f"`models` must have the same tensors on the chip, but those of {name!r} and {first!r} differ. "
                "Evaluate them one by one with `evaluate`."
            )
    batches = as_batches(data)
    measure = partial(
        evaluate,
        data=batches,
        noise=noise,
        trials=trials,
        seed=seed,
        select=select,
        read_block=read_block,
        periphery=periphery,
    )
    evaluations = {name: measure(model) for name, model in models.items()}
    return Paired(evaluations)
