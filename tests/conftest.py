"""Tests and the processes that they start have one thread; a small model whose parameters are of every kind."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes on few cores wait for each other's threads
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would pass on that it is ignored

BROWSER = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""A browser that draws pages without a screen."""

Batch = tuple[Tensor, Tensor]


def _import_torchvision() -> torch.library.Library | None:
    """Import torchvision, which Transformers, Lightning and timm do where it is installed.

    A regular build of it beside a CPU build of torch misses two operators that no network needs. They are declared
    here, for as long as the library that is returned lives.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_module("torchvision")
        return library
    return None


with_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers, of `dev`, is missing")
"""For what needs it in the environment of `make test`."""

_OPERATORS = _import_torchvision() if find_spec("torchvision") else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="Fail where a package that a test needs is missing.")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        if find_spec(mark.args[0]) is None:
            outcome = pytest.fail if item.config.getoption("--no-skips") else pytest.skip
            outcome(f"{mark.args[0]} is not installed: see `make test-extras`.")
    if item.get_closest_marker("needs_browser") and BROWSER is None:
        outcome = pytest.fail if item.config.getoption("--no-skips") else pytest.skip
        outcome("Chromium or Chrome is not installed.")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers in any order of tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forgets_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module that a test wrote into a folder of its own is not found, loaded, by another test that writes one so."""
    before = set(sys.modules)
    yield
    folders = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folders):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _leaves_no_block_open() -> Iterator[None]:
    """A block that a test does not leave would hold back Ctrl-C in those behind it."""
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def make_model(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    """A convolution, a norm layer with a scale that is not 1, and a linear layer, with biases."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
    ).to(dtype)
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 1.5)
        model[1].bias.uniform_(-0.5, 0.5)
    return model


def make_batch(dtype: torch.dtype = torch.float64, seed: int = 1, size: int = 16) -> Batch:
    drawn = generator(seed)
    return (
        torch.randn(size, 2, 5, generator=drawn, dtype=torch.float64).to(dtype),
        torch.randint(3, (size,), generator=drawn),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def closure_for(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, losses: list[float] | None = None
) -> Callable[[], Tensor]:
    """A closure by torch's convention, which also writes down each loss that it computes."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        if losses is not None:
            losses.append(loss.item())
        return loss

    return closure


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bitwise equality, also of NaN."""
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype
        and one[k].contiguous().numpy().tobytes() == other[k].contiguous().numpy().tobytes()
        for k in one
    )


@pytest.fixture
def model() -> nn.Sequential:
    return make_model()


@pytest.fixture
def batch() -> Batch:
    return make_batch()


class Alike(nn.Module):
    """Two layers, one behind the other, whose names are the same without prefixes of wrappers."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.own = make()
        self.module = nn.ModuleDict({"own": make()})

    def forward(self, x: Tensor) -> Tensor:
        return self.module["own"](self.own(x))


def empty_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer, perhaps without weights, which torch warns of when it draws them."""
    layer = nn.Linear(1, 1)
    layer.weight, layer.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
    return layer


class Interruption:
    """Send Ctrl-C at one event, counted over all functions of this library and of `contextlib`."""

    def __init__(self, number: int, lines: bool = True, opcodes: bool = False) -> None:
        self.number, self.lines, self.opcodes, self.seen = number, lines, opcodes, 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if "samson/" not in file and not file.endswith("contextlib.py"):
            return None
        frame.f_trace_opcodes = self.opcodes
        self.seen += 1
        if self.seen == self.number:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
        return self if self.lines else None


def interrupted(
    run: Callable[[], object], number: int, opcodes: bool = False, lines: bool = True
) -> tuple[KeyboardInterrupt | None, int]:
    """What was raised by Ctrl-C at an event of `run`, and the number of events: calls alone, or lines as well."""
    interruption = Interruption(number, lines, opcodes)
    try:
        sys.settrace(interruption)
        run()
    except KeyboardInterrupt as error:
        return error, interruption.seen
    finally:
        sys.settrace(None)
    return None, interruption.seen
