"""Bad input: at most four lines that name parameter, value, rule and mend, status 2, and no training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from samson.cli._app import app
from samson.cli._errors import OPTIONS, as_options
from samson.experiments import SetupError, WorkerLostError, plan_suite
from tests import programs

COMPARE = ["compare", "--network", "mlp", "--methods", "sgd", "--seeds", "1", "--epochs", "1", "--trials", "2"]
COMPARE += ["--jobs", "1"]


@pytest.fixture
def samson(samson: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str]]:
    """Run the command line; gives its status and what it wrote to standard error."""
    return lambda *arguments: samson(*arguments)[::2]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "out"
    assert programs.samson(*COMPARE, "--out", folder, "--quiet")[0] == 0
    return folder


@pytest.fixture
def finished(compared: Path, tmp_path: Path) -> Path:
    """The folder of a comparison that is finished."""
    return shutil.copytree(compared, tmp_path / "out")


def test_a_lost_process_is_told_shortly(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise WorkerLostError("A process of a run died.")

    monkeypatch.setattr("samson.experiments.run_all", lost)
    status, message = samson(*COMPARE, "--out", tmp_path / "out")
    assert status == 1
    assert message.endswith("samson: A process of a run died.\nFinished runs are kept; repeat the command to go on.\n")


def test_a_folder_of_another_configuration_is_refused(
    samson, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samson.experiments.run_all", lambda *_, **__: pytest.fail("training has started"))
    status, message = samson(*COMPARE, "--out", finished, "--levels", ".5")
    assert (status, len(message.strip().splitlines())) == (2, 4)
    assert "belongs to another configuration; different: chips" in message
    assert "A folder takes more, not fewer: name too what it has: gaussian (0.05, 0.1, 0.15, 0.2, 0.3).\n" in message
    assert "Choose another folder with --out" in message
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    status, message = samson(*COMPARE, "--out", other / "thesis.tex")
    assert status == 2
    assert (other / "thesis.tex").read_text() == "precious"


def test_a_damaged_record_is_refused(samson, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = finished / "records" / "digits-mlp" / "sgd-seed0.json"
    good = path.read_text()
    monkeypatch.setattr("samson.experiments.run_all", lambda *_, **__: pytest.fail("training has started"))
    for bad in (good[: len(good) // 2], json.dumps(json.loads(good) | {"seed": -5})):
        path.write_text(bad)
        for command in ([*COMPARE, "--out", finished], ["report", finished]):
            status, message = samson(*command)
            assert (status, len(message.strip().splitlines())) == (2, 2)
            assert "sgd-seed0.json" in message
            assert "Delete or move that file" in message
        assert path.read_text() == bad  # and it is still there to look at
    path.write_text(good)
    path.with_name("sam-seed0.json").write_text(good)
    assert "belongs to another comparison or run" in samson("report", finished)[1]


def test_a_damaged_network_is_refused(samson, finished: Path) -> None:
    network = finished / "networks" / "digits-mlp" / "sgd-seed0.safetensors"
    assert samson("evaluate", network, "--trials", "2", "--levels", ".1")[0] == 0
    network.write_bytes(network.read_bytes()[:100])
    status, message = samson("evaluate", network)
    assert (status, "MODEL " in message and "is damaged" in message) == (2, True)


def test_python_speaks_of_parameters_and_the_command_line_of_its_options(samson, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^`methods`: 'samsom' is unknown"):
        plan_suite({"methods": ["samsom"]})
    message = samson(*COMPARE, "--out", tmp_path / "out", "--methods", "samsom")[1]
    assert message.startswith("samson: --methods: 'samsom' is unknown")

    def options(command: Any) -> set[str]:
        below = [options(inner) for inner in getattr(command, "commands", {}).values()]
        return {option for parameter in command.params for option in parameter.opts}.union(*below)

    known = options(get_command(app))
    assert {as_options(f"`{name}` must") for name in OPTIONS} <= {f"{option} must" for option in known}
    assert as_options("`batch_size` for `seed`: `seed` stays") == "`batch_size` for --seed: `seed` stays"
    assert as_options("`time_s` must, [noise 1]: `time_s` must") == "--times must, [noise 1]: `time_s` must"
