"""What a trainer gets, and how a training can end before its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from samson._errors import require
from samson._factories import find_factory, takes
from samson.experiments._method import Built, Method
from samson.experiments._place import Place
from samson.experiments._recipes import Recipe
from samson.experiments._tasks import Task
from samson.experiments.data import Splits
from samson.records import Perturbation


class DivergedError(ArithmeticError):
    """The loss was no finite number.

    Args:
        step: At which step, from 1.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"The loss is no finite number at step {step}. Take a smaller learning rate or perturbation.")
        self.step = step


class StoppedError(SystemExit):
    """A notice to end (SIGTERM) came; the training is saved, and goes on when it is started again."""

    def __init__(self) -> None:
        super().__init__(143)


@dataclass(eq=False)
class Run:
    """All that a trainer needs; a trainer of one's own is a function that takes it and returns the trained network.

    Args:
        data: The data set; `run.data.batches(…)` gives training batches, `run.data.examples("train")` all of them.
        task: Brings loss and metric.
        network: Makes the network, with initial weights that `seed` decides.
        method: The training method.
        recipe: Length, mini-batches, learning rate, precision.
        seed: Of everything random.
        place: Device and processes.
        folder: For what the trainer keeps until the run is finished; None keeps nothing.
        progress: Called with steps done and steps in all; may raise to stop.
        log: A writer with TensorBoard's `add_scalar`; None writes nothing.
        about: What the parts are called; an interrupted training goes on only if that is the same.
        losses: To be filled by the trainer, if it likes: each epoch's mean loss; recorded up to one that is not finite.
        gradients: To be counted by the trainer, if it likes: gradients of a mini-batch that it computed.
        perturbation: To be set by the trainer, if it likes: what the last perturbation did.
        precision: To be set by the trainer, if it likes: in which the network ran, "float32" or "bfloat16".
        teacher: What a method that distils learns from, in evaluation mode.
        built: What `optimizer` put on the network.
        earlier_s: To be raised by the trainer, if it goes on from an interruption: the seconds that it took before.
    """

    data: Splits
    task: Task
    network: Callable[[], nn.Module]
    method: Method
    recipe: Recipe
    seed: int
    place: Place = field(default_factory=Place)
    folder: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    log: Any = None
    about: str = ""
    losses: list[float] = field(default_factory=list)
    gradients: int | None = None
    perturbation: Perturbation | None = None
    precision: str | None = None
    teacher: nn.Module | None = None
    built: Built | None = None
    earlier_s: float = 0.0

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return self.place.device

    def optimizer(self, model: nn.Module) -> Optimizer:
        """The method's optimizer for a network; its `step` takes a closure.

        What changes over the training goes by the recipe's number of steps. What the method puts on the network itself,
        such as converters, is taken off when the training is over.
        """
        steps = self.recipe.epochs * self.data.steps(self.recipe.batch_size)
        some = self.data.few_inputs(self.recipe.batch_size, seed=self.seed, device=self.device)
        self.built = self.method.build(model, self.seed, steps, some)
        return self.built.optimizer


def find_trainer(name: str) -> Callable[[Run], nn.Module]:
    """A trainer of one's own.

    Raises:
        SetupError: If there is no such function, or it does not take a run.
    """
    function = find_factory(name, "`train`")
    require(takes(function, (None,)), "`train`", "a function of one argument, the run", name, "It returns the network.")
    return function
