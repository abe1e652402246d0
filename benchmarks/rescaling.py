"""Does moving scale between layers help a small language model on a chip with coarse input converters?

Networks (`gpt-tiny` on tiny Shakespeare, `plain` AdamW, two epochs of the data set's recipe) lie on chips whose layers
have converters of 14, 30 or 62 steps with one calibrated range a layer, and are exact otherwise. Each is put there as
trained and after `rescale`, with the strength that is best on the validation split; for both, the share of inputs that
ranges cover (the quantile of `calibrate`) is chosen there too, for each number of steps. Bits per token are of the test
split, which chooses nothing.

Two controls. The same networks with outliers put in, two channels of each norm times 30 and their readers' weights
divided by it, compute the same, and rescaling must take that back. And weights with noise, without converters, on the
same chips, show what the weights pay for it.

    SAMSON_DATA=... python -m benchmarks.rescaling       # about 5 minutes on one core

writes `benchmarks/records/rescaling.json` and prints its findings.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.evidence import data_root
from benchmarks.writing import interval, write
from samson.experiments import (
    RECIPES,
    LanguageModelling,
    Run,
    Splits,
    load_data_set,
    make_network,
    one_thread,
    parse_methods,
    train,
)
from samson.noise import Gaussian, Periphery, WeightNoise, calibrate, deploy, rescale

RECORD = Path(__file__).parent / "records" / "rescaling.json"
NETWORK = "gpt-tiny"
SEEDS = (0, 1, 2)
RECIPE = replace(RECIPES["tiny-shakespeare"], epochs=2, precision="float32")
STEPS = (14, 30, 62)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
QUANTILES = (1.0, 0.999, 0.99)
CALIBRATION = VALIDATION = 128
BATCH = 64
OUTLIERS, FACTOR = (5, 40), 30.0
WORTH = 0.005
"""Bits per token from which on a difference matters."""
NOISE, CHIPS = Gaussian(0.05, per="channel"), 5

Bits = NDArray[np.float64]
"""Bits per token by example."""
Pair = tuple[Tensor, Tensor]


def norms_and_readers(model: Any) -> Iterator[tuple[nn.LayerNorm, nn.Linear]]:
    """Each norm with the layer that reads it."""
    for block in model.blocks:
        yield block.norm1, block.attention.qkv
        yield block.norm2, block.widen
    yield model.norm, model.head


@torch.no_grad()
def with_outliers(model: nn.Module) -> nn.Module:
    """A copy that computes the same with outlier channels in the inputs of layers."""
    found = copy.deepcopy(model)
    for norm, reader in norms_and_readers(found):
        for channel in OUTLIERS:
            norm.weight[channel] *= FACTOR
            norm.bias[channel] *= FACTOR
            reader.weight[:, channel] /= FACTOR
    return found


@torch.no_grad()
def unevenness(model: nn.Module, inputs: Tensor) -> float:
    """How many times the largest |input| is the median channel's largest, the median over layers that read a norm."""
    largest: list[Tensor] = []
    hooks = [
        reader.register_forward_pre_hook(lambda _, args: largest.append(args[0].abs().flatten(0, -2).amax(dim=0)))
        for _, reader in norms_and_readers(model)
    ]
    model(inputs)
    for hook in hooks:
        hook.remove()
    return float(np.median([float(one.max() / one.median()) for one in largest]))


@torch.no_grad()
def bits(model: nn.Module, data: Pair, noise: WeightNoise, periphery: Periphery | None = None, trial: int = 0) -> Bits:
    """Bits per token of each example on a chip."""
    found = []
    with deploy(model, noise, trial=trial, periphery=periphery).at():
        for inputs, targets in zip(data[0].split(BATCH), data[1].split(BATCH), strict=True):
            losses = functional.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
            found.append(losses.mean(dim=1) / math.log(2))
    return torch.cat(found).double().numpy()


Setting = tuple[float | None, float]
"""A strength, None without rescaling, and a quantile."""


def on_converters(models: dict[float | None, nn.Module], data: Splits) -> list[dict[str, Any]]:
    """What is chosen for each number of steps, and the bits on the test split, which are kept under `bits`."""
    calibration, test = [data.train[0][:CALIBRATION]], cast("Pair", data.test)
    validation = data.validation[0][:VALIDATION], data.validation[1][:VALIDATION]
    ranges = {(s, q): calibrate(model, calibration, quantile=q) for s, model in models.items() for q in QUANTILES}
    found = []
    for steps in STEPS:
        around = {at: Periphery(dac_steps=steps, input_ranges=of) for at, of in ranges.items()}
        score: dict[Setting, float] = {
            at: float(bits(models[at[0]], validation, Gaussian(0.0), periphery).mean())
            for at, periphery in around.items()
        }
        plain = min((at for at in score if at[0] is None), key=lambda at: score[at])
        moved = min((at for at in score if at[0] is not None), key=lambda at: score[at])
        found.append(
            {
                "quantiles": [plain[1], moved[1]],
                "strength": moved[0],
                "validation": {
                    f"strength {s}, quantile {q}": round(value, 5) for (s, q), value in score.items()
                },
                "bits": [bits(models[at[0]], test, Gaussian(0.0), around[at]) for at in (plain, moved)],
            }
        )  # fmt: skip
    return found


def rescaled(model: nn.Module, data: Splits) -> dict[float | None, nn.Module]:
    """Copies of a network by strength, and itself under None."""
    found: dict[float | None, nn.Module] = {None: model}
    for strength in STRENGTHS:
        found[strength] = copy.deepcopy(model)
        rescale(found[strength], [data.train[0][:CALIBRATION]], strength=strength)
    return found


def summary(networks: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """By number of steps, each network's bits without and with rescaling, and the difference with its interval."""
    found = {}
    for i, steps in enumerate(STEPS):
        own = [network[i] for network in networks]
        tables = np.array([one["bits"] for one in own])  # networks, without and with, examples
        differences = tables[:, 1] - tables[:, 0]
        found[str(steps)] = {
            "bits": np.round(tables.mean(axis=2), 5).tolist(),
            "strengths": [one["strength"] for one in own],
            "quantiles": [one["quantiles"] for one in own],
            "difference": interval(differences.mean(axis=0), 5),
            "differences": [interval(one, 5) for one in differences],
            "validation": [one["validation"] for one in own],
        }
    return found


def measure(data: Splits) -> dict[str, Any]:
    """Train and measure; the record without its surroundings."""
    [method] = parse_methods(["plain"], base="AdamW")
    test = cast("Pair", data.test)
    clean: list[float] = []
    on_chip: dict[str, list[Any]] = {"trained": [], "outliers": []}
    noisy: dict[str, list[Bits]] = {}
    uneven: dict[str, list[float]] = {}
    for seed in SEEDS:
        print(f"network {seed}", file=sys.stderr, flush=True)

        def network(seed: int = seed) -> nn.Module:
            return make_network(NETWORK, data.shape, data.outputs, seed)

        model = train(Run(data, LanguageModelling(), network, method, RECIPE, seed))
        clean.append(round(float(bits(model, test, Gaussian(0.0)).mean()), 5))
        for name, subject in (("trained", model), ("outliers", with_outliers(model))):
            models = rescaled(subject, data)
            on_chip[name].append(on_converters(models, data))
            for strength, one in models.items():
                row = uneven.setdefault(f"{name}, strength {strength}", [])
                row.append(round(unevenness(one, data.train[0][:CALIBRATION]), 3))
                if name == "trained" and strength in (None, 0.5, 1.0):
                    chips = [bits(one, test, NOISE, trial=trial).mean() for trial in range(CHIPS)]
                    noisy.setdefault(str(strength), []).append(np.array(chips))
    weights = {
        strength: {
            "bits": [round(float(own.mean()), 5) for own in rows],
            "difference": interval(np.mean(rows, axis=0) - np.mean(noisy["None"], axis=0), 5),
        }
        for strength, rows in noisy.items()
        if strength != "None"
    }
    return {
        "clean": clean,
        **{name: summary(networks) for name, networks in on_chip.items()},
        "unevenness": uneven,
        "weight_noise": weights | {"None": {"bits": [round(float(own.mean()), 5) for own in noisy["None"]]}},
    }


def verdict(difference: list[float]) -> str:
    """What an interval of differences in bits shows; fewer are better."""
    word = "helps" if difference[2] < 0 else "hurts" if difference[1] > 0 else "shows no difference"
    return "{}, {:+.4f} [{:+.4f}, {:+.4f}]".format(word, *difference)


def findings(results: dict[str, Any]) -> list[str]:
    """What the results show, in sentences."""
    said, clean = [], np.mean(results["clean"])
    for name, subject in (("trained", "as trained"), ("outliers", "with outliers put in")):
        uneven = np.mean(results["unevenness"][f"{name}, strength None"])
        steps = []
        for number, own in results[name].items():
            cost = np.mean(own["bits"], axis=0)[0] - clean
            fewer = sum(one[2] < 0 for one in own["differences"]), sum(one[1] > 0 for one in own["differences"])
            steps.append(
                f"{number} steps, which cost {cost:.4f} bits: {verdict(own['difference'])}, alone clear for better in "
                f"{fewer[0]} and for worse in {fewer[1]} of {len(own['differences'])} networks"
            )
        said.append(f"Networks {subject}, largest channel {uneven:.1f} times the median: {'; '.join(steps)}.")
    noise = (
        f"strength {strength}: {verdict(own['difference'])}"
        for strength, own in results["weight_noise"].items()
        if "difference" in own
    )
    said.append(f"With noise of the weights and no converters: {'; '.join(noise)}.")
    largest = max(abs(own["difference"][0]) for own in results["trained"].values())
    if largest < WORTH:
        said.append(
            f"Rescaling does not help these networks in any way that matters, by {largest:.4f} bits at most: their "
            "inputs are even already. It takes back what outliers cost, where there are some."
        )
    return said


def main() -> None:
    """Measure and write the record."""
    with one_thread():
        data = load_data_set("tiny-shakespeare", data_root())
        found = measure(data)
        record = {
            "data": "tiny-shakespeare",
            "split": "test",
            "examples": len(data.test[0]),
            "tokens_an_example": data.test[0].shape[1],
            "network": NETWORK,
            "method": "plain",
            "base": "AdamW",
            "recipe": RECIPE.record(),
            "steps_of_training": RECIPE.epochs * data.steps(RECIPE.batch_size),
            "seeds": SEEDS,
            "rescaled_and_calibrated_on": "train",
            "calibration_examples": CALIBRATION,
            "chosen_on": "validation",
            "validation_examples": VALIDATION,
            "strengths": STRENGTHS,
            "quantiles": QUANTILES,
            "outliers": {"channels": OUTLIERS, "factor": FACTOR},
            "noise_of_weights": repr(NOISE),
            "chips": CHIPS,
            "metric": "bits per token",
            "differences_are": "rescaled minus plain; mean and 95 % interval over examples, networks averaged; over "
            "chips with noise of the weights",
            "unevenness_is": "largest |input| over the median channel's largest, median over layers after a norm",
            "results": found,
            "findings": findings(found),
        }
        write(RECORD, record)
    print("\n".join(findings(found)))


if __name__ == "__main__":
    main()
