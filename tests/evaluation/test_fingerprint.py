"""Fingerprints: equal for equal values in any process, and another one for every change that matters."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from threading import Lock
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samson.evaluation import METRICS, DataSetMetric, MeanThen
from samson.evaluation.fingerprint import fingerprint
from samson.noise import PCM, PRESETS, BitErrors, Compose, CustomPCM, Gaussian, Periphery, Quantize, ReRAM
from samson.noise.reram import WAN2022
from tests.conftest import make_batch, make_model


def from_source(source: str, **globals_: Any) -> Any:
    """The last name that a piece of code defines."""
    names: dict[str, Any] = {"__name__": "mine", "nn": nn, "torch": torch, **globals_}
    exec(source, names)
    return list(names.values())[-1]


def scaled(factor: float) -> Callable[[float], float]:
    return lambda x: factor * x


@dataclass(frozen=True)
class Held:
    """A setting with an array in it."""

    array: np.ndarray


class Packed:
    """An object whose attributes are not all of it, as those of extensions."""

    __slots__ = ("_lock", "word")

    def __init__(self, word: str) -> None:
        self._lock, self.word = Lock(), word

    def __getstate__(self) -> str:
        return self.word


class Net(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 2), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.layer(x)


def net(scale: float = 1.0, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    model = Net(scale)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def hooked() -> nn.Module:
    model = net()
    model.register_forward_hook(lambda module, args, output: 2 * output)
    return model


ZEROS = torch.zeros(2, 2)
DIFFERENT: dict[str, list[Any]] = {
    "tensors": [
        torch.zeros(4),
        ZEROS,
        ZEROS[:, :1],
        torch.tensor([0.0, 0, 0, -0.0]),
        torch.zeros(4, dtype=torch.int32),
        np.zeros(4),
        np.zeros(4, np.float32),
        np.array(["a", None]),
        np.array(["b", None]),
        [],
        None,
        {"x": (torch.zeros(4), [torch.tensor(True)])},
        {"y": (torch.zeros(4), [torch.tensor(True)])},
    ],
    "memory orders, on which the order of sums depends": [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    ],
    "plain values": [1, 1.0, True, "1", b"1", 1 + 0j, (1,), [1], {1}, {1: 1}, None],
    "objects by what they are made again from": [Packed("a"), Packed("b"), Fraction(1, 2), Fraction(1, 3)],
    "nesting": [[[1], 2], [[1, 2]], [1, [2]], [1, 2]],
    "noises": [
        Gaussian(0.1),
        Gaussian(0.1 + 1e-16),
        Gaussian(0.1, per="channel"),
        Quantize(8),
        Compose(Quantize(8), Gaussian(0.1)),
        Compose(Gaussian(0.1), Quantize(8)),
        BitErrors(0.1),
        BitErrors(0.1, persistent=True),
        ReRAM(),
        ReRAM(constants=replace(WAN2022, g_max_us=41.0)),
        PCM(),
        CustomPCM(),
        Held(np.array([1.0, 2.0])),
        Held(np.array([1.0, 2.0 + 1e-15])),
        *(kind.periphery for kind in PRESETS.values() if kind.periphery is not None),
        Periphery(),
        Periphery(input_ranges={"a": 1.0}),
        Periphery(input_ranges={"a": 2.0}),
    ],
    "metrics": [
        *METRICS.values(),
        DataSetMetric("perplexity", MeanThen(scaled(1.0), torch.exp), higher_is_better=False),
        DataSetMetric("perplexity", MeanThen(scaled(1.0), torch.expm1), higher_is_better=False),
        replace(METRICS["accuracy"], higher_is_better=False),
    ],
    "functions of one name": [
        from_source("def f(x):\n    return x + 1"),
        from_source("def f(x):\n    return x + 2"),
        from_source("def f(x):\n    return x - 1"),
        from_source("def f(x):\n    return torch.sin(x)"),
        from_source("def f(x):\n    return torch.cos(x)"),
        from_source("def f(x, y=1):\n    return x + 1"),
        from_source("def f(x, y=2):\n    return x + 1"),
        from_source("def f(x, *, y=2):\n    return x + 1"),
        from_source("def f(x):\n    return [y + 1 for y in x]"),
        from_source("def f(x):\n    return [y + 2 for y in x]"),
        from_source("def f(x):\n    return x in {'a', 'b'}"),
        from_source("def f(x):\n    return x in {'a', 'c'}"),
        from_source("def f(x):\n    return 3", __name__=None),
        from_source("def f(x):\n    return 4", __name__=None),
    ],
    "what functions are given": [scaled(1.0), scaled(2.0), partial(pow, 2), partial(pow, 3), partial(max, 3)],
    "classes of one name": [
        from_source("class N(nn.Module):\n    def forward(self, x):\n        return x + 1"),
        from_source("class N(nn.Module):\n    def forward(self, x):\n        return x + 2"),
        from_source("class N(nn.Module):\n    bias = 1\n    def forward(self, x):\n        return x + 1"),
        from_source("class N(nn.Module):\n    bias = 2\n    def forward(self, x):\n        return x + 1"),
        from_source("class N(nn.Module):\n    @property\n    def f(self):\n        return 1"),
        from_source("class N(nn.Module):\n    @property\n    def f(self):\n        return 2"),
        from_source("class N(nn.Module):\n    @staticmethod\n    def f():\n        return 1"),
        from_source("class N(nn.Module):\n    @staticmethod\n    def f():\n        return 2"),
        from_source("class N(Base):\n    pass", Base=from_source("class B(nn.Module):\n    x = 1")),
        from_source("class N(Base):\n    pass", Base=from_source("class B(nn.Module):\n    x = 2")),
    ],
    "models": [
        net(),
        net(2.0),
        net(extra="setting"),
        net(activation=torch.sin),
        net(activation=torch.cos),
        hooked(),
        net(table=ZEROS),
        net().double(),
        nn.Sequential(net()),
        nn.LayerNorm(3, eps=1e-5),
        nn.LayerNorm(3, eps=1e-6),
        make_model(torch.float32, 0),
        make_model(torch.float32, 1),
        make_model(torch.float32, 0).append(nn.ReLU()),
        make_model(torch.float32, 0).append(nn.GELU()),
    ],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_told_apart(kind: str) -> None:
    found = list(map(fingerprint, DIFFERENT[kind]))
    assert len(set(found)) == len(found), found
    assert found == list(map(fingerprint, DIFFERENT[kind]))


def test_what_is_the_same_has_the_same() -> None:
    def copied(function: FunctionType) -> FunctionType:
        return FunctionType(function.__code__.replace(co_firstlineno=99), function.__globals__, function.__name__)

    model = make_model(torch.float32)
    with torch.no_grad():
        model(make_batch(torch.float32)[0])
    pairs: list[tuple[Any, Any]] = [
        (model.train(), make_model(torch.float32).eval().requires_grad_(False)),
        (torch.zeros(2, 2).t().contiguous(), ZEROS),
        (Gaussian(0.1), Gaussian(0.1)),
        (scaled(2.0), scaled(2.0)),
        (copied(make_batch), copied(make_batch)),
        ({"b", "a", "c"}, {"c", "b", "a"}),
    ]
    model[1].running_mean.copy_(make_model(torch.float32)[1].running_mean)
    model[1].running_var.copy_(make_model(torch.float32)[1].running_var)
    model[1].num_batches_tracked.zero_()
    for one, other in pairs:
        assert fingerprint(one) == fingerprint(other)


def test_what_holds_itself_comes_to_an_end() -> None:
    one, other = net(), net()
    one.me, other.me = one, nn.Identity()
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


PROGRAM = """
from samson.evaluation.fingerprint import fingerprint
from tests.evaluation.test_fingerprint import DIFFERENT
print(*(fingerprint(value) for values in DIFFERENT.values() for value in values))
"""


def test_another_process_finds_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [fingerprint(value) for values in DIFFERENT.values() for value in values]


def test_metrics_of_torchmetrics_are_told_apart() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    three, again, four = (torchmetrics.classification.MulticlassF1Score(n) for n in (3, 3, 4))
    assert fingerprint(three) == fingerprint(again)
    assert fingerprint(three) != fingerprint(four)
