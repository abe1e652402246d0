"""What answers before anything is computed: the version, `python -m samson`, completion, and the doctor."""

import itertools
import re
import subprocess
import sys

import pytest
import torch

from samson import ASAM, __version__
from samson.evaluation import evaluate
from samson.noise import Gaussian
from tests.programs import ROOT


def test_version(samson) -> None:
    assert samson("--version") == (0, f"samson {__version__}\n", "")


def test_completion_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "samson", "--help"], capture_output=True, text=True, check=True, env={"TERM": "dumb"}
    )
    assert "--install-completion" in done.stdout


def test_help_and_page_say_what_the_exit_status_means(samson) -> None:
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    table = page.partition("### Exit status")[2].partition("`samson report`")[0]
    said = " ".join(samson("--help")[1].split()).partition("Exit status: ")[2]
    assert re.findall(r"\d+", said) == re.findall(r"\d+", " ".join(re.findall(r"^\| (\d.*?) \|", table, re.MULTILINE)))
    assert re.findall(r"\d+", said) == ["0", "1", "2", "130", "143"]


def test_the_doctor_tells_what_is_installed_and_that_it_works(samson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    status, out, _ = samson("doctor")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["torch"] == torch.__version__
    assert lines["samson-torch"].startswith(__version__)
    assert {lines[check] for check in ("training", "chips", "evaluation")} == {"ok"}
    assert {"scipy", "rich", "cpu", "system"} <= set(lines)
    assert lines["mps"] == "there, but commands need cpu or cuda"
    assert status == 0


def test_the_doctor_finds_what_is_wrong(samson, monkeypatch: pytest.MonkeyPatch) -> None:
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
            status, out, _ = samson("doctor")
        found = dict(line.split(maxsplit=1) for line in out.splitlines()[-3:])
        assert found.pop(check).startswith(f"FAILED: {message}")
        assert set(found.values()) == {"ok"}
        assert status == 1
