"""The training loop in two processes, which share a network by DistributedDataParallel or FSDP2.

Run as a program by torchrun, this file trains; its tests compare what every process wrote with a training alone.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no torch.distributed with gloo", allow_module_level=True)

from samson.experiments import (
    Classification,
    Place,
    Recipe,
    Run,
    Splits,
    find_place,
    parse_methods,
    plan_suite,
    save_trained,
    train,
)
from tests.distributed.harness import distance
from tests.programs import TORCHRUN, run_once

PARALLEL = ("ddp", "fsdp2")
STEPS = 10
NAME = "tests.distributed.test_training_loop"
PLAN = {"recipe": {"epochs": 2, "batch_size": 16, "precision": "float32"}}
LIMIT_S = 200
U = torch.finfo(torch.float32).eps / 2

pytestmark = pytest.mark.slow


def data() -> Splits:
    """Points in three classes; 5 batches of 16."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(80, 6, generator=generator)
    held = x, (x[:, :3] + 0.5 * torch.randn(80, 3, generator=generator)).argmax(1)
    return Splits(held, held, held, outputs=3)


def network(outputs: int = 3) -> nn.Module:
    """Without batch norm, whose statistics each process has for itself; the last layer has an odd number of rows."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, outputs))


class Listed(nn.Module):
    """A network whose layers are in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(network().children())

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


CASES: dict[str, dict[str, Any]] = {
    "sgd": {"method": "sgd"},
    "samson": {"method": "samson"},
    "samson+clip": {"method": "samson+clip"},
    "noise": {"method": "noise"},
    "samson-adamw": {"method": "samson", "base": "AdamW"},
    "clipped": {"method": "samson", "clip_norm": 0.1},
    "parts": {"method": "samson", "accumulate": 2},
    "fewer parts": {"method": "sgd", "accumulate": 5},  # of 8 examples torch makes 4 parts of 2
    "average": {"method": "sgd", "ema": 0.5},
    "list": {"method": "sgd", "network": Listed},
    "odd batch": {"method": "sgd", "batch_size": 15},
}


def run_of(
    place: Place,
    method: str,
    *,
    network: Callable[[], nn.Module] = network,
    base: str = "SGD",
    batch_size: int = 16,
    epochs: int = 2,
    **recipe: Any,
) -> Run:
    [parsed] = parse_methods([method], base=base)
    chosen = Recipe(epochs=epochs, batch_size=batch_size, precision="float32", **recipe)
    return Run(data(), Classification(), network, parsed, chosen, seed=0, place=place)


def trained(place: Place, **case: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    run = run_of(place, **case)
    state = dict(place.whole_state(train(run)))
    moved = None if run.perturbation is None else vars(run.perturbation)
    return state, {"losses": run.losses, "gradients": run.gradients, "perturbation": moved}


def main(folder: Path) -> None:
    """Train in this process, beside another one, each case as far as it goes."""
    torch.set_num_threads(1)
    with find_place("cpu", PARALLEL[0]) as joined:  # once: torch cannot join the same processes reliably again
        for parallel in PARALLEL:
            place = replace(joined, parallel=parallel)
            found: dict[str, Any] = {"place": [str(place.device), place.rank, place.world]}
            for name, case in CASES.items():
                try:
                    state, found[name] = trained(place, **case)
                    save_file(state, folder / f"{parallel} {name} {place.rank}.safetensors")
                except (AssertionError, RuntimeError, ValueError) as error:  # in both alike, before the first step
                    found[name] = {"error": f"{type(error).__name__}: {error}"}
            plan = plan_suite({"data": f"{NAME}:data", "network": f"{NAME}:network", "methods": "samson"} | PLAN)
            training = save_trained(plan, 0, folder / parallel, place, lambda *_: None)
            found["saved"] = [training.validation, training.parameters, training.gradients]
            (folder / f"{parallel} {place.rank}.json").write_text(json.dumps(found))


@cache
def alone(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return trained(Place(), **CASES[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    return run_once(tmp_path_factory, "training loop", [*TORCHRUN, "-m", NAME], LIMIT_S)


def read(folder: Path, parallel: str) -> list[dict[str, Any]]:
    files = [folder / f"{parallel} {rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), (folder / "output.txt").read_text()[:3000]
    return [json.loads(file.read_text()) for file in files]


class Half(Place):
    """A process that hears nothing of the other one."""

    def part(self, batch: Tensor) -> Tensor:
        return batch[::2]


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_process_knows_its_place(parallel: str, folder: Path) -> None:
    assert [found["place"] for found in read(folder, parallel)] == [["cpu", rank, 2] for rank in range(2)]


@pytest.mark.parametrize(("parallel", "case"), list(product(PARALLEL, CASES)))
def test_two_processes_train_as_one(parallel: str, case: str, folder: Path) -> None:
    """Within what float32 rounds off when gradients of 16 examples are added in another order, in each of 10 steps.

    A sum's error is at most 16·u of its terms' sizes, and a step moves a weight by less than the largest weight. What
    one process alone makes of its own examples differs a hundred times as much, or more.
    """
    expected, figures = alone(case)
    tolerance = STEPS * 16 * U * max(float(tensor.abs().max()) for tensor in expected.values())
    found = read(folder, parallel)
    assert "error" not in found[0][case], found[0][case]["error"]
    states = [load_file(folder / f"{parallel} {case} {rank}.safetensors") for rank in range(2)]
    assert distance(states[0], expected) < tolerance
    if states[1] or parallel == "ddp":  # FSDP2 gathers whole weights in the first process alone
        assert distance(*states) == 0
    for one in found:
        assert one[case]["losses"] == pytest.approx(figures["losses"], abs=16 * tolerance)
        assert one[case]["gradients"] == figures["gradients"]
    assert distance(trained(Half(), **CASES[case])[0], expected) > 100 * tolerance


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("case", ["samson", "noise"])
def test_what_the_perturbation_did_is_that_of_all_processes(parallel: str, case: str, folder: Path) -> None:
    expected = alone(case)[1]["perturbation"]
    for found in read(folder, parallel):
        moved = found[case]["perturbation"]
        assert moved.keys() == expected.keys()
        for name, value in expected.items():
            assert moved[name] == (None if value is None else pytest.approx(value, rel=1e-4))


@pytest.mark.parametrize("parallel", PARALLEL)
def test_the_first_process_saves_the_network(parallel: str, folder: Path) -> None:
    names = sorted(path.name for path in (folder / parallel).iterdir())
    assert names == ["model.json", "model.safetensors", "training.json"]
    saved = load_file(folder / parallel / "model.safetensors")
    expected = alone("samson")[0]
    assert distance(saved, expected) < STEPS * 16 * U * max(float(one.abs().max()) for one in expected.values())
    parameters = sum(p.numel() for p in network().parameters())
    assert [found["saved"] for found in read(folder, parallel)] == [[None, parameters, 20]] * 2


if __name__ == "__main__":
    main(Path(sys.argv[1]))
