"""The training loop: one for all methods, since each is an optimizer that steps with a closure.

It is written on torch alone. An engine would take the closure, the accumulation and the second pass out of sight, and
what it brings (a device, DistributedDataParallel, autocast) is a line each here.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from samson.experiments._methods import Method
from samson.experiments._place import Place
from samson.experiments._recipes import Recipe
from samson.experiments._saving import Saver, restore, training_state
from samson.experiments._tasks import Task
from samson.experiments.data import Splits
from samson.records import Perturbation

CHECKED = 16
"""Steps after which losses are looked at: on a GPU, each look waits for it."""


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
        losses: To be filled by the trainer, if it likes: each epoch's mean loss.
        gradients: To be counted by the trainer, if it likes: gradients of a mini-batch that it computed.
        perturbation: To be set by the trainer, if it likes: what the last perturbation did.
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
    losses: list[float] = field(default_factory=list)
    gradients: int | None = None
    perturbation: Perturbation | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is trained."""
        return self.place.device

    def optimizer(self, model: nn.Module) -> Optimizer:
        """The method's optimizer for a network; its `step` takes a closure."""
        return self.method.build(model, self.seed)


def train(run: Run) -> nn.Module:
    """Train a network; cut off at any moment and started again, it ends in the same weights, bit for bit on a CPU.

    What is kept in `run.folder` until then is one file.

    Returns:
        The network, in evaluation mode.

    Raises:
        DivergedError: If a loss is no finite number.
        StoppedError: If a notice to end came; the training is saved.
        OSError: If it cannot be saved; what was saved before is there.
    """
    training = Session(run)
    with _notices() as ended:
        while training.step < training.total:
            for inputs, targets in training.batches():
                training.advance(inputs, targets)
                if training.saver.due() or ended.is_set():
                    training.save()
                if ended.is_set():
                    raise StoppedError
    return training.result.eval()


class Session:
    """A training that is going on."""

    def __init__(self, run: Run) -> None:
        recipe = run.recipe
        self.run, self.recipe = run, recipe
        self.model = run.network().to(run.device)
        self.channels_last = recipe.channels_last and len(run.data.shape) == 3
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run.place.shard(self.model)
        self.optimizer = run.optimizer(self.model)
        compiled = torch.compile(self.model) if recipe.compile else self.model
        self.forward = run.place.replicated(cast("nn.Module", compiled))
        self.average: AveragedModel | None = None
        if recipe.ema:
            decayed: Any = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.model, multi_avg_fn=decayed, use_buffers=True)
        lower = recipe.precision == "bfloat16" or (recipe.precision == "auto" and run.place.fast_bfloat16)
        self.precision = torch.bfloat16 if lower else None
        self.augment = run.data.augment if recipe.augment == "default" else _augmentations(recipe.augment)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = run.data.steps(recipe.batch_size)
        self.total = recipe.epochs * self.steps
        self.step = run.gradients = 0
        self.seen: list[Tensor] = []
        # What several processes share is not kept on the way: each would have to write its part at the same step.
        alone = run.folder if run.place.world == 1 else None
        self.saver = Saver(None if alone is None else alone / "training.safetensors", _identity(run))
        self._load()

    @property
    def result(self) -> nn.Module:
        """The trained network, or the average of it."""
        return self.model if self.average is None else self.average.module

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What is left of the epoch at hand."""
        epoch, start = divmod(self.step, self.steps)
        return self.run.data.batches(
            self.recipe.batch_size,
            seed=self.run.seed,
            epoch=epoch,
            device=self.run.device,
            augment=self.augment,
            start=start,
        )

    def advance(self, inputs: Tensor, targets: Tensor) -> None:
        """Make a step."""
        factor = self.recipe.factor(self.step, self.total)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        _seed(_mixed(self.run.seed, self.step))  # what dropout draws is the same after an interruption
        part = self.run.place.part(inputs)
        if self.channels_last:
            part = part.contiguous(memory_format=torch.channels_last)
        self.seen.append(self._loss_of_step(part, self.run.place.part(targets)))
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)
        ends = self.step % self.steps == 0
        if ends or self.step % CHECKED == 0:
            self._check()
            self.run.progress(self.step, self.total)
        if ends:
            self.run.losses.append(float(torch.stack(self.seen).mean()))
            self.run.perturbation = _perturbation(self.optimizer)
            self.seen.clear()
            self._write()

    def _write(self) -> None:
        """Write the epoch's figures to the log."""
        if self.run.log is None:
            return
        moved = {} if self.run.perturbation is None else vars(self.run.perturbation)
        figures = {"loss": self.run.losses[-1], "lr": self.optimizer.param_groups[0]["lr"], **moved}
        for name, value in figures.items():
            if value is not None:
                self.run.log.add_scalar(name, value, self.step)

    def _loss_of_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        parts = min(self.recipe.accumulate, len(inputs))
        device, model = self.run.device, self.forward

        def closure() -> Tensor:
            self.run.gradients = (self.run.gradients or 0) + 1
            self.optimizer.zero_grad()
            total = torch.zeros((), device=device)
            for number, (some, wanted) in enumerate(zip(inputs.chunk(parts), targets.chunk(parts), strict=True), 1):
                alone = number < parts and hasattr(model, "no_sync")
                with model.no_sync() if alone else nullcontext():  # type: ignore[operator]
                    with torch.autocast(device.type, self.precision) if self.precision else nullcontext():
                        outputs = model(some)
                    loss = self.run.task.loss(outputs.float(), wanted, self.recipe.label_smoothing)
                    loss = loss * (len(some) / len(inputs))
                    loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
            if self.recipe.clip_norm < math.inf:
                clip_grad_norm_(model.parameters(), self.recipe.clip_norm)
            return total

        loss: Tensor = self.optimizer.step(closure)  # type: ignore[arg-type, assignment]
        return self.run.place.mean(loss.detach())

    def _check(self) -> None:
        """Refuse to go on with a loss that is no finite number."""
        bad = torch.stack(self.seen).isfinite().logical_not().nonzero().flatten().tolist() if self.seen else []
        if bad:
            raise DivergedError(self.step - len(self.seen) + bad[0] + 1)

    def save(self) -> None:
        """Keep the state, if it is one to go on from."""
        self._check()
        run = self.run
        kept = {"step": self.step, "gradients": run.gradients, "losses": run.losses, "seen": self.seen}
        average = {} if self.average is None else {"average": self.average.state_dict()}
        self.saver.save({**training_state(self.model, self.optimizer), **kept, **average})

    def _load(self) -> None:
        found = self.saver.load()
        if found is None:
            return
        restore(found, self.model, self.optimizer)
        if self.average is not None:
            self.average.load_state_dict(found["average"])
        self.step, self.run.gradients = found["step"], found["gradients"]
        self.seen = [loss.to(self.run.device) for loss in found["seen"]]
        self.run.losses[:] = found["losses"]


def _perturbation(optimizer: Optimizer) -> Perturbation | None:
    ascent = getattr(optimizer, "last_ascent", None)
    if ascent is None:
        return None
    values = (ascent.clean_loss, ascent.perturbed_loss, ascent.epsilon_norm)
    clean, perturbed, norm = (None if value is None else float(value) for value in values)
    return Perturbation(clean, perturbed, norm)


def _augmentations(joined: str) -> tuple[str, ...]:
    return () if joined == "none" else tuple(joined.split("+"))


def _identity(run: Run) -> str:
    """What decides the final weights, hashed."""
    said = repr((run.method, run.recipe, run.seed, run.data.shape, run.data.outputs, run.data.steps(1)))
    return sha256(said.encode()).hexdigest()


def _mixed(seed: int, step: int) -> int:
    return int.from_bytes(sha256(f"step {seed} {step}".encode()).digest()[:8]) >> 1


def _seed(seed: int) -> None:
    """Seed the generators that a network draws from; `torch.manual_seed` takes half a millisecond."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)


@contextmanager
def _notices() -> Iterator[threading.Event]:
    """An event that a notice to end (SIGTERM) sets inside the block."""
    ended = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before: Any = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        yield ended
    finally:
        signal.signal(signal.SIGTERM, before)
