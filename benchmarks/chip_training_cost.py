"""What a training step through converters costs, against a plain step and against aihwkit-lightning.

    pip install --no-deps -c constraints.txt aihwkit-lightning
    python -m benchmarks.chip_training_cost          # about 3 minutes on one core

The same convolutional network (ResNet-8 of width 16, mini-batches of 64 images of 32 x 32, SGD with momentum) takes
steps in turn, round after round, in one process with one thread: plain; through converters of 254 steps with learned
input ranges and an output bound of 14; and by the whole recipe, which adds noise of .03 on the weights of each output
channel and clipping at 2.5 standard deviations. aihwkit-lightning is set the same (its torch kernels, one tile a
layer), but its weights lie channel first: it refuses others. A ratio is the median over rounds within a round, with the
quartiles. To reach: at most 1.6 plain steps through converters, and less than aihwkit-lightning.

Writes `benchmarks/records/chip-training-cost.json`.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Step, in_order, in_turn, ratio, step_of
from benchmarks.writing import write
from samson import NoiseInjection, SharpnessAware, WeightClipping, param_groups
from samson.experiments import make_network
from samson.noise import Gaussian, Periphery, ThroughChip

RECORD = Path(__file__).parent / "records" / "chip-training-cost.json"
ROUNDS = 30
BATCH = 64
LIMIT = 1.6
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9}
CONVERTERS = Periphery(dac_steps=254, adc_steps=254, adc_bound=14.0)
NOISE, CLIP = 0.03, 2.5


def network() -> nn.Module:
    """The network, its images channel by channel last."""
    return in_order(make_network("resnet8", (3, 32, 32), 10, 0), torch.channels_last).train()


def ours(images: Tensor, targets: Tensor, *, converters: bool, recipe: bool) -> Step:
    """A step of this package."""
    model = network()
    if converters:
        ThroughChip(model, CONVERTERS, [images])
    optimizer: torch.optim.Optimizer = torch.optim.SGD(param_groups(model), **SGD)
    if recipe:
        optimizer = SharpnessAware(optimizer, NoiseInjection(Gaussian(NOISE, per="channel")))
        optimizer.register_step_post_hook(WeightClipping(CLIP, per="channel"))
    return step_of(model, optimizer, images, targets)


def peer(images: Tensor, targets: Tensor, *, recipe: bool) -> Step:
    """A step of aihwkit-lightning."""
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.optim import AnalogOptimizer
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig, WeightClipType, WeightNoiseInjectionType

    config = TorchInferenceRPUConfig()
    config.forward.inp_res = config.forward.out_res = 254
    config.forward.out_bound = CONVERTERS.adc_bound
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_from_data = 1
    config.mapping.max_input_size = 0
    if recipe:
        config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL_PER_CHANNEL
        config.modifier.std_dev = NOISE
        config.clip.type = WeightClipType.LAYER_GAUSSIAN_PER_CHANNEL
        config.clip.sigma = CLIP
    model = convert_to_analog(in_order(network(), torch.contiguous_format), config).train()
    images = images.contiguous()
    optimizer = AnalogOptimizer(torch.optim.SGD, model.analog_layers, model.parameters(), **SGD)
    return step_of(model, optimizer, images, targets)


def main() -> None:
    """Measure and write the record."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    targets = torch.randint(10, (BATCH,))
    steps = {
        "plain": ours(images, targets, converters=False, recipe=False),
        "converters": ours(images, targets, converters=True, recipe=False),
        "recipe": ours(images, targets, converters=True, recipe=True),
    }
    if find_spec("aihwkit_lightning"):
        steps["lightning converters"] = peer(images, targets, recipe=False)
        steps["lightning recipe"] = peer(images, targets, recipe=True)
    seconds = in_turn(steps, ROUNDS, uncounted=3)
    record = {
        "network": "resnet8",
        "batch": BATCH,
        "rounds": ROUNDS,
        "plain_s": round(float(np.median(seconds["plain"])), 5),
        "to_plain": {name: ratio(values, seconds["plain"]) for name, values in seconds.items() if name != "plain"},
        "to_lightning": {
            name: ratio(seconds[name], seconds[f"lightning {name}"])
            for name in ("converters", "recipe")
            if f"lightning {name}" in seconds
        },
        "limit": LIMIT,
    }
    write(RECORD, record)
    sys.stdout.write(json.dumps({key: record[key] for key in ("to_plain", "to_lightning")}, indent=1) + "\n")


if __name__ == "__main__":
    main()
