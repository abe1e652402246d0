"""The training loop: one for all methods, since each is an optimizer that steps with a closure.

It is written on torch alone. An engine would take the closure, the accumulation and the second pass out of sight, and
what it brings (a device, DistributedDataParallel, autocast) is a line each here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from hashlib import sha256
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from samson._interrupts import answered
from samson.experiments._distillation import distillation
from samson.experiments._place import Place
from samson.experiments._saving import Saver, identity_of
from samson.experiments._tasks import in_float32
from samson.experiments._training import DivergedError, Run, StoppedError
from samson.records import Perturbation

CHECKED = 16
"""Steps after which losses are looked at: on a GPU, each look waits for it."""


def train(run: Run, *, keep: bool = False) -> nn.Module:
    """Train a network; cut off at any moment and started again, it ends in the same weights, bit for bit on a CPU.

    What is kept in `run.folder` until then is one file.

    Args:
        run: What is trained.
        keep: Whether its end is kept there as well, so that a repetition trains nothing.

    Returns:
        The network, in evaluation mode.

    Raises:
        DivergedError: If a loss is no finite number, or a weight at the end.
        StoppedError: If a notice to end came; the training is saved.
        OSError: If it cannot be saved; what was saved before is there.
    """
    training = Loop(run)
    ended = threading.Event()
    with answered(ended.set):
        for inputs, targets in training.batches():
            training.advance(inputs, targets)
            if training.saver.due() or ended.is_set():
                training.save()
            if ended.is_set():
                raise StoppedError
        training.check_weights()
        if keep:
            training.save()
    return training.result.eval()


class Loop:
    """A training that is going on."""

    def __init__(self, run: Run) -> None:
        recipe = run.recipe
        self.run, self.recipe = run, recipe
        self.model = run.network().to(run.device)
        self.channels_last = recipe.channels_last and len(run.data.shape) == 3
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stub
        run.place.shard(self.model)
        self.optimizer = run.optimizer(self.model)
        compiled = torch.compile(self.model) if recipe.compile else self.model
        self.forward = run.place.replicated(cast("nn.Module", compiled))
        self.average: dict[str, Tensor] = {}
        """Of the floating-point weights and buffers, by name; empty before the first step, and without one."""
        run.precision = run.place.precision_for(self.model) if recipe.precision == "auto" else recipe.precision
        self.precision = torch.bfloat16 if run.precision == "bfloat16" else None
        named = () if recipe.augment == "none" else tuple(recipe.augment.split("+"))
        self.augment = run.data.augment if recipe.augment == "default" else named
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = run.data.steps(recipe.batch_size)
        self.total = recipe.epochs * self.steps
        self.step = run.gradients = 0
        self.seen: list[Tensor] = []
        # What several processes share is not kept on the way: each would have to write its part at the same step.
        alone = run.folder if run.place.world == 1 else None
        path = None if alone is None else alone / "training.safetensors"
        self.saver = Saver(path, "" if path is None else identity_of(run, self.model))
        self.started, self.earlier_s = time.monotonic(), 0.0
        self._load()
        self.model.train()
        _switch(self.optimizer, "train")

    @property
    def result(self) -> nn.Module:
        """The trained network, with the average of its weights if there is one."""
        _switch(self.optimizer, "eval")
        state = self.model.state_dict()
        for name, value in self.average.items():
            state[name].copy_(value)
        return self.model

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What is left of the training, of which each is stepped with before the next, epoch by epoch."""
        while self.step < self.total:
            epoch, start = divmod(self.step, self.steps)
            yield from self.run.data.batches(
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
        _seed(self.run.seed, self.step, self.run.device)  # what dropout draws is the same after an interruption
        part = self.run.place.part(inputs)
        if self.channels_last:
            part = part.contiguous(memory_format=torch.channels_last)
        self.seen.append(self._loss_of_step(part, self.run.place.part(targets), len(inputs)))
        self.step += 1
        if self.recipe.ema:
            self._follow()
        ends = self.step % self.steps == 0
        if ends or self.step % CHECKED == 0:
            self._check()
            self.run.progress(self.step, self.total)
        if ends:
            mean = float(torch.stack(self.seen).mean())
            if not math.isfinite(mean):  # a sum beyond the largest number
                raise DivergedError(self.step)
            self.run.losses.append(mean)
            self.run.perturbation = last_perturbation(self.optimizer, self.run.place)
            self.seen.clear()
            self._write()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights; what is no floating-point number stays as the network has it."""
        now = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
        if self.average:
            torch._foreach_lerp_(list(self.average.values()), list(now.values()), 1 - self.recipe.ema)
        else:
            self.average = {name: value.detach().clone() for name, value in now.items()}

    def _write(self) -> None:
        """Write the epoch's figures to the log."""
        if self.run.log is None:
            return
        moved = {} if self.run.perturbation is None else vars(self.run.perturbation)
        figures = {"loss": self.run.losses[-1], "lr": self.optimizer.param_groups[0]["lr"], **moved}
        for name, value in figures.items():
            if value is not None:
                self.run.log.add_scalar(name, value, self.step)

    def _loss_of_step(self, inputs: Tensor, targets: Tensor, size: int) -> Tensor:
        """Make a step with this process's examples of a batch of that size; gives the loss of the whole batch."""
        count = min(self.recipe.accumulate, len(inputs))
        parts = list(zip(inputs.chunk(count), targets.chunk(count), strict=True))  # perhaps fewer
        device, model, world, teacher = self.run.device, self.forward, self.run.place.world, self.run.teacher
        given = self.run.method.settings

        def closure() -> Tensor:
            self.run.gradients = (self.run.gradients or 0) + 1
            self.optimizer.zero_grad()
            torch.clear_autocast_cache()  # a caller's autocast keeps casts of weights from before the last step
            total = torch.zeros((), device=device)
            for number, (some, wanted) in enumerate(parts, start=1):
                alone = number < len(parts) and hasattr(model, "no_sync")
                with model.no_sync() if alone else nullcontext():  # type: ignore[operator]  # hasattr says so
                    with torch.autocast(device.type, self.precision) if self.precision else nullcontext():
                        outputs = model(some)
                        with torch.no_grad():
                            taught = None if teacher is None else teacher(some)
                    loss = self.run.task.loss(in_float32(outputs), wanted, self.recipe.label_smoothing)
                    if taught is not None:
                        strengths = float(given["temperature"]), float(given["teacher_weight"])
                        loss = loss + distillation(outputs.float(), taught.float(), *strengths)
                    loss = loss * (len(some) * world / size)  # processes are averaged, and may have fewer examples
                    loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
                total += loss.detach()
            if self.recipe.clip_norm < math.inf:
                clip_grad_norm_(model.parameters(), self.recipe.clip_norm)
            return total

        loss: Tensor = self.optimizer.step(closure)  # type: ignore[arg-type, assignment]  # in the stub a float
        return self.run.place.mean(loss.detach())

    def _check(self) -> None:
        """Refuse to go on with a loss that is no finite number."""
        bad = torch.stack(self.seen).isfinite().logical_not().nonzero().flatten().tolist() if self.seen else []
        if bad:
            raise DivergedError(self.step - len(self.seen) + bad[0] + 1)

    def check_weights(self) -> None:
        """Refuse a result with a weight that is no finite number: no loss after the last step would show it."""
        if self.run.place.world == 1 and not all(weight.isfinite().all() for weight in self.model.parameters()):
            raise DivergedError(self.step)

    def save(self) -> None:
        """Keep the state, if it is one to go on from."""
        self._check()
        run = self.run
        kept: dict[str, Any] = {"step": self.step, "gradients": run.gradients, "losses": run.losses, "seen": self.seen}
        seconds = self.earlier_s + time.monotonic() - self.started
        moved = None if run.perturbation is None else vars(run.perturbation)
        kept |= {"seconds": seconds, "perturbation": moved, "average": self.average}
        self.saver.save({**kept, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()})

    def _load(self) -> None:
        found = self.saver.load()
        if found is None:
            return
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.average = {name: value.to(self.run.device) for name, value in found["average"].items()}
        moved = found["perturbation"]
        self.run.perturbation = None if moved is None else Perturbation(**moved)
        self.step, self.run.gradients = found["step"], found["gradients"]
        self.earlier_s = found.get("seconds", 0.0)  # an older state has none
        self.run.earlier_s += self.earlier_s
        schedule = None if self.run.built is None else self.run.built.schedule
        if schedule is not None:
            schedule.load_state_dict({**schedule.state_dict(), "done": self.step})
        self.seen = [loss.to(self.run.device) for loss in found["seen"]]
        self.run.losses[:] = found["losses"]


def _switch(optimizer: Optimizer, mode: str) -> None:
    """Put an optimizer that has modes (schedule-free ones do) in one of them."""
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


def last_perturbation(optimizer: Optimizer, place: Place) -> Perturbation | None:
    """What the last perturbation did, as the mean over all processes; None without one, and for no finite number."""
    ascent = getattr(optimizer, "last_ascent", None)
    if ascent is None:
        return None
    losses = (ascent.clean_loss, ascent.perturbed_loss)
    found = [None if loss is None else float(place.mean(loss.detach())) for loss in losses]
    found.append(None if ascent.epsilon_norm is None else float(ascent.epsilon_norm))
    return Perturbation(*(None if value is None or not math.isfinite(value) else value for value in found))


def _seed(seed: int, step: int, device: torch.device) -> None:
    """Seed the generators that a network draws from, for one step; `torch.manual_seed` takes half a millisecond."""
    mixed = int.from_bytes(sha256(f"step {seed} {step}".encode()).digest()[:8]) >> 1
    torch.default_generator.manual_seed(mixed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(mixed)
