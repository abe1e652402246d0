"""The script for a GPU runs to its end on a CPU, and its suite is one that can be planned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samson.experiments import plan_suite, read_suite

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MEASURED = ("step-cost", "evaluation-cost", "throughput")


def gpu_script(*arguments: object, python: object = sys.executable) -> subprocess.CompletedProcess:
    command = ["bash", str(BENCHMARKS / "gpu.sh"), *map(str, arguments)]
    environment = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_each_part_runs_and_leaves_a_record(tmp_path: Path) -> None:
    done = gpu_script("--tiny", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    ends = [line.split("] ")[0][1:] for line in lines if line.startswith("[") and "] done in " in line]
    assert ends == [*MEASURED, "digits"]
    skipped = [line for line in lines if "] skipped: " in line]
    assert len(skipped) == 2
    assert all("need" in line and "GPU" in line for line in skipped)
    for name in MEASURED:
        text = (tmp_path / "out" / f"{name}.json").read_text()
        assert json.loads(text)
        assert '"finished": "20' in text
    records = sorted((tmp_path / "out" / "digits" / "records").rglob("*.json"))
    assert [json.loads(path.read_text())["method"] for path in records] == ["samson+clip", "sgd"]
    assert {f"{name}.json" for name in MEASURED} == {path.name for path in (tmp_path / "out").glob("*.json")}


def test_a_part_that_fails_leaves_the_others_alone_and_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$2" in *throughput) echo broken >&2; exit 3;; esac\n')
    python.chmod(0o755)
    done = gpu_script("--tiny", "--out", tmp_path / "out", python=python)
    assert done.returncode == 1
    assert "broken\n[throughput] FAILED with status 3" in done.stdout
    assert done.stdout.count("] done in ") == 3


def test_an_argument_that_is_not_known_is_refused() -> None:
    done = gpu_script("--tinny")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--tinny" in done.stderr


def test_the_suite_can_be_planned() -> None:
    """With other data, since CIFAR-10 may not be there."""
    table = read_suite(BENCHMARKS / "gpu-cifar10.toml")
    assert table["data"] == "cifar10"
    plan = plan_suite({**table, "data": "digits"})
    [problem] = plan.problems
    assert [method.name for method in problem.methods] == ["sgd", "clip", "samson", "samson+clip"]
    assert (problem.record.network, problem.recipe.epochs, plan.seeds) == ("resnet18", 10, 1)
