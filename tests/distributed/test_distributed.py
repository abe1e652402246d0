"""Data-parallel and sharded training in two processes: `torchrun` runs the scripts beside this file once.

The tests read what each check of a script found.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

fcntl = pytest.importorskip("fcntl")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no torch.distributed with gloo", allow_module_level=True)

from tests.distributed import ddp_checks, evaluate_checks, fsdp_checks, through_chip_checks  # noqa: E402
from tests.distributed.harness import PROCESSES, outcome  # noqa: E402

SCRIPTS = {
    "ddp_checks": ddp_checks.check,
    "evaluate_checks": evaluate_checks.check,
    "fsdp_checks": fsdp_checks.check,
    "through_chip_checks": through_chip_checks.check,
}
ROOT = Path(__file__).parents[2]
LOOPBACK = {
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
LIMIT_S = 200


def launch(script: str, results: Path) -> None:
    """Run a script's checks, and keep its output beside the results. One that takes too long is ended."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    command += ["-m", f"tests.distributed.{script}", str(results)]
    with (results / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | LOOPBACK, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends its processes
            process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def results_of(script: str, shared: Path) -> Path:
    """The folder of results, made by the first that asks."""
    results = shared / script
    with (shared / f"{script}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not results.exists():
            results.mkdir()
            launch(script, results)
    return results


@pytest.mark.parametrize(
    ("script", "check"),
    [
        pytest.param(script, check, marks=[pytest.mark.slow] if script == "through_chip_checks" else [])
        for script in SCRIPTS
        for check in SCRIPTS[script]
    ],
)
def test_in_two_processes(script: str, check: str, shared: Path) -> None:
    results = results_of(script, shared)
    wrong = outcome(results, check)
    assert not wrong, f"{wrong}\n{(results / 'output.txt').read_text()[-2000:]}"


def test_a_failing_check_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "process0.jsonl").write_text('["one", null, 1.0]\n["two", "it broke", 1.0]\n')
    (tmp_path / "process1.jsonl").write_text('["one", null, 1.0]\n')
    assert not outcome(tmp_path, "one")
    assert "process 0: it broke" in outcome(tmp_path, "two")
    assert "process 1: did not finish" in outcome(tmp_path, "two")
