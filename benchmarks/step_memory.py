"""What a sharpness-aware step holds in memory beyond the weights, against pytorch_optimizer.

    pip install --no-deps -c constraints.txt pytorch_optimizer
    python -m benchmarks.step_memory          # less than a minute on one core

The unit is one copy of the parameters, at the size of ResNet-50. Each implementation makes three steps on given
gradients, which appear as a backward pass would make them, without activations. Counted is what torch's allocator hands
out and takes back, by its profiler: the peak, and what is left when a step is done and its gradients are cleared.

Writes `benchmarks/records/step-memory.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD

from benchmarks.memory import memory_of
from benchmarks.step_cost import RULES, SGD_SETTINGS, Bare, Ours, Peer, Shapes, Step, add_convolution
from benchmarks.writing import write
from samson import SAMSON, Lookbehind, SharpnessAware

RECORD = Path(__file__).parent / "records" / "step-memory.json"
MODES: dict[str, dict[str, Any]] = {
    "samson, previous": {"ascent": "previous"},
    "samson, momentum": {"ascent": "momentum"},
    "samson, mixed": {"mix": 0.5},
    "samson, reused": {"every": 2, "reuse": 0.5},
}
AIMS = {
    **{"sam": 3.1, "asam": 4.1, "samson": 4.1, "lookbehind": 8.1},
    **{"samson, previous": 5.1, "samson, momentum": 4.1, "samson, mixed": 5.1, "samson, reused": 6.2},
}
"""The most copies at the peak."""


class Mode(Ours):
    """SAMSON in another mode, in the explicit form."""

    def __init__(self, shapes: Shapes, **modes: Any) -> None:
        Step.__init__(self, shapes)
        self.optimizer = SharpnessAware(SGD(self.named, **SGD_SETTINGS), SAMSON(), model=nn.Identity(), **modes)

    def first(self) -> None:
        """Enter the block, in a step that has one."""
        if not self.optimizer.needs_first_pass:
            self.optimizer.zero_grad()
        self.block = self.optimizer.perturbed() if self.optimizer.climbs else nullcontext()
        self.block.__enter__()


class Looking(Step):
    """Lookbehind with SAMSON and two ascents."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes)
        self.optimizer = Lookbehind(SGD(self.named, **SGD_SETTINGS), SAMSON(), k=2, model=nn.Identity())

    def second(self) -> None:
        """All passes, on given gradients."""
        self.optimizer.step(self.backward)
        self.optimizer.zero_grad()

    def backward(self) -> None:
        """What a closure does."""
        give_gradients(self.weights)


def give_gradients(weights: list[nn.Parameter]) -> None:
    """New ones in the place of those that are there, as a backward pass makes them."""
    for w in weights:
        w.grad = None
        w.grad = torch.randn_like(w)


def resnet50() -> Shapes:
    """The 161 parameters of ResNet-50 for 1,000 classes, 25.6 million elements (He et al. 2016, arXiv 1512.03385)."""
    shapes: Shapes = []
    add_convolution(shapes, 3, 64, 7)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            add_convolution(shapes, inputs, width, 1)
            add_convolution(shapes, width, width, 3)
            add_convolution(shapes, width, 4 * width, 1)
            if block == 0:
                add_convolution(shapes, inputs, 4 * width, 1)
            inputs = 4 * width
    return [*shapes, ("head.weight", (1000, inputs)), ("head.bias", (1000,))]


def copies_of(make: Callable[[Shapes], Step], shapes: Shapes) -> dict[str, float]:
    """The peak and what is kept between steps, in copies of the parameters."""
    step = make(shapes)
    size = sum(w.nbytes for w in step.weights)

    def steps() -> None:
        for part in 3 * (step.first, step.second):
            give_gradients(step.weights)
            part()

    peak, held = memory_of(steps)
    return {"peak": round(peak / size, 3), "between_steps": round(held / size, 3)}


def implementations() -> dict[str, Callable[[Shapes], Step]]:
    """Everything that is measured, by name."""
    ours = {name: (lambda shapes, rule=rule: Ours(shapes, rule, compiled=False)) for name, rule in RULES.items()}
    peers = {"peer-sam": lambda shapes: Peer(shapes, False), "peer-asam": lambda shapes: Peer(shapes, True)}
    modes = {name: partial(Mode, **settings) for name, settings in MODES.items()}
    return {"sgd": Bare, **ours, **modes, "lookbehind": Looking, **peers}


def main() -> None:
    """Measure and write the record."""
    torch.set_num_threads(1)
    shapes = resnet50()
    found = {name: copies_of(make, shapes) for name, make in implementations().items()}
    record = {
        "device": "cpu, one thread",
        "peer": "pytorch_optimizer 4.1.0, foreach=True",
        "unit": "copies of the parameters beyond the weights, ResNet-50",
        "aims": AIMS,
        "copies": found,
    }
    write(RECORD, record, threads=1)
    for name, values in found.items():
        print(f"{name:16} peak {values['peak']:.2f}, between steps {values['between_steps']:.2f}")


if __name__ == "__main__":
    main()
