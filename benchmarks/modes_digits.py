"""Every mode of the optimizer on the digits: what a step costs, and how accurate the networks are on noisy chips.

Each mode gets four candidates of its radius (or α), each trained with two seeds and put on ten chips a level, on the
validation split. A mode's figure is its best candidate's mean accuracy over the noise levels, so it is the best of four
for every mode alike, and no test image is looked at. The base optimizer and the network are those of `samson compare
--data digits`. Costs are measured apart: steps of all modes in turn, in one process with one thread, as the ratio to
the plain SGD step of the same round (median and quartiles).

    python -m benchmarks.modes_digits         # about 20 minutes on two cores

keeps what is done in `runs/modes-digits.json`, so that a repeated command goes on from there, and writes
`benchmarks/records/modes-digits.json`, from which `benchmarks/modes_page.py` makes `docs/which-mode.md`.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import SGD, Optimizer

from benchmarks.search_digits import BATCH_SIZE, CHIP_SEED, CHIPS, EPOCHS, LEVELS, NETWORK, SEEDS, validated
from benchmarks.timing import Step, in_turn, quartiles, step_of
from benchmarks.writing import write
from samson import SAMSON, Lookbehind, RhoSchedule, SharpnessAware, WeightClipping, norm_layers, param_groups
from samson.experiments import BASES, Built, Method, Splits, load_data_set, make_network, one_thread

RECORD = Path(__file__).parent / "records" / "modes-digits.json"
DONE = Path(__file__).parent.parent / "runs" / "modes-digits.json"

Make = Callable[[nn.Module, float, int], Optimizer]


@dataclass(frozen=True)
class Mode:
    """A mode, made from a model, the value of its searched setting and the number of steps of the training.

    Args:
        typed: What the user types.
        does: What it does, as a page says it.
        make: Makes the optimizer.
        grid: The candidates of the setting; a single one for a mode without any.
        searched: The name of the setting.
    """

    typed: str
    does: str
    make: Make
    grid: tuple[float, ...] = (0.3, 0.7, 1.5, 3.0)
    searched: str = "rho"


def base(model: nn.Module, **groups: Any) -> SGD:
    """The base optimizer of the comparison."""
    return SGD(param_groups(model, **groups), nesterov=True, **BASES["SGD"])  # type: ignore[arg-type]


def sharp(*, ramp: str | None = None, clip: float | None = None, only_norms: bool = False, **modes: Any) -> Make:
    """`SharpnessAware` with SAMSON."""

    def make(model: nn.Module, rho: float, steps: int) -> Optimizer:
        groups = {"perturb": norm_layers} if only_norms else {}
        optimizer = SharpnessAware(base(model, **groups), SAMSON(rho=rho), **modes)
        if ramp is not None:
            schedule = RhoSchedule(optimizer, ramp, steps)
            optimizer.register_step_post_hook(lambda *_: schedule.step())
        if clip is not None:
            optimizer.register_step_post_hook(WeightClipping(clip))
        return optimizer

    return make


def lookbehind(k: int, alpha: float | str) -> Make:
    """Lookbehind over SAMSON."""
    return lambda model, rho, steps: Lookbehind(base(model), SAMSON(rho=rho), k, alpha)


def clipped(model: nn.Module, alpha: float, steps: int) -> Optimizer:
    """SGD with weight clipping."""
    optimizer = base(model)
    optimizer.register_step_post_hook(WeightClipping(alpha))
    return optimizer


MODES: dict[str, Mode] = {
    "SGD": Mode("base", "the base optimizer alone", lambda model, rho, steps: base(model), (0.0,)),
    "clipping": Mode(
        "base.register_step_post_hook(WeightClipping(alpha))",
        "after each step, weights beyond ± alpha standard deviations of their layer are set to that limit",
        clipped,
        (1.0, 1.2, 1.5, 2.0),
        "alpha",
    ),
    "SAMSON": Mode("SharpnessAware(base, SAMSON(rho))", "each step takes its gradient at moved weights", sharp()),
    "SAMSON, linear ramp": Mode(
        'RhoSchedule(optimizer, "linear", steps)',
        "rho grows from 0 in proportion to the steps done; call its `step()` after each step",
        sharp(ramp="linear"),
    ),
    "SAMSON, quadratic ramp": Mode(
        'RhoSchedule(optimizer, "quadratic", steps)',
        "rho grows with the square of the steps done",
        sharp(ramp="quadratic"),
    ),
    "SAMSON, every 2nd step": Mode(
        "SharpnessAware(base, SAMSON(rho), every=2)", "weights are moved in each 2nd step only", sharp(every=2)
    ),
    "SAMSON, every 5th step": Mode(
        "SharpnessAware(base, SAMSON(rho), every=5)", "weights are moved in each 5th step only", sharp(every=5)
    ),
    "SAMSON, reused for 5 steps": Mode(
        "SharpnessAware(base, SAMSON(rho), every=5, reuse=0.7)",
        "the four steps between add what the last move changed in the gradient (LookSAM)",
        sharp(every=5, reuse=0.7),
    ),
    "SAMSON, previous gradient": Mode(
        'SharpnessAware(base, SAMSON(rho), ascent="previous")',
        "weights move along the gradient of the step before: one gradient for each step",
        sharp(ascent="previous"),
    ),
    "SAMSON, momentum": Mode(
        'SharpnessAware(base, SAMSON(rho), ascent="momentum")',
        "weights move along the momentum of the base optimizer: one gradient for each step",
        sharp(ascent="momentum"),
    ),
    "SAMSON, norm layers only": Mode(
        "SharpnessAware(SGD(param_groups(model, perturb=norm_layers), ...), SAMSON(rho))",
        "only the parameters of norm layers are moved",
        sharp(only_norms=True),
    ),
    "SAMSON, mixed": Mode(
        "SharpnessAware(base, SAMSON(rho), mix=0.7)",
        "the step takes 0.7 of the gradient at the moved weights and 0.3 of the clean one",
        sharp(mix=0.7),
    ),
    "SAMSON, compiled": Mode(
        "SharpnessAware(base, SAMSON(rho), compiled=True)", "the same, with the move compiled", sharp(compiled=True)
    ),
    "Lookbehind": Mode(
        "Lookbehind(base, SAMSON(rho), k=2, alpha=0.5)",
        "two moves in a row, a step with the gradient of each, then half of the way back: three gradients",
        lookbehind(2, 0.5),
    ),
    "Lookbehind, adaptive": Mode(
        'Lookbehind(base, SAMSON(rho), k=2, alpha="adaptive")',
        "the same, where each tensor finds by itself how far it goes back",
        lookbehind(2, "adaptive"),
    ),
    "SAMSON + clipping": Mode(
        "optimizer.register_step_post_hook(WeightClipping(1.2))",
        "with `optimizer = SharpnessAware(base, SAMSON(rho))`",
        sharp(clip=1.2),
    ),
    "SAMSON, previous gradient + clipping": Mode(
        "optimizer.register_step_post_hook(WeightClipping(1.2))",
        'with `optimizer = SharpnessAware(base, SAMSON(rho), ascent="previous")`',
        sharp(clip=1.2, ascent="previous"),
    ),
}
SAME_NUMBERS = {"SAMSON, compiled": "SAMSON"}
"""Modes that train the same networks as another up to rounding: their cost alone is measured."""

CYCLE = 10
"""Steps of a round: each `every` divides it."""

Job = tuple[str, float, int]


class Made(Method):
    """The method that a mode is, with a value of its setting."""

    def build(self, model: nn.Module, seed: int = 0, steps: int | None = None, data: object = None) -> Built:
        """Make the optimizer."""
        return Built(MODES[self.name].make(model, float(self.settings["value"]), steps or 1))


def score(job: Job) -> float:
    """Train one candidate with one seed; its mean validation accuracy over the levels."""
    name, value, seed = job
    return float(np.mean(validated(Made(name, name, "SGD", {"value": value}), seed)))


def choose(name: str, pool: multiprocessing.pool.Pool) -> dict[str, Any]:
    """Score one mode's candidates."""
    jobs: list[Job] = [(name, value, seed) for value in MODES[name].grid for seed in SEEDS]
    scores = np.array(pool.map(score, jobs, chunksize=1)).reshape(len(MODES[name].grid), -1).mean(axis=1)
    return {"best": MODES[name].grid[int(scores.argmax())], "scores": [round(float(s), 6) for s in scores]}


def cycle_of(mode: Mode, data: Splits) -> Step:
    """A whole cycle of a mode's steps, on one mini-batch."""
    model = make_network(NETWORK, data.shape, data.outputs, 0)
    optimizer = mode.make(model, mode.grid[0], 10_000)
    step = step_of(model, optimizer, data.train[0][:BATCH_SIZE], data.train[1][:BATCH_SIZE])
    return lambda: [step() for _ in range(CYCLE)]


def costs() -> dict[str, list[float]]:
    """Quartiles of each mode's step time as a ratio to SGD's in the same round; a round covers a whole cycle."""
    with one_thread():
        data = load_data_set("digits", Path())
        seconds = in_turn({name: cycle_of(mode, data) for name, mode in MODES.items()}, rounds=10, uncounted=1)
    return {name: quartiles(np.divide(of, seconds["SGD"])) for name, of in seconds.items()}


def main() -> None:
    """Search, measure, and write the record."""
    chosen: dict[str, Any] = json.loads(DONE.read_text(encoding="utf-8"))["chosen"] if DONE.exists() else {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for name in MODES:
            if name not in SAME_NUMBERS and name not in chosen:
                chosen[name] = choose(name, pool)
                DONE.parent.mkdir(exist_ok=True)
                DONE.write_text(json.dumps({"chosen": chosen}), encoding="utf-8")
                print(f"{name:36} {chosen[name]}", file=sys.stderr, flush=True)
    print("costs", file=sys.stderr, flush=True)
    ratios = costs()
    found = {}
    for name, mode in MODES.items():
        of_mode = chosen[SAME_NUMBERS.get(name, name)]
        found[name] = {
            "setting": {mode.searched: of_mode["best"]} if len(mode.grid) > 1 else {},
            "grid": mode.grid,
            "scores": of_mode["scores"],
            "cost": ratios[name],
            "same_networks_as": SAME_NUMBERS.get(name),
        }
    record = {
        "data": "digits",
        "split": "validation",
        "noise": "gaussian",
        "levels": LEVELS,
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "base": BASES["SGD"],
        "seeds": SEEDS,
        "chip_seed": CHIP_SEED,
        "chips": CHIPS,
        "scores": "mean accuracy over levels, chips and seeds, one a candidate",
        "cost": "step time as a ratio to SGD's in the same round: quartiles",
        "modes": found,
    }
    write(RECORD, record)


if __name__ == "__main__":
    main()
