"""What decides the bits of a task's trials: two tasks with the same facts have the same trials."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

import samson
from samson.evaluation.executors.numerics import Numerics
from samson.evaluation.fingerprint import fingerprint
from samson.evaluation.scoring import device_of
from samson.evaluation.task import Task
from samson.noise import on_chip

FORMAT = 1
"""Of what is kept of a trial."""


class Fact(NamedTuple):
    """One of the things that decide a trial: in words, for people, and what is compared."""

    words: str
    fingerprint: str


def facts_of(task: Task) -> dict[str, Fact]:
    """What decides the bits of a task's trials, by name.

    Raises:
        ValueError: If data come in another order, or as other values, each time they are run through; or if something
            that the task holds does not show what it holds.
    """
    device = device_of(task.model)
    whole = {"model", "batches", "norm_batches", "select"}
    settings = {field.name: getattr(task, field.name) for field in fields(task) if field.name not in whole}
    names = tuple(tensor.name for tensor in on_chip(task.model, task.select))
    tensors = [*task.model.named_parameters(), *task.model.named_buffers()]
    return {
        "format": _fact("format", FORMAT),
        "samson": _fact("samson", (samson.__version__, _source())),
        "kind": _fact("kind", type(task)),
        "model": _fact("model", task.model, f"{type(task.model).__name__}, {len(tensors)} tensors"),
        "tensors": _fact("tensors", dict(tensors), f"{len(tensors)} tensors"),
        "on_chip": _fact("on_chip", names),
        "data": _data(task.batches),
        "norm_data": (_fact("norm_data", None) if task.norm_batches is None else _data(task.norm_batches, "norm_data")),
        **{name: _fact(name, value) for name, value in settings.items()},
        "numerics": _fact("numerics", Numerics.here(device.type)),
        "backends": _fact("backends", _backends()),
        "hooks": _fact("hooks", _hooks(), f"{len(_hooks())} for all modules"),
        "machine": _fact("machine", _machine(device)),
    }


def _fact(name: str, value: Any, words: str | None = None) -> Fact:
    text = repr(value) if words is None else words
    if " at 0x" in text:
        text = str(getattr(value, "name", type(value).__name__))
    return Fact(text if len(text) < 400 else f"{text[:400]} …", fingerprint({name: value}))


def _data(batches: Iterable[Any], name: str = "data") -> Fact:
    """One batch after the other, in the order in which every chip sees them: from the global random state."""
    with torch.random.fork_rng(devices=[]):
        found = [fingerprint({name: batch}) for batch in batches]
    if not isinstance(batches, list):
        with torch.random.fork_rng(devices=[]):
            again = [fingerprint({name: batch}) for batch in islice(batches, 1)]
        if again != found[:1]:
            raise ValueError(
                f"`{name}` must come the same each time it is run through, for trials that are kept, but its first "
                "batch changed. Use shuffle=False and no random changes, or a list of batches."
            )
    return _fact(name, found, f"{len(found)} batches")


def _backends() -> dict[str, str]:
    """Choices of torch that `Numerics` does not hand to workers, as they cannot be set in every process."""
    cuda, einsum = torch.backends.cuda, torch.backends.opt_einsum
    return {
        "linalg": str(cuda.preferred_linalg_library()),
        "blas": str(cuda.preferred_blas_library()),
        "reduced attention": str(cuda.fp16_bf16_reduction_math_sdp_allowed()),  # type: ignore[no-untyped-call] # torch lacks it
        "einsum": f"{einsum.enabled} {einsum.strategy}",
    }


def _hooks() -> list[tuple[Any, ...]]:
    """Hooks that every module's forward pass calls; their keys count up in each process."""
    of = torch.nn.modules.module
    before = [("before", hook) for hook in of._global_forward_pre_hooks.values()]
    after = of._global_forward_hooks.items()
    more = of._global_forward_hooks_with_kwargs, of._global_forward_hooks_always_called
    return [*before, *(("after", hook, *(key in ids for ids in more)) for key, hook in after)]


@cache
def _source() -> str:
    """A fingerprint of what samson computes trials with."""
    root = Path(samson.__file__).parent
    files = [*(root / "evaluation").rglob("*.py"), *(root / "noise").rglob("*.py"), root / "experiments/networks.py"]
    return fingerprint([path.read_bytes() for path in sorted(files)])


@cache
def _machine(device: torch.device) -> tuple[str, ...]:
    """What is known of the hardware on which the last bits depend."""
    found = platform.system(), platform.machine(), _processor(), torch.backends.cpu.get_cpu_capability()
    return (*found, torch.cuda.get_device_name(device)) if device.type == "cuda" else found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
