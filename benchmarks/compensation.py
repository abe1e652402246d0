"""Measure each compensation on and off: drift compensation, batch-norm re-estimation, input ranges.

Three networks (`sgd`, the settings and seeds of `samson compare`) lie on 20 chips each, the same chips for every
compensation. Drift compensation and batch norms: phase-change chips of four ages. Input ranges: the standard periphery
around phase-change chips of a day with global drift compensation. Compensations see training data, accuracies are of
the test split; nothing is chosen here. What a compensation costs is timed apart from the evaluation.

    python -m benchmarks.compensation       # about 10 minutes on one core

writes `benchmarks/records/compensation.json` and from it `docs/compensation.md` (see `compensation_page.py`).
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.compensation_page import RECORD, write_page
from benchmarks.search_digits import EPOCHS, NETWORK
from benchmarks.timing import quartiles
from benchmarks.writing import interval, write
from samson.evaluation import clean_value
from samson.experiments import (
    RECIPES,
    Classification,
    Run,
    Splits,
    load_data_set,
    make_network,
    one_thread,
    parse_methods,
    train,
)
from samson.noise import PCM, STANDARD_HWA, Moments, Periphery, calibrate, deploy, moments, reestimated_norms

SEEDS, CHIP_SEED, CHIPS = (0, 1, 2), 0, 20
BATCH = 256
TIMES = {"1 hour": 3_600.0, "1 day": 86_400.0, "30 days": 2_592_000.0, "1 year": 31_536_000.0}
DRIFT: dict[str, tuple[str | None, bool]] = {
    "none": (None, False),
    "drift, global": ("global", False),
    "drift, column": ("column", False),
    "batch norm": (None, True),
    "drift, global + batch norm": ("global", True),
}
"""Drift compensation, and whether batch norms are re-estimated."""
AGE = "1 day"
SIZES = (8, 64, 256, 1078)
SIZES_CHIPS = 5

Spent = defaultdict[str, list[float]]
"""Seconds by what they were spent on."""


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Add the block's seconds."""
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def trained(seed: int, data: Splits) -> nn.Module:
    """A network of the comparison's `sgd`."""
    [method] = parse_methods(["sgd"])

    def network() -> nn.Module:
        return make_network(NETWORK, data.shape, data.outputs, seed)

    return train(Run(data, Classification(), network, method, RECIPES["digits"], seed))


def drifted(model: nn.Module, data: Splits, spent: Spent) -> NDArray[np.float64]:
    """Accuracies by time, setting and chip."""
    batches, test = list(data.train[0].split(BATCH)), [data.test]
    found = np.zeros((len(TIMES), len(DRIFT), CHIPS))
    for trial in range(CHIPS):
        chips = {c: deploy(model, PCM(compensation=c), seed=CHIP_SEED, trial=trial) for c, _ in DRIFT.values()}
        for i, time_s in enumerate(TIMES.values()):
            for j, (compensation, norms) in enumerate(DRIFT.values()):
                start = time.perf_counter()
                with chips[compensation].at(time_s, reading=0):
                    name = f"reading a chip, drift compensation {compensation or 'none'}"
                    spent[name].append(time.perf_counter() - start)
                    if not norms:
                        with timed(spent["evaluating the split"]):
                            found[i, j, trial] = clean_value(model, test)
                        continue
                    with reestimated_norms(model, batches) as seconds:
                        spent["re-estimating batch norms, a chip and time"].append(seconds)
                        found[i, j, trial] = clean_value(model, test)
    return found


def peripheries(model: nn.Module, data: Splits, spent: Spent) -> dict[str, Periphery]:
    """The standard periphery, by the input ranges that it has."""
    found = {"each vector's own largest": STANDARD_HWA}
    for name, quantile in {"calibrated, largest": 1.0, "calibrated, 99 %": 0.99}.items():
        with timed(spent["calibrating input ranges, once a network"]):
            ranges = calibrate(model, list(data.train[0].split(BATCH)), quantile=quantile)
        found[name] = replace(STANDARD_HWA, input_ranges=ranges)
    found["1 for every layer"] = replace(STANDARD_HWA, input_ranges=dict.fromkeys(ranges, 1.0))
    return found


def ranged(model: nn.Module, periphery: Periphery, data: Splits) -> list[float]:
    """Accuracies by chip."""
    found = []
    for trial in range(CHIPS):
        chip = deploy(model, PCM(compensation="global"), seed=CHIP_SEED, trial=trial, periphery=periphery)
        with chip.at(TIMES[AGE], reading=0):
            found.append(clean_value(model, [data.test]))
    return found


@torch.no_grad()
def deviation(model: nn.Module, inputs: Tensor) -> tuple[float, float]:
    """How far norms' statistics are from those of their inputs: of the mean in σ, of the variance as a ratio."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: dict[nn.Module, Moments] = {}

    def watch(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[norm] = moments(args[0].double())

    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    model(inputs)
    for hook in hooks:
        hook.remove()
    means, variances = [], []
    for norm, true in seen.items():
        means.append(float(((norm.get_buffer("running_mean") - true.mean) / true.variance.sqrt()).abs().max()))
        variances.append(float((norm.get_buffer("running_var") / true.variance - 1).abs().max()))
    return max(means), max(variances)


def by_size(model: nn.Module, data: Splits) -> dict[str, Any]:
    """What the size of the batches of the re-estimation does, for one network."""
    found = {}
    for size in SIZES:
        rows = []
        for trial in range(SIZES_CHIPS):
            with (
                deploy(model, PCM(compensation=None), seed=CHIP_SEED, trial=trial).at(TIMES[AGE], reading=0),
                reestimated_norms(model, list(data.train[0].split(size))) as seconds,
            ):
                rows.append((*deviation(model, data.train[0]), clean_value(model, [data.test]), seconds))
        mean, variance, right, seconds = (float(v) for v in np.mean(rows, axis=0))
        found[str(size)] = {
            "mean": float(f"{mean:.2g}"),
            "variance": float(f"{variance:.2g}"),
            "accuracy": right,
            "seconds": round(seconds, 3),
        }
    return found


def summary(names: Sequence[str], tables: NDArray[np.float64]) -> dict[str, Any]:
    """Each setting's accuracies, each network's interval, and the differences from the first setting on common chips.

    Args:
        names: The settings.
        tables: Accuracies by network, setting and chip.
    """
    return {
        name: {
            "networks": [interval(own) for own in tables[:, i]],
            "difference": interval((tables[:, i] - tables[:, 0]).mean(axis=0)) if i else None,
            "differences": [interval(one) for one in tables[:, i] - tables[:, 0]] if i else None,
            "accuracies": np.round(tables[:, i], 6).tolist(),
        }
        for i, name in enumerate(names)
    }


def measure() -> dict[str, Any]:
    """Train and measure; the record without its surroundings."""
    data = load_data_set("digits", Path())
    spent: Spent = defaultdict(list)
    drift, ranges, clean = [], [], []
    sizes: dict[str, Any] = {}
    for seed in SEEDS:
        print(f"network {seed}", file=sys.stderr, flush=True)
        model = trained(seed, data)
        clean.append(clean_value(model, [data.test]))
        sizes = sizes or by_size(model, data)
        drift.append(drifted(model, data, spent))
        around = peripheries(model, data, spent)
        ranges.append([ranged(model, periphery, data) for periphery in around.values()])
    by_time, by_range = np.array(drift), np.array(ranges)  # networks, times, settings, chips; the same without times
    settings, kinds = list(DRIFT).index, list(around).index
    over_global = by_time[:, :, settings("drift, global + batch norm")] - by_time[:, :, settings("drift, global")]
    over_one = by_range[:, kinds("calibrated, largest")] - by_range[:, kinds("1 for every layer")]
    return {
        "clean": [round(value, 6) for value in clean],
        "drift": {name: summary(list(DRIFT), by_time[:, i]) for i, name in enumerate(TIMES)},
        "batch_norm_over_global": {
            name: interval(one) for name, one in zip(TIMES, over_global.mean(axis=0), strict=True)
        },
        "ranges": summary(list(around), by_range),
        "calibrated_over_1": interval(over_one.mean(axis=0)),
        "batches": sizes,
        "seconds": {name: quartiles(of, 5) for name, of in spent.items()},
    }


def main() -> None:
    """Measure, write the record and the page."""
    with one_thread():
        found = measure()
        data = load_data_set("digits", Path())
        record = {
            "data": "digits",
            "split": "test",
            "examples": len(data.test[1]),
            "compensated_on": "train",
            "compensation_examples": len(data.train[1]),
            "compensation_batch": BATCH,
            "network": NETWORK,
            "method": "sgd",
            "epochs": EPOCHS,
            "seeds": SEEDS,
            "chips": CHIPS,
            "chip_seed": CHIP_SEED,
            "noise": repr(PCM(compensation=None)),
            "times_s": TIMES,
            "periphery": repr(STANDARD_HWA),
            "periphery_age": AGE,
            "intervals": "95 %, over chips; differences on common chips, averaged over networks",
            "seconds_are": "quartiles, one CPU thread",
            "batches_chips": SIZES_CHIPS,
            **found,
        }
        record = write(RECORD, record)
    write_page(record)


if __name__ == "__main__":
    main()
