"""A comparison spread over a local Ray cluster of two nodes, while workers are killed: the bits of one process.

This module is also the program that does it: a process of its own, since Ray reads its environment when it is imported.
The part with Ray runs where it is installed, and takes about a minute.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from samson._errors import SetupError
from samson.experiments import Job, Silent, WorkerLostError, jobs_of, plan_suite, run_all, run_on_ray
from tests.experiments.test_suites import content, measured
from tests.programs import run, samson

LIMIT_S = 280

MINE = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from samson.noise import FixedNoise, standard_normal

HERE = Path(__file__).parent


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 6, generator=generator)
    y = x[:, :3].argmax(1)
    return {"train": (x[:64], y[:64]), "test": (x[64:], y[64:])}


def net(classes):
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, classes))


def kills(model, lr=0.1, seed=0):
    """Ends its process in the first run of seed 1."""
    if seed == 1:
        with (HERE / "begun.txt").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        if not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return torch.optim.SGD(model.parameters(), lr=lr)


def deadly(model, seed=0):
    """Ends its process in every run of seed 1."""
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.optim.SGD(model.parameters(), lr=0.1)


def fails(model, lr=0.3, seed=0):
    if seed == 1:
        raise RuntimeError("no seed 1 here")
    return torch.optim.SGD(model.parameters(), lr=lr)


@dataclass(frozen=True)
class Shaken(FixedNoise):
    sigma: float

    def noisy(self, weight, generator):
        return weight + self.sigma * standard_normal(weight, generator)


def noise(level):
    return Shaken(level)
'''

SUITE: dict[str, Any] = {
    "data": "mine:data",
    "network": "mine:net",
    "methods": ["sgd", "samson", "mine:kills", "mine:fails"],
    "chips": [{"noise": "gaussian", "levels": [0.1, 0.3]}, {"noise": "pcm", "levels": ["1d"]}],
    "seeds": 2,
    "trials": 3,
    "chip_seed": 5,
    "recipe": {"epochs": 2, "batch_size": 16},
}
OWN = {**SUITE, "methods": ["sgd"], "chips": [{"noise": "mine:noise", "levels": [0.2]}], "seeds": 1}
FILE = """
data = "numbers.npz"
data_root = "files"
network = "mine:net"
methods = ["sgd", "samson"]
chips = [{noise = "gaussian", levels = [0.1]}]
seeds = 1
trials = 2
recipe = {epochs = 1, batch_size = 16}
"""


class Told(Silent):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.reasons: dict[str, str] = {}

    def finished(self, name: str, record: Any) -> None:
        assert name.endswith(f"/{record.method}-seed{record.seed}")
        self.ended.append(name)

    def failed(self, name: str, reason: str) -> None:
        self.reasons[name] = reason


def networks(folder: str) -> bool:
    """Whether a folder holds the networks of `alone`, bit for bit."""
    files = {name: held for name, held in content(Path(folder, "networks")).items() if name.endswith(".safetensors")}
    return files == {name: held for name, held in content(Path("alone", "networks")).items() if name in files} != {}


def spread(suite: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run a suite on the cluster; what was measured, and what was told."""
    watcher = Told()
    failures = run_on_ray(jobs_of(plan_suite(suite)), Path(folder), processes=2, watcher=watcher)
    return {
        "measured": measured(Path(folder)),
        "ended": sorted(watcher.ended),
        "reasons": watcher.reasons,
        "failures": {name: [failure.reason, "mine.py" in failure.details] for name, failure in failures.items()},
    }


def alone(suite: dict[str, Any], folder: str = "alone") -> dict[str, Any]:
    run_all(jobs_of(plan_suite(suite)), Path(folder), processes=1, watcher=Silent())
    return measured(Path(folder))


def lost(ray: Any) -> str:
    """What is said of a run that always kills its worker."""
    jobs: list[Job] = jobs_of(plan_suite({**SUITE, "methods": ["mine:deadly"]}))
    try:
        run_on_ray(jobs, Path("lost"), processes=2, watcher=Silent())
    except WorkerLostError as error:
        return str(error)
    return ""


def main() -> None:
    """Begun elsewhere than where the work lies, as the nodes of a cluster are."""
    from tests.distributed.ray_program import ENVIRONMENT, LOOPBACK, NODE

    os.environ.update(ENVIRONMENT)
    os.environ.pop("RAY_ADDRESS", None)
    torch.set_num_threads(1)
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    ray.init(address=cluster.address, _node_ip_address=LOOPBACK, log_to_driver=False)
    os.chdir(sys.argv[-1])
    found: dict[str, Any] = {"spread": spread(SUITE, "spread")}
    found["begun"] = len(Path("begun.txt").read_text().split())
    found["alone"] = alone(SUITE)
    found["networks"] = networks("spread")
    found["other chips"] = alone({**SUITE, "methods": ["sgd"], "chip_seed": 6}, "other")
    try:
        found["own noise"] = [spread(OWN, "own")["measured"], alone(OWN, "own-alone")]
    except Exception as error:
        found["own noise"] = [repr(error), None]
    Path("suite.toml").write_text(FILE)
    for executor in ("ray", "processes"):
        options = ["--executor", executor, "--jobs", 1, "--quiet"]
        status, _, err = samson("compare", "suite.toml", "--out", executor, *options)
        found[executor] = [status, err, measured(Path(executor))]
    found["lost"] = lost(ray)
    found["connected"] = ray.is_initialized()
    Path("found.json").write_text(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


class AskedError(Exception):
    """What a task asks of the cluster."""


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        ("cpu", 0, {"num_cpus": 1, "num_gpus": 0}),
        ("cuda", 2, {"num_cpus": 1, "num_gpus": 1}),
        ("cuda", 0, "`device` must be in the cluster, got 'cuda'"),
        ("cuda:1", 2, "`device` must be cuda without a number on Ray, got 'cuda:1'"),
    ],
)
def test_a_run_on_a_gpu_asks_for_one(
    device: str, gpus: int, said: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray hides GPUs from tasks that ask for none; a module stands in for it."""

    def remote(**asked: object) -> None:
        raise AskedError({name: value for name, value in asked.items() if name.startswith("num_")})

    ray = SimpleNamespace(is_initialized=lambda: True, cluster_resources=lambda: {"CPU": 4, "GPU": gpus}, remote=remote)
    monkeypatch.setitem(sys.modules, "ray", ray)
    plan = plan_suite({"data": "digits", "methods": ["sgd"], "chips": SUITE["chips"], "seeds": 1, "trials": 2})
    jobs = jobs_of(dataclasses.replace(plan, device=device))
    with pytest.raises((AskedError, SetupError)) as error:
        run_on_ray(jobs, tmp_path, processes=1, watcher=Silent())
    assert said in (error.value.args[0], str(error.value).partition(".")[0])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found; one for all tests, since a cluster takes long to start."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "mine.py").write_text(MINE)
    (folder / "files").mkdir()
    x = np.random.default_rng(0).standard_normal((96, 6)).astype(np.float32)
    y = x[:, :3].argmax(1)
    np.savez(folder / "files" / "numbers.npz", x_train=x[:64], y_train=y[:64], x_test=x[64:], y_test=y[64:])
    status = run(["-m", "tests.experiments.test_suite_on_ray"], folder, LIMIT_S)
    assert status == 0, (folder / "output.txt").read_text()[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.needs("ray")
def test_records_are_those_of_one_process(found: dict[str, Any]) -> None:
    spread = found["spread"]
    assert sorted(spread["measured"]) == spread["ended"]
    assert spread["ended"] == sorted(
        f"data-net/{method}-seed{seed}"
        for method in ("sgd", "samson", "kills", "fails")
        for seed in (0, 1)
        if (method, seed) != ("fails", 1)
    )
    assert spread["measured"] == found["alone"]
    assert found["networks"]
    assert found["other chips"]["data-net/sgd-seed0"] != found["alone"]["data-net/sgd-seed0"], "the check can fail"
    assert len({json.dumps(values) for values in spread["measured"].values()}) == 7


@pytest.mark.needs("ray")
def test_a_killed_worker_is_replaced(found: dict[str, Any]) -> None:
    assert found["begun"] == 2
    assert "data-net/kills-seed1" in found["spread"]["ended"]


@pytest.mark.needs("ray")
def test_failures_are_told(found: dict[str, Any]) -> None:
    reason = "RuntimeError: no seed 1 here"
    assert found["spread"]["reasons"] == {"data-net/fails-seed1": reason}
    assert found["spread"]["failures"] == {"data-net/fails-seed1": [reason, True]}


@pytest.mark.needs("ray")
def test_a_run_that_always_kills_its_worker_is_named(found: dict[str, Any]) -> None:
    assert found["lost"].startswith("Lost with the worker 3 times, at last by WorkerCrashedError: ")
    assert ": run data-net/deadly-seed1.\nLook for what ends the process" in found["lost"]
    assert found["connected"], "what it did not start, it does not end"


@pytest.mark.needs("ray")
def test_noises_of_ones_own_are_found_there(found: dict[str, Any]) -> None:
    there, here = found["own noise"]
    assert there == here


@pytest.mark.needs("ray")
def test_the_command_finds_files_where_it_was_given(found: dict[str, Any]) -> None:
    status, err, there = found["ray"]
    assert status == 0, err
    assert found["processes"][0] == 0
    assert there == found["processes"][2]
    assert len(there) == 2


if __name__ == "__main__":
    main()
