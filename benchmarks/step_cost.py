"""What a sharpness-aware step costs beyond its two forward and backward passes, against pytorch_optimizer.

    pip install --no-deps -c constraints.txt pytorch_optimizer
    python -m benchmarks.step_cost            # about 20 minutes on one core
    python -m benchmarks.step_cost --sets small resnet18 --rounds 20
    python -m benchmarks.step_cost --sets small resnet18 --device cuda      # with the kernels that a step starts

Memory that is freed and taken again makes most of the difference at large sizes, and what the C library does with it
varies, so everything is measured twice: with its defaults, and with freed memory kept for the next allocation, which
suits an implementation that allocates in each step.

All implementations run in turn, round after round, in one process with one thread and on the same gradients: copy and
climb, then restore and SGD with momentum (`foreach=True` for every one), the two backward passes left out. The peer
runs with `foreach=True`, which is not its default on a CPU; its ASAM is `adaptive=True`, and stands beside our ASAM and
our SAMSON, which it does not have. Where it is not installed, SGD alone takes its place. A ratio is the median over
rounds of ours to theirs within a round, with the quartiles. Words are elements read and written, by dispatch counting
(`traffic.py`), or for the compiled climb by the compiler's own account. Kernels are what a GPU is given to do in a
step, copies counted.

Writes `benchmarks/records/step-cost.json`, or `step-cost-cuda.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # not in its list
from torch.optim import SGD
from torch.profiler import profile

from benchmarks.timing import now, quartiles
from benchmarks.traffic import compiled_words, traffic_of
from benchmarks.writing import write
from samson import ASAM, SAM, SAMSON, SharpnessAware
from samson.optim import Rule

RECORD = Path(__file__).parent / "records" / "step-cost.json"
RULES: dict[str, Rule] = {"sam": SAM(), "asam": ASAM(), "samson": SAMSON()}
SGD_SETTINGS: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "foreach": True}
LIMITS = {"sam": (0.70, 0.80, 20), "asam": (0.80, 0.80, 30), "samson": (0.90, 0.80, 31)}
"""What is aimed at: time against the peer at 600 small tensors and at ResNet-18 size, and words."""

PEERS = {"sam": "peer-sam", "asam": "peer-asam", "samson": "peer-asam"}
OURS = (*RULES, *(f"{name}-compiled" for name in RULES))

Shapes = list[tuple[str, tuple[int, ...]]]
Gradients = list[Tensor]


def small() -> Shapes:
    """600 tensors of 64 elements."""
    return [(f"{i}.weight", (64,)) for i in range(600)]


def add_convolution(shapes: Shapes, inputs: int, outputs: int, size: int) -> None:
    """Add the parameters of a convolution and of the norm layer behind it."""
    name = f"{len(shapes)}"
    shapes.append((f"{name}.conv.weight", (outputs, inputs, size, size)))
    shapes.extend((f"{name}.norm.{kind}", (outputs,)) for kind in ("weight", "bias"))


def resnet18() -> Shapes:
    """The 62 parameters of ResNet-18 for 1,000 classes, 11.7 million elements (He et al. 2016, arXiv 1512.03385)."""
    shapes: Shapes = []
    add_convolution(shapes, 3, 64, 7)
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for block in range(2):
            add_convolution(shapes, inputs, outputs, 3)
            add_convolution(shapes, outputs, outputs, 3)
            if block == 0 and inputs != outputs:
                add_convolution(shapes, inputs, outputs, 1)
            inputs = outputs
    return [*shapes, ("head.weight", (1000, 512)), ("head.bias", (1000,))]


def vit_b() -> Shapes:
    """The parameters of ViT-B/16, 86.6 million elements (Dosovitskiy et al. 2021, arXiv 2010.11929)."""
    d = 768
    shapes: Shapes = [
        ("class", (1, 1, d)),
        ("position", (1, 197, d)),
        ("patch.weight", (d, 3, 16, 16)),
        ("patch.bias", (d,)),
    ]
    for i in range(12):
        for name, outputs, inputs in (("qkv", 3 * d, d), ("out", d, d), ("up", 4 * d, d), ("down", d, 4 * d)):
            shapes += [(f"{i}.{name}.weight", (outputs, inputs)), (f"{i}.{name}.bias", (outputs,))]
        shapes += [(f"{i}.norm{j}.{kind}", (d,)) for j in (1, 2) for kind in ("weight", "bias")]
    return [*shapes, ("norm.weight", (d,)), ("norm.bias", (d,)), ("head.weight", (1000, d)), ("head.bias", (1000,))]


SETS = {"small": small, "resnet18": resnet18, "vit-b": vit_b}


class Step:
    """One implementation's step on given gradients; `first` and `second` are what lies before and after pass two."""

    def __init__(self, shapes: Shapes, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)
        self.named = [(n, nn.Parameter(0.05 * torch.randn(s, generator=generator).to(device))) for n, s in shapes]
        self.weights = [p for _, p in self.named]

    def first(self) -> None:
        """From the first gradients to the perturbed weights."""

    def second(self) -> None:
        """From the second gradients to the new weights."""

    def seconds(self, gradients: tuple[Gradients, Gradients]) -> float:
        """Run once; the time of both parts."""
        total = 0.0
        for part, of_part in ((self.first, gradients[0]), (self.second, gradients[1])):
            for w, g in zip(self.weights, of_part, strict=True):
                w.grad = g
            start = now()
            part()
            total += float((now() - start)[1])
        return total


class Bare(Step):
    """The base optimizer alone."""

    def __init__(self, shapes: Shapes, device: str = "cpu") -> None:
        super().__init__(shapes, device)
        self.optimizer = SGD(self.weights, **SGD_SETTINGS)

    def second(self) -> None:
        """SGD's step."""
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours(Step):
    """`SharpnessAware`, in the explicit form."""

    def __init__(self, shapes: Shapes, rule: Rule, compiled: bool, device: str = "cpu") -> None:
        super().__init__(shapes, device)
        self.optimizer = SharpnessAware(SGD(self.named, **SGD_SETTINGS), rule, model=nn.Identity(), compiled=compiled)

    def first(self) -> None:
        """Enter the block."""
        self.block = self.optimizer.perturbed()
        self.block.__enter__()

    def second(self) -> None:
        """Leave the block and step."""
        self.block.__exit__(None, None, None)
        self.optimizer.step()
        self.optimizer.zero_grad()


class Peer(Step):
    """pytorch_optimizer's SAM, in its two-step form."""

    def __init__(self, shapes: Shapes, adaptive: bool, device: str = "cpu") -> None:
        super().__init__(shapes, device)
        from pytorch_optimizer import SAM as PeerSAM  # noqa: N811

        self.optimizer = PeerSAM(self.weights, SGD, rho=0.05, adaptive=adaptive, **SGD_SETTINGS)

    def first(self) -> None:
        """The peer's climb."""
        self.optimizer.first_step(zero_grad=True)

    def second(self) -> None:
        """The peer's restoring and step."""
        self.optimizer.second_step(zero_grad=True)


def implementations(shapes: Shapes, compiled: bool, device: str) -> dict[str, Step]:
    """Everything that runs in turn, by name."""
    found: dict[str, Step] = {"sgd": Bare(shapes, device)}
    if find_spec("pytorch_optimizer"):
        found |= {"peer-sam": Peer(shapes, False, device), "peer-asam": Peer(shapes, True, device)}
    for name, rule in RULES.items():
        found[name] = Ours(shapes, rule, compiled=False, device=device)
        if compiled:
            found[f"{name}-compiled"] = Ours(shapes, rule, compiled=True, device=device)
    return found


def kernels_of(run: Callable[[], Any]) -> int:
    """What a GPU is given to do, copies counted; 0 without a GPU."""
    now()
    with profile() as seen:
        run()
        now()
    return sum(e.device_type == DeviceType.CUDA and not e.is_user_annotation for e in seen.events())


def measure(name: str, rounds: int, compiled: bool, device: str) -> dict[str, Any]:
    """Times, words and calls of every implementation on one set of parameters."""
    shapes = SETS[name]()
    elements = int(sum(np.prod(shape) for _, shape in shapes))
    generator = torch.Generator().manual_seed(1)
    originals = tuple([torch.randn(s, generator=generator).to(device) for _, s in shapes] for _ in range(2))

    def fresh() -> tuple[Gradients, Gradients]:
        first, second = ([g.clone() for g in some] for some in originals)
        return first, second

    steps = implementations(shapes, compiled, device)
    words: dict[str, float] = {}
    opening: dict[str, float] = {}
    for key, step in steps.items():
        say(f"{name}: first steps of {key}")
        run = partial(step.seconds, fresh())
        start = time.perf_counter()
        if key.endswith("-compiled"):
            words[key] = compiled_words(run) / elements + 2 + 8  # with the restoring and eager SGD
        else:
            run()
        opening[key] = time.perf_counter() - start
        step.seconds(fresh())
    traffic = {key: traffic_of(partial(step.seconds, fresh())) for key, step in steps.items() if key not in words}
    kernels = {key: kernels_of(partial(step.seconds, fresh())) for key, step in steps.items() if device != "cpu"}
    times: dict[str, list[float]] = {key: [] for key in steps}
    for i in range(rounds):
        say(f"{name}: round {i + 1} of {rounds}")
        for key, step in steps.items():
            times[key].append(step.seconds(fresh()))
    return {
        "tensors": len(shapes),
        "elements": elements,
        "rounds": rounds,
        "implementations": {
            key: {
                "milliseconds": quartiles(1e3 * np.array(values)),
                "words": round(words[key] if key in words else traffic[key].words / elements, 3),
                "calls": None if key in words else sum(traffic[key].calls.values()),
                "first_step_seconds": round(opening[key], 2),
                **({"kernels": kernels[key]} if key in kernels else {}),
            }
            for key, values in times.items()
        },
        "ratios": {
            key: {"to": peer, "quartiles": quartiles(ratio)}
            for key, peer in ((key, peer_of(key, times)) for key in times if key in OURS)
            for ratio in [np.array(times[key]) / np.array(times[peer])]
        },
    }


def peer_of(key: str, known: Iterable[str]) -> str:
    """What one of ours is compared with."""
    peer = PEERS[key.removesuffix("-compiled")]
    return peer if peer in known else "sgd"


def say(line: str) -> None:
    """Progress, on standard error."""
    print(f"\r{line:<50}", end="", file=sys.stderr, flush=True)


ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "keeps freed memory": {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)},
}
"""Settings of glibc's allocator, by what they do."""


def measure_all(names: list[str], rounds: int, compiled: bool, device: str) -> dict[str, Any]:
    """Measure every set in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch._inductor.config.force_disable_caches = True  # a first step compiles, and its time and words are counted
    sets = {}
    for name in names:
        of_set = max(rounds // 4, 3) if name == "vit-b" else rounds
        sets[name] = measure(name, of_set, compiled and name == "resnet18", device)
    return sets


def main() -> None:
    """Measure under both allocators, each in a process of its own, and write the record."""
    parser = argparse.ArgumentParser(description="Cost of a step beyond its passes.")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--no-compiled", action="store_true", help="leave out the compiled climb, at ResNet-18 size")
    parser.add_argument("--here", action="store_true", help="measure in this process and print the result as JSON")
    parser.add_argument("--device", default="cpu", help="a GPU is measured with one allocator: its memory is torch's")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure_all(arguments.sets, arguments.rounds, not arguments.no_compiled, arguments.device)))
        return
    again = [sys.executable, "-m", "benchmarks.step_cost", "--here", *sys.argv[1:]]
    found = {}
    cpu = arguments.device == "cpu"
    for name, settings in list(ALLOCATORS.items())[: None if cpu else 1]:
        say(f"allocator: {name}")
        done = subprocess.run(again, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(done.stdout)
    record = {
        "device": "cpu, one thread" if cpu else torch.cuda.get_device_name(arguments.device),
        "peer": "pytorch_optimizer 4.1.0, foreach=True" if find_spec("pytorch_optimizer") else "sgd alone",
        "aims": {key: {"small": s, "resnet18": r, "words": w} for key, (s, r, w) in LIMITS.items()},
        "allocators": found,
    }
    out = arguments.out or (RECORD if cpu else RECORD.with_stem("step-cost-cuda"))
    write(out, record, threads=1)
    print(file=sys.stderr)
    for allocator, sets in found.items():
        print(f"allocator: {allocator}")
        for name, of_set in sets.items():
            for key, ratio in of_set["ratios"].items():
                low, middle, high = ratio["quartiles"]
                own = of_set["implementations"][key]
                moved = f"{own['words']:.1f} words" + (f", {own['kernels']} kernels" if "kernels" in own else "")
                print(f"  {name:9} {key:16} {middle:.2f} [{low:.2f}, {high:.2f}] x {ratio['to']}, {moved}")


if __name__ == "__main__":
    main()
