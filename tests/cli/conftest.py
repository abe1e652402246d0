"""The command line, called in this process and in others, and problems of one's own for it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import main

from tests import programs

TWO_LAYERS = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))

def batches():
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return [(x, network()(x).argmax(1))]
"""
OWN_PROBLEM = """
import time
from pathlib import Path

import torch
from torch import nn

def data():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    y = x[:, :3].argmax(1)
    return {"train": (x[:150], y[:150]), "test": (x[150:], y[150:])}

def network(outputs):
    return nn.Linear(6, outputs)

def halting(run):
    while list(Path("out/records").rglob("*.json")) and not Path("go").exists():
        time.sleep(0.01)
    return run.network()
"""
COMPARE = ["compare", "--data", "own_problem:data", "--network", "own_problem:network", "--methods", "sgd"]
COMPARE += ["--trials", "2", "--levels", ".2", "--out", "out", "--quiet"]


@pytest.fixture(scope="session", autouse=True)
def commands_are_built_once() -> Iterator[None]:
    """Which is most of what a short call of the command line takes; they hold nothing of a call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "get_command", cache(main.get_command))
        yield


@pytest.fixture
def samson() -> Callable[..., tuple[int, str, str]]:
    """Run the command line; gives its status and what it wrote to both streams."""
    return programs.samson


def start(*arguments: object, **settings: object) -> subprocess.Popen:
    """Begin to run the command line in a process of its own."""
    program = [sys.executable, "-c", "from samson.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], dict[str, Any]]:
    """Go to a new folder; gives what puts a module there, by name and source, and gives what the module defines."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, source: str) -> dict[str, Any]:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        names: dict[str, Any] = {}
        exec(source, names)
        return names

    return write


@pytest.fixture
def own(module: Callable[[str, str], object]) -> None:
    """A small problem of one's own for `COMPARE`, and a trainer that halts after the first run until it is let go."""
    module("own_problem", OWN_PROBLEM)
