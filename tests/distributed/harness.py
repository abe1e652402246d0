"""Checks for several processes: scripts register them, torchrun runs them, the tests read what each process wrote.

A process writes one line for each check: its script and name, its error or nothing, and its time in seconds.
"""

import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PROCESSES = 2
folder = Path()
"""Where the checks may leave files; the same for every process."""


class Checks(dict[str, Callable[[], None]]):
    """The checks of a script, by name."""

    def add(self, check: Callable[[], None]) -> Callable[[], None]:
        """Register one check."""
        self[check.__name__] = check
        return check

    def for_each(self, names: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
        """Register one check for each name, which it is called with."""

        def register(check: Callable[[str], None]) -> Callable[[str], None]:
            for name in names:
                self[f"{check.__name__}[{name}]"] = lambda name=name: check(name)
            return check

        return register


def main(scripts: Sequence[str], results: Path) -> None:
    """Run the checks of scripts in this process, one of several that leave their results in a folder."""
    global folder  # noqa: PLW0603
    folder = results
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message="SharpnessAware|Lookbehind")
    dist.init_process_group("gloo", timeout=timedelta(seconds=90))
    checks = {script: import_module(f"tests.distributed.{script}").check for script in scripts}
    for name, check in [(f"{script} {name}", each) for script in scripts for name, each in checks[script].items()]:
        error, start = None, time.perf_counter()
        try:
            check()
        except Exception:
            error = traceback.format_exc()
        with (folder / f"process{dist.get_rank()}.jsonl").open("a") as file:
            file.write(json.dumps([name, error, time.perf_counter() - start]) + "\n")
        dist.barrier()  # a process that waits in a check for one that failed ends here, by the timeout
    dist.destroy_process_group()


def outcome(results: Path, check: str) -> str:
    """What went wrong with a check, from the folder that the processes wrote to; empty if it held in all."""
    wrong = []
    for rank in range(PROCESSES):
        file = results / f"process{rank}.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        errors = {name: error for name, error, _ in lines}
        error = errors.get(check, "did not finish, or an earlier check stopped the script")
        wrong += [f"process {rank}: {error}"] if error else []
    return "\n".join(wrong)


def everywhere(value: Any) -> list[Any]:
    """This value of every process."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def whole(tensor: Tensor) -> Tensor:
    """A plain copy of a tensor, gathered if it is sharded."""
    with torch.no_grad():
        return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()  # type: ignore[operator]


def contents(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of parameters and optimizer state, gathered, by name."""
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = whole(parameter)
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[f"{name} {key}"] = whole(value)
    return found


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """A fingerprint of every bit of parameters and optimizer state."""
    found = contents(model, optimizer)
    return sha256(b"".join(name.encode() + found[name].numpy().tobytes() for name in found)).hexdigest()


def same_everywhere(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether every process has the same bits."""
    return len(set(everywhere(bits(model, optimizer)))) == 1


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any entry; both must hold the same names."""
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    return max(float((one[name] - other[name]).detach().abs().max()) for name in one)
