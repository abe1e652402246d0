"""Fingerprints: equal for equal values in any process, and another one for every change that matters."""

import argparse
import dataclasses
import functools
import importlib.util
import logging
import os
import random
import subprocess
import sys
import warnings
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Lock
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from samson.evaluation import METRICS, DataSetMetric, MeanThen
from samson.evaluation.code_contents import is_library
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


def of_class(body: str) -> nn.Module:
    """A module of a class with such a body."""
    lines = "".join(f"\n    {line}" for line in body.splitlines())
    kind: type[nn.Module] = from_source(f"class N(nn.Module):{lines}", functools=functools)
    return kind()


def measured(table: float) -> Any:
    """A noise that loads what it is made of."""
    source = """
@dataclasses.dataclass(frozen=True)
class Measured:
    path: str
    def __post_init__(self):
        object.__setattr__(self, "table", load(self.path))
"""
    return from_source(source, dataclasses=dataclasses, load=lambda path: torch.tensor(table))("table.csv")


class Skewed(Gaussian):
    def __init__(self, sigma: float, skew: float) -> None:
        super().__init__(sigma)
        object.__setattr__(self, "skew", skew)


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Stateful(nn.Module):
    """A module that holds what only its state tells."""

    __slots__ = ("hidden",)

    def __init__(self, hidden: float) -> None:
        super().__init__()
        self.hidden = hidden

    def get_extra_state(self) -> float:
        return self.hidden


class Settings(dict[str, float]):
    """A mapping with an attribute."""

    def __init__(self, scale: float) -> None:
        super().__init__(a=1.0)
        self.scale = scale


class Quoted(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


def torchs(make: Callable[[float], Any]) -> list[Any]:
    """Two of what torch makes, some of it deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [make(2.0), make(3.0)]


def quantised(weight: float) -> nn.Module:
    layer = nn.Linear(3, 2)
    nn.init.constant_(layer.weight, weight)
    nn.init.zeros_(layer.bias)
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})


def hooked_with(**how: bool) -> nn.Module:
    model = net()
    model.register_forward_hook(print, **how)
    return model


def counting(x: torch.Tensor) -> torch.Tensor:
    return x


ZEROS = torch.zeros(2, 2)
TWICE = "    return 2 * x"
THRICE = "    return 3 * x"
CHANGED: dict[str, list[Any]] = {
    "a quantised part": torchs(quantised),
    "a scale of quantised numbers": [
        torch._make_per_tensor_quantized_tensor(torch.ones(2, dtype=torch.int8), scale, zero)
        for scale, zero in ((0.1, 0), (0.2, 0), (0.1, 1))
    ],
    "a scripted part": torchs(lambda scale: nn.Sequential(torch.jit.script(Scaled(scale)))),
    "a traced part": torchs(lambda scale: torch.jit.trace(Scaled(scale), ZEROS)),
    "a traced function": torchs(lambda scale: torch.jit.trace(Scaled(scale).forward, ZEROS)),
    "a graph": torchs(lambda scale: torch.fx.symbolic_trace(Scaled(scale))),
    "a state of its own": [Stateful(1.0), Stateful(2.0)],
    "a namespace with a function": [net(cfg=SimpleNamespace(act=torch.relu, scale=scale)) for scale in (1.0, 3.0)],
    "a parsed command line": [argparse.Namespace(act=counting, scale=scale) for scale in (1.0, 3.0)],
    "what a noise loaded": [measured(1.0), measured(2.0)],
    "an attribute of a noise's subclass": [Skewed(0.1, 1.0), Skewed(0.1, 2.0)],
    "an attribute of a class": [
        of_class(f"act = {value}")
        for value in ("torch.sin", "torch.cos", "(1.0,)", "(2.0,)", "{'a': 1}", "{'a': 2}", "torch.ones(1)")
    ]
    + [of_class(f"act = staticmethod(torch.{name})") for name in ("sin", "cos")],
    "a cached property": [of_class(f"@functools.cached_property\ndef s(self): return {n}") for n in (1, 2)],
    "a cached method": [of_class(f"@functools.lru_cache\ndef s(self): return {n}") for n in (1, 2)],
    "a base class": [from_source("class N(Base): pass", Base=base) for base in (nn.ReLU, nn.GELU)],
    **{
        f"a function with {decorator}": [
            from_source(f"@{decorator}\ndef f(x):\n{body}", functools=functools, F=functional)
            for body in (TWICE, THRICE)
        ]
        for decorator in (
            *("functools.lru_cache", "functools.singledispatch", "functools.wraps(F.mse_loss)", "torch.no_grad()"),
            "functools.partial",
        )
    },
    "a bound function": [torch.tensor(2.0).mul, torch.tensor(3.0).mul, (2.0).__mul__, (3.0).__mul__],
    "an attribute of a function": [
        from_source("def f(x):\n    return x\nf.scale = 1\ng = f"),
        from_source("def f(x):\n    return x\nf.scale = 2\ng = f"),
    ],
    "a queue": [deque([torch.arange(5000.0)]), deque([torch.arange(5000.0).index_fill(0, torch.tensor(2500), 0.0)])],
    "generators": [np.random.default_rng(1), np.random.default_rng(2), random.Random(1), random.Random(2)],
    "masked arrays": [np.ma.array([1.0, 2.0], mask=mask) for mask in ([0, 1], [0, 0])],
    "distributions": [
        torch.distributions.Normal(torch.zeros(2), width) for width in (torch.ones(2), 2 * torch.ones(2))
    ],
    "subclasses of Python's own": [Quoted("a"), Quoted("b"), Settings(1.0), Settings(2.0)],
    "a default": [defaultdict(int), defaultdict(float)],
    "how a hook is called": [hooked_with(), hooked_with(with_kwargs=True), hooked_with(always_call=True)],
    "views": [(ZEROS + 1j).conj(), ZEROS + 1j, (ZEROS + 1j).conj().imag],
    "tensors of many lengths": torchs(lambda n: torch.nested.nested_tensor([torch.ones(2), n * torch.ones(3)]))
    + torchs(lambda n: torch.nested.nested_tensor([torch.ones(2), n * torch.ones(3)], layout=torch.jagged)),
    "compiled models": [torch.compile(net(scale), backend="eager") for scale in (1.0, 2.0)],
    "mapped functions": [torch.func.vmap(scaled(1.0)), torch.func.vmap(scaled(2.0))],
    "compiled functions": [
        torch.compile(from_source(f"def f(x):\n{body}"), backend="eager") for body in (TWICE, THRICE)
    ],
}
"""What shows little of itself."""


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
    **CHANGED,
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


def compiled_in_place() -> nn.Module:
    model = net()
    model.compile(backend="eager")
    return model


def stays(model: nn.Module, x: torch.Tensor) -> bool:
    before = fingerprint(model)
    with torch.no_grad():
        model(x)
    return fingerprint(model) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.compile(net(), backend="eager"),
        compiled_in_place,
        lambda: nn.Sequential(weight_norm(nn.Linear(3, 2))),
        lambda: nn.Sequential(spectral_norm(nn.Linear(3, 2))).eval(),
        lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(3, 2), "weight", 0.5)),
        lambda: nn.LSTM(3, 2),
        lambda: nn.TransformerEncoderLayer(3, 1, 4).eval(),
        lambda: net(cfg=torch.compile(counting, backend="eager")),
        lambda: torch.fx.symbolic_trace(net()),
    ],
)
def test_a_forward_pass_changes_nothing(make: Callable[[], nn.Module]) -> None:
    assert stays(make(), torch.zeros(1, 2, 3))


def test_a_pass_that_counts_is_seen() -> None:
    """The test above can fail."""
    model = nn.BatchNorm1d(2)
    assert not stays(model.train(), torch.zeros(1, 2, 3))


def test_what_has_no_influence_does_not_count() -> None:
    one, other = net(lock=Lock(), log=logging.getLogger("a")), net(lock=Lock(), log=logging.getLogger("b"))
    one.ref, other.ref = weakref.ref(one), weakref.ref(other)
    assert fingerprint(one) == fingerprint(other)


class Closed:
    """What cannot be pickled."""

    def __getstate__(self) -> Any:
        raise TypeError("cannot pickle 'Connection' object")


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else None


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: net(cfg=SimpleNamespace(file=sys.__stdout__)), "model.cfg.file` is a _io.TextIOWrapper"),
        (lambda: net(layer=nn.Sequential(net(table={"a": [Closed()]}))), r"model.layer.0.table.a.0` .*'Connection'"),
        (lambda: net(rows=(x for x in ())), r"model.rows` is a builtins.generator"),
        (lambda: nn.LazyLinear(2), r"model.weight` .*it has no values"),
        (lambda: nn.Linear(3, 2, device="meta"), r"model.weight` .*it has no values"),
        (lambda: net(inner=deep(400)), r"model.inner.0.0` .* too deep"),
        (lambda: [nn.Identity(), partial(pow, Closed())], r"model.1.*` is a .*Closed"),
    ],
)
def test_what_does_not_show_itself_is_refused(make: Callable[[], Any], where: str) -> None:
    with pytest.raises(ValueError, match=f"`{where}.*Leave out `Kept` \\(--resume\\), or give the object a"):
        fingerprint({"model": make()})


def test_a_module_with_a_name_of_the_standard_library_counts_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(constant: int) -> Any:
        path = tmp_path / str(constant) / "statistics.py"
        path.parent.mkdir()
        path.write_text(
            f"def mean(x):\n    return {constant}\n\nclass Mean:\n    def __call__(self):\n        return {constant}\n"
        )
        spec = importlib.util.spec_from_file_location("statistics", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "statistics", module)
        is_library.cache_clear()
        spec.loader.exec_module(module)
        return [fingerprint(module.mean), fingerprint(module.Mean()), fingerprint(module)]

    one, other = loaded(1), loaded(2)
    monkeypatch.undo()
    is_library.cache_clear()
    assert not set(one) & set(other)
    assert is_library("statistics")


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
