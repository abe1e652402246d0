"""`samson compare` end to end, small: records, resuming, interruption."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from torch import Tensor

from samson.cli._progress import Bars
from samson.experiments import Loop
from samson.records import write_json
from tests import programs
from tests.builders import PLAN, records
from tests.cli.conftest import COMPARE, start
from tests.experiments.test_suites import measured
from tests.report.test_report import in_bits

SMALL = [
    "--network",
    "mlp",
    "--methods",
    "sgd,samson+clip",
    "--seeds",
    "2",
    "--epochs",
    "1",
    "--trials",
    "2",
    "--levels",
    ".1,.2",
]
RUNS = [f"digits-mlp/{name}" for name in ("samson+clip-seed0", "samson+clip-seed1", "sgd-seed0", "sgd-seed1")]


def samson(*arguments: object) -> tuple[str, str]:
    """Run the command line, to its good end; gives what it wrote to both streams."""
    status, out, err = programs.samson(*arguments)
    assert status == 0, err
    return out, err


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    out, err = samson("compare", *SMALL, "--out", folder, "--jobs", "1", "--quiet")
    return folder, out, err


def test_everything_is_written(compared: tuple[Path, str, str]) -> None:
    folder, out, err = compared
    assert sorted(path.name for path in folder.iterdir()) == [
        "configuration.json",
        "networks",
        "records",
        "report.html",
        "summary.csv",
    ]
    assert list(measured(folder)) == RUNS
    networks = folder / "networks"
    assert sorted(str(path.relative_to(networks)) for path in networks.glob("*/*")) == sorted(
        f"{run}.{kind}" for run in RUNS for kind in ("json", "safetensors")
    )
    rows = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert [(row["method"], row["kind"]) for row in rows] == [
        (method, level) for method in ("sgd", "samson+clip") for level in ("clean", "0.1", "0.2")
    ]
    assert "samson+clip" in out
    assert str(folder / "report.html") in out.replace("\n", "")
    assert [line.split()[0] for line in err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]
    record = json.loads((folder / "records" / "digits-mlp" / "samson+clip-seed1.json").read_text())
    assert [[len(chips) for chips in family] for family in record["measured"]] == [[2, 2]]
    assert record["settings"]["policy"] == "authors"
    covered = f"100% of the weights, {100 * record['multiply_adds']:.4g}% of the multiply-adds"
    assert (record["coverage"], 0.99 < record["multiply_adds"] <= 1) == (1.0, True)
    assert f"On the chips: {covered}" in " ".join(out.split())
    assert covered in (folder / "report.html").read_text()


def test_the_report_renders_from_records_alone(compared: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, _, _ = compared
    alone = tmp_path / "alone"
    shutil.copytree(folder / "records", alone / "records")
    samson("report", alone)  # the plan alone knows the order of methods and the command
    assert "samson+clip" in (alone / "report.html").read_text()
    shutil.copy(folder / "configuration.json", alone)
    samson("report", alone)
    for name in ("summary.csv", "report.html"):
        assert (alone / name).read_bytes() == (folder / name).read_bytes()
    shown, _ = samson("report", alone, "--baseline", "samson+clip")
    assert "Points over samson+clip" in shown
    with pytest.raises(AssertionError, match="--baseline: 'nope' is unknown"):
        samson("report", alone, "--baseline", "nope")


def test_what_the_page_notes_is_said_in_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is gone, and one is of another version of torch and source."""
    monkeypatch.setenv("COLUMNS", "400")
    kept = records()[:3]
    other = replace(kept[2].environment, torch="2.14.0", git=f"{'0f' * 20}+changes")
    for run in (*kept[:2], replace(kept[2], environment=other)):
        write_json(tmp_path / "records" / run.problem.name / f"{run.method}-seed{run.seed}.json", run)
    write_json(tmp_path / "configuration.json", PLAN)
    lines, page = samson("report", tmp_path)[0].splitlines(), (tmp_path / "report.html").read_text()
    for note in (
        "3 of 4 runs are finished; this report shows those.",
        "Runs differ in torch: 2.13.0 and 2.14.0. Their numbers may differ by that too.",
        "Runs differ in commit: 0f0f0f0+changes and none. Their numbers may differ by that too.",
    ):
        assert note in lines
        assert f"<p class='note'>{note}</p>" in page


@pytest.mark.parametrize("problems", [["one"], ["one", "two"], ["one", "less"]])
def test_the_terminal_ends_with_what_the_page_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problems: list[str]
) -> None:
    """Without tags: on one problem which method to take, on several which has the best rank; less has but one."""
    monkeypatch.setenv("COLUMNS", "400")
    for name in problems:
        for run in records()[:2] if name == "less" else records():
            of = replace(run.problem, name=name, metric="right & <sure>")
            path = tmp_path / "records" / name / f"{run.method}-seed{run.seed}.json"
            write_json(path, replace(run, problem=of))
    out, _ = samson("report", tmp_path)
    [lead] = re.findall(r'<p class="lead">.*?</p>', (tmp_path / "report.html").read_text(), re.DOTALL)
    said = "".join(ElementTree.fromstring(lead).itertext())
    *lines, where = out.splitlines()
    assert lines[-len(said.splitlines()) :] == said.splitlines()
    assert where == f"Report: {tmp_path / 'report.html'}"
    assert ("samson" in said) == ("less" not in problems)
    assert ("right & <sure>" in said) == (len(problems) == 1)
    assert ("less: sgd alone." in said) == ("less" in problems)
    assert ("= means: these seeds do not tell them apart." in out) == ("two" in problems)


def test_the_tables_say_what_is_measured_and_which_way_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal of 80 columns: percent for accuracies, the direction where it is down."""
    monkeypatch.setenv("COLUMNS", "80")
    for run in records():
        for folder, of in (("up", run), ("down", in_bits(run))):
            write_json(tmp_path / folder / "records" / of.problem.name / f"{of.method}-seed{of.seed}.json", of)
    (up, _), (down, _) = samson("report", tmp_path / "up"), samson("report", tmp_path / "down")
    assert max(len(line) for out in (up, down) for line in out.partition("Report:")[0].splitlines()) <= 80
    up, down = " ".join(up.split()), " ".join(down.split())
    assert "Test accuracy (%) on digits-small-resnet by gaussian, 95 % intervals" in up
    assert "Points over sgd on the same chips" in up
    assert "Test bits-per-token (less is better) on text by gaussian, 95 % intervals" in down
    assert "Gain (+ is better) over sgd on the same chips" in down


def test_no_number_is_cut_where_tables_are_wider_than_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten families of chips, a method with a long name, and a mean squared error in millions."""
    monkeypatch.setenv("COLUMNS", "60")
    families = tuple(replace(PLAN.families[0], name=f"family-{number}") for number in range(10))
    for run in (in_bits(run, 1e6) for run in records()):
        run = replace(run, families=families, measured=run.measured * 10)
        run = replace(run, method="m" * 64) if run.method == "samson" else run
        write_json(tmp_path / "records" / run.problem.name / f"{run.method}-seed{run.seed}.json", run)
    out, _ = samson("report", tmp_path)
    assert "…" not in out
    rows = [line.split() for line in out.splitlines() if "m" * 64 in line]
    assert len(rows) == 11
    assert rows[0][:13] == ["m" * 64, *["1.00"] * 12]
    assert rows[1][1] == "1020000"


def test_a_saved_network_gives_its_records_trials(compared: tuple[Path, str, str]) -> None:
    folder, _, _ = compared
    out, _ = samson(
        "evaluate",
        folder / "networks" / "digits-mlp" / "sgd-seed0.safetensors",
        "--levels",
        ".2",
        "--trials",
        "2",
    )
    [clean, [[_, noisy]]] = measured(folder)["digits-mlp/sgd-seed0"]
    assert f"{100 * clean:.1f}" in out
    assert f"{100 * sum(noisy) / 2:.1f} [" in out
    assert f"{100 * min(noisy):.1f}" in out


def check_that_it_goes_on(command: list[str], status: int, err: str) -> None:
    """What a comparison of four runs says and keeps that Ctrl-C has ended, and what its repetition makes."""
    out = Path("out")
    assert status == 130, err
    assert "Traceback" not in err
    kept = measured(out)
    assert 1 <= len(kept) < 4
    assert f"Stopped with {len(kept)} of 4 runs finished" in err
    assert not list(out.rglob("*.partial"))
    samson("report", out)
    assert f"{len(kept)} of 4 runs are finished" in (out / "report.html").read_text()
    _, err = samson(*command)
    assert f"Going on: {len(kept)} of 4 runs are finished." in err
    assert f"{len(kept) + 1}/4" in err  # only what was missing
    assert f"{len(kept)}/4 " not in err
    assert len(measured(out)) == 4
    assert {name: measured(out)[name] for name in kept} == kept
    _, err = samson(*command)  # nothing left to do
    assert "/4 " not in err


def sending(patch: pytest.MonkeyPatch, number: signal.Signals, seed: int) -> None:
    """Let a signal come in the third step of the training with a seed."""
    advance = Loop.advance

    def advancing(loop: Loop, inputs: Tensor, targets: Tensor) -> None:
        if (loop.run.seed, loop.step) == (seed, 2):
            signal.raise_signal(number)
        advance(loop, inputs, targets)

    patch.setattr(Loop, "advance", advancing)


def test_ctrl_c_keeps_finished_runs_and_a_repetition_goes_on(own) -> None:
    command = [*COMPARE, "--seeds", "4", "--epochs", "3", "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        sending(patch, signal.SIGINT, seed=1)
        status, _, err = programs.samson(*command)
    assert list(measured(Path("out"))) == ["data-network/sgd-seed0"]
    check_that_it_goes_on(command, status, err)


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_ctrl_c_ends_workers_too(own) -> None:
    command = [*COMPARE, "--train", "own_problem:halting", "--seeds", "4", "--epochs", "1", "--jobs", "2"]
    process = start(*command, start_new_session=True)
    while not list(Path("out").rglob("records/*/*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, err = process.communicate(timeout=60)
    Path("go").touch()
    check_that_it_goes_on([*command[:-1], "1"], process.returncode, err)


STOPPED = "Stopped with 0 of 2 runs finished. Repeat the command to go on, or see these with `samson report out`."


def test_a_notice_to_end_is_answered_like_ctrl_c_and_the_training_is_saved(own) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sending(patch, signal.SIGTERM, seed=0)
        status, written, err = programs.samson(*COMPARE, "--seeds", 2, "--epochs", 9, "--jobs", 1)
    assert (status, written, " ".join(err.split())) == (143, "", STOPPED)
    assert len(list(Path("out").rglob("training.safetensors"))) == 1


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX")
def test_a_notice_to_end_is_handed_on_to_workers(own) -> None:
    process = start(*COMPARE, "--seeds", 2, "--epochs", 10**6, "--jobs", 2)

    def kept() -> dict[str, tuple[int, int]]:
        """What tells the savings of each training apart."""
        paths = Path("out").rglob("training.safetensors")
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}

    while len(kept()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)  # or a notice within a saving finds its step saved already
    before = kept()
    process.send_signal(signal.SIGTERM)
    written, err = process.communicate(timeout=60)
    # and nothing of semaphores, or of where it was
    assert (process.returncode, written, " ".join(err.split())) == (143, "", STOPPED)
    after = kept()
    assert len(after) == 2
    assert all(after[path] != before[path] for path in before), "each is saved when the notice comes"


def test_networks_that_are_only_put_on_more_chips_are_not_said_to_be_trained(
    compared: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = tmp_path / "out", "Trained already, and only put on the chips that they lack: 3 networks."
    shutil.copytree(compared[0], out)
    (out / "networks" / f"{RUNS[2]}.safetensors").unlink()  # this one is trained again
    command = ["compare", *SMALL, "--levels", ".1,.2,.3", "--out", out, "--jobs", "1", "--quiet"]
    monkeypatch.setattr("samson.experiments.estimate", lambda plan: [])
    assert said in " ".join(samson(*command, "--dry-run")[0].split())
    assert "Trained already" not in samson("compare", *SMALL, "--dry-run", "--out", out)[0]
    first, *lines = samson(*command)[1].splitlines()
    assert first == said
    assert sorted(line.split()[0] for line in lines) == ["1/4", "2/4", "3/4", "4/4"]
    assert [RUNS[2] in line for line in lines] == ["trained in" in line for line in lines]
    assert all("% without noise" in line for line in lines)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_extra_is_named(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from samson.cli import main; main()"
    command = [sys.executable, "-c", program, "report", "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"samson: the command line needs '{package}" in done.stderr
    assert 'pip install -c constraints.txt ".[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_bars_of_a_search_are_gone_when_runs_begin() -> None:
    bars = Bars(Console(file=io.StringIO()), total=2)

    def shown() -> list[tuple[str, float]]:
        return [(task.description, task.completed) for task in bars._all.tasks]

    for number in range(3):
        bars.progress(f"choice {number}", "training", 1, 1)
    assert shown()[0] == ("all runs", 0)
    bars.begin(1)
    assert shown() == [("all runs", 1)]
    bars.progress("run", "training", 1, 2)
    assert shown() == [("all runs", 1.4), ("run", 0.4)]


def test_missing_data_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    out = tmp_path / "out"
    status, _, err = programs.samson("compare", "--out", out)
    assert (status, len(err.strip().splitlines())) == (2, 2)
    assert 'pip install -c constraints.txt ".[cli]"' in err
    assert not out.exists()
