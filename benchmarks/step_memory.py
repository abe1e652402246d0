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
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.step_cost import RULES, Bare, Ours, Peer, Shapes, Step, add_convolution
from benchmarks.writing import write

RECORD = Path(__file__).parent / "records" / "step-memory.json"
AIMS = {"sam": 3.1, "asam": 4.1, "samson": 4.1}
"""The most copies at the peak."""


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

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for part in 3 * (step.first, step.second):
            for w in step.weights:
                w.grad = None
                w.grad = torch.randn_like(w)
            part()
    held = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return {"peak": round(peak / size, 3), "between_steps": round(held / size, 3)}


def implementations() -> dict[str, Callable[[Shapes], Step]]:
    """Everything that is measured, by name."""
    ours = {name: (lambda shapes, rule=rule: Ours(shapes, rule, compiled=False)) for name, rule in RULES.items()}
    peers = {"peer-sam": lambda shapes: Peer(shapes, False), "peer-asam": lambda shapes: Peer(shapes, True)}
    return {"sgd": Bare, **ours, **peers}


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
        print(f"{name:10} peak {values['peak']:.2f}, between steps {values['between_steps']:.2f}")


if __name__ == "__main__":
    main()
