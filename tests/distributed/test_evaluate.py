"""Evaluation while a rank of torchrun, a worker of Ray or a whole node is lost: the bits of one process.

The part with Ray runs where it is installed: `pip install -c constraints.txt ray`, then
`python -m pytest tests/distributed/test_evaluate.py`. It takes about half a minute.
"""

import json
from pathlib import Path

import pytest
import torch

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no torch.distributed with gloo", allow_module_level=True)

from samson.evaluation import evaluate
from tests.distributed.evaluate_checks import DATA, NOISE, make
from tests.distributed.evaluate_program import TRIALS
from tests.programs import TORCHRUN, run

LIMIT_S = 280


def launch(module: str, folder: Path, *arguments: str) -> None:
    """Run a module of these tests to its end."""
    command = [*arguments, "-m", f"tests.distributed.{module}"]
    status = run(command, folder, LIMIT_S, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert status == 0, (folder / "output.txt").read_text()[-3000:]


def test_trials_of_a_lost_rank_are_run_again(tmp_path: Path) -> None:
    """In the default layout, which is the same in every process, and so are the bits of results."""
    launch("evaluate_program", tmp_path, *TORCHRUN, "--max-restarts=1")
    alone = evaluate(make(), DATA, NOISE, trials=TRIALS)
    expected = {"trials": list(alone.trials), "scores": alone.scores.tolist(), "layout": str(alone.layout)}
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found == expected | {"restarts": 1}
    assert "A rank was lost" in (tmp_path / "output.txt").read_text()


@pytest.mark.needs("ray")
def test_a_cluster_of_two_nodes(tmp_path: Path) -> None:
    """One test, since all of it runs on one cluster, which takes long to start."""
    launch("ray_program", tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())

    worker = found["a killed worker"]
    assert worker["same"]
    assert not worker["other seed"]
    assert worker["begun"]["5"] == 2
    assert worker["processes"] >= 2
    assert worker["done"] == list(range(1, 13))

    interrupt = found["an interrupt"]
    assert interrupt["before"][0] < interrupt["before"][1], "trials were in flight"
    assert interrupt["after"] == interrupt["before"]
    assert interrupt["still connected"], "what it did not start, it does not end"

    node = found["a lost node"]
    assert node["same"]
    assert node["nodes"] == 1
    assert max(node["begun"].values()) == 2
