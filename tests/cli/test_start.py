"""What answers before anything is computed: the version, `python -m samson`, completion, and the doctor."""

import io
import itertools
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import torch

import samson
from samson import ASAM
from samson.cli import main
from samson.evaluation import evaluate
from samson.noise import Gaussian


def answer(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, int]:
    """What the command line prints, and its exit status."""
    monkeypatch.setattr(sys, "argv", ["samson", *arguments])
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit) as end:
        main()
    return out.getvalue(), int(end.value.code or 0)


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(monkeypatch, "--version") == (f"samson {samson.__version__}\n", 0)


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "samson", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"samson {samson.__version__}\n"
    )


def test_completion_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "samson", "--help"], capture_output=True, text=True, check=True, env={"TERM": "dumb"}
    )
    assert "--install-completion" in done.stdout


def test_the_doctor_tells_what_is_installed_and_that_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    out, status = answer(monkeypatch, "doctor")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["torch"] == torch.__version__
    assert lines["samson-torch"].startswith(samson.__version__)
    assert {lines[check] for check in ("training", "chips", "evaluation")} == {"ok"}
    assert {"scipy", "rich", "cpu", "system"} <= set(lines)
    assert status == 0


def test_the_doctor_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rule's perturbation, twice the noise, chips that are not common, and a package that is broken."""
    count = itertools.count()
    for place, wrong, check, message in (
        ("samson.SAMSON", ASAM, "training", "the perturbation is off"),
        ("samson.noise.Gaussian", lambda sigma: Gaussian(2 * sigma), "chips", "noise of .1 has a deviation of 0.19"),
        (
            "samson.evaluation.evaluate",
            lambda *given, seed, **rest: evaluate(*given, seed=next(count), **rest),
            "evaluation",
            "the same chips gave",
        ),
        ("samson.evaluation.evaluate", None, "evaluation", "TypeError: 'NoneType' object is not callable"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, wrong)
            out, status = answer(monkeypatch, "doctor")
        found = dict(line.split(maxsplit=1) for line in out.splitlines()[-3:])
        assert found.pop(check).startswith(f"FAILED: {message}")
        assert set(found.values()) == {"ok"}
        assert status == 1
