"""Data-parallel and sharded training in two processes: `torchrun` runs the scripts beside this file once, together.

The tests read what each check of a script found.
"""

from pathlib import Path

import pytest
import torch

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no torch.distributed with gloo", allow_module_level=True)

from tests.distributed import ddp_checks, evaluate_checks, fsdp_checks, through_chip_checks
from tests.distributed.harness import outcome
from tests.programs import TORCHRUN, run_once

SCRIPTS = {
    "evaluate_checks": evaluate_checks.check,
    "ddp_checks": ddp_checks.check,
    "fsdp_checks": fsdp_checks.check,
    "through_chip_checks": through_chip_checks.check,
}
SLOW = "through_chip_checks"
LIMIT_S = 270


@pytest.mark.parametrize(
    ("script", "check"),
    [
        pytest.param(script, check, marks=[pytest.mark.slow] if script == SLOW else [])
        for script in SCRIPTS
        for check in SCRIPTS[script]
    ],
)
def test_in_two_processes(script: str, check: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    together = [SLOW] if script == SLOW else [each for each in SCRIPTS if each != SLOW]
    command = [*TORCHRUN, "-m", "tests.distributed", *together]
    results = run_once(tmp_path_factory, " ".join(together), command, LIMIT_S)
    wrong = outcome(results, f"{script} {check}")
    assert not wrong, f"{wrong}\n{(results / 'output.txt').read_text()[-2000:]}"


def test_a_failing_check_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "process0.jsonl").write_text('["one", null, 1.0]\n["two", "it broke", 1.0]\n')
    (tmp_path / "process1.jsonl").write_text('["one", null, 1.0]\n')
    assert not outcome(tmp_path, "one")
    assert "process 0: it broke" in outcome(tmp_path, "two")
    assert "process 1: did not finish" in outcome(tmp_path, "two")
