"""What CONTRIBUTING tells a newcomer to type works as it stands there."""

import re
from pathlib import Path

import pytest

from samson.cli._catalogue import catalogue
from samson.experiments import read_records, sharpness_path
from samson.optim import RULES
from samson.records import SharpnessRecord, read_json
from tests.programs import samson

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def code(heading: str) -> dict[str, object]:
    """What the code below a heading defines."""
    block = re.search(rf"## {heading}\n.*?```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    names: dict[str, object] = {"__name__": "contributed"}
    exec(block[1], names)
    return names


def test_a_method_joins_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "rootasam", code("Add a method")["RootASAM"])

    assert catalogue()["methods"].rows["rootasam"] == ["T = √(|w| + η).", "rho=0.5, eta=0.01, policy=authors"]
    common = "--network", "mlp", "--seeds", 1, "--epochs", 1, "--trials", 2, "--levels", "0,.1", "--jobs", 1, "--quiet"
    methods = "sgd,rootasam,rootasam+clip"
    assert samson("compare", "--methods", methods, *common, "--out", tmp_path / "runs")[0] == 0
    records = {record.method: record for record in read_records(tmp_path / "runs")}
    assert set(records) == {"sgd", "rootasam", "rootasam+clip"}
    assert records["rootasam"].settings["eta"] == 0.01
    assert records["rootasam"].training.loss != records["sgd"].training.loss
    assert samson("sharpness", tmp_path / "runs", "--steps", 1, "--trials", 2)[0] == 0
    measures = read_json(sharpness_path(tmp_path / "runs", "digits-mlp"), SharpnessRecord).measures
    assert {"rootasam one step", "rootasam worst"} <= set(measures)
