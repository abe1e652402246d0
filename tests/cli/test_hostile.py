"""What goes wrong around a command: names, streams, folders, files of others, and processes that end."""

import io
import re
import shlex
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samson.cli import main
from samson.experiments import Checkpoint, make_network, read_records, run_all, save_checkpoint
from samson.records import write_json
from tests.builders import records
from tests.cli.conftest import COMPARE, start
from tests.experiments.test_suites import changed, content

SMALL = ["--seeds", "1", "--epochs", "1", "--trials", "2", "--levels", ".1", "--quiet"]


def saved(folder: Path, data: str = "digits") -> Path:
    path = folder / "net.safetensors"
    model = make_network("small-resnet", (1, 8, 8), 10, seed=0)
    save_checkpoint(path, model.state_dict(), Checkpoint("small-resnet", (1, 8, 8), 10, data, "sgd", 0))
    return path


def test_a_training_that_diverges_is_a_result_and_a_failure(samson, tmp_path: Path) -> None:
    command = ["compare", "--methods", "sgd,sam", "--set", "sgd.lr=1e6", "--jobs", 1, *SMALL, "--out", tmp_path / "out"]
    status, out, err = samson(*command)
    assert status == 1
    diverged, other = read_records(tmp_path / "out")
    step = diverged.training.diverged_at
    assert 1 <= step <= 16
    assert (diverged.measured, diverged.clean, diverged.training.validation) == ((), None, None)
    assert (other.training.diverged_at, len(other.measured[0])) == (None, 1)
    assert f"sgd-seed0: diverged at step {step}" in err
    said = f"digits-small-resnet, sgd, seed 0: the training diverged at step {step}. Figures are of the other networks."
    assert said in " ".join(out.split())
    assert said in (tmp_path / "out" / "report.html").read_text()
    counted = "1 of 2 trainings diverged. Set a smaller lr: --set lr=0.01, or set = { lr = 0.01 }."
    assert counted in " ".join(err.split())
    status, _, err = samson(*command)
    assert (status, "sgd-seed0" in err, counted in " ".join(err.split())) == (1, False, True), "it is not run again"
    assert samson("report", tmp_path / "out")[0] == 0
    alone = ["compare", "--methods", "sgd", "--set", "sgd.lr=1e6", "--jobs", 1, *SMALL, "--out", tmp_path / "alone"]
    status, _, err = samson(*alone)
    assert (status, counted.replace("2", "1", 1) in " ".join(err.split())) == (1, True)
    status, _, err = samson("report", tmp_path / "alone")
    assert (status, "such that a training does not diverge" in err) == (2, True)


def test_names_are_printed_as_they_are(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    folder = Path("[red]:smile:[", "y]")  # with the slash between them a closing tag
    status, out, _ = samson("evaluate", saved(folder), "--levels", ".1", "--trials", 2, "--page", "[b].html")
    assert status == 0
    assert "[red]:smile:[/y]/net.safetensors" in out
    assert "/[b].html" in out.replace("\n", "")


def test_files_of_others_give_the_terminal_no_commands(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    evil, shown = "\x1b[2J\u202egnp\x9b", r"\u001b[2J\u202egnp\u009b"
    save_file({evil: torch.zeros(1)}, "weights.safetensors")
    Path("chip.toml").write_text(f'"{shown}" = 1')
    said = [
        samson("evaluate", "torch.nn:Identity", "--weights", "weights.safetensors", "--data", "digits")[2],
        samson("list", "layers", "torch.nn:Identity", "--chip", "chip.toml")[2],
        samson("evaluate", saved(tmp_path), "--levels", ".1", "--trials", 2, "--page", f"{evil}.html")[1],
    ]
    for text in said:
        assert shown in text
        assert not {*text} & {"\x1b", "\u202e", "\x9b"}


def test_commands_that_are_proposed_can_be_pasted(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a path has a space, and is longer than a line."""
    monkeypatch.setenv("COLUMNS", "40")
    network, out = saved(tmp_path / "my runs"), tmp_path / "my runs" / "out"
    changed(network.with_suffix(".json"), lambda data: data | {"network": "mine:net", "data": "my data.npz"})
    [words] = re.findall("Name it yourself: (.*), or load_model", samson("evaluate", network)[2])
    assert shlex.split(words) == ["mine:net", "--weights", str(network), "--data", "my data.npz"]

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samson.experiments.run_all", stopped)
    status, _, err = samson("compare", "--methods", "sgd", *SMALL, "--out", out)
    [words] = re.findall("`(samson report .*)`", err)
    assert (status, shlex.split(words)) == (130, ["samson", "report", str(out)])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_may_lack_signs(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with pytest.raises(UnicodeEncodeError):
        out.write("ρ")  # the check can fail
    monkeypatch.setattr(sys, "argv", ["samson", "list", "methods"])
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main()
    for stream in (out, err):
        stream.flush()
    assert (end.value.code or 0, err.buffer.getvalue()) == (0, b"")
    assert b"samson+clip" in out.buffer.getvalue()
    assert b"?" in out.buffer.getvalue()  # for the Greek letters


def test_a_folder_without_its_configuration_goes_on(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    command = ["compare", "--methods", "sgd", "--jobs", 1, *SMALL, "--out", out]
    assert samson(*command)[0] == 0
    configuration = out / "configuration.json"
    before = configuration.read_bytes()
    configuration.write_bytes(before[:50])
    status, _, err = samson(*command)
    assert (status, len(err.strip().splitlines())) == (2, 2)
    assert "configuration.json` is not readable as a record" in err
    assert "Delete it: `samson compare` writes it again, and keeps the finished runs." in err
    configuration.unlink()
    (out / ".configuration.json.0a1b.partial").write_text("{")  # as an interruption leaves it
    monkeypatch.setattr(
        "samson.experiments.run_all", lambda todo, *_, **__: {} if not todo else pytest.fail("a run is made again")
    )
    for option, number, word in (("levels", 0.2, "chips"), ("examples", 9, "examples")):
        status, _, err = samson(*command, f"--{option}", number)
        assert (status, f"different: {word}" in err) == (2, True)
        assert not configuration.exists()
    assert samson(*command)[0] == 0
    assert configuration.read_bytes() == before


def test_a_folder_that_loses_runs_is_said(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def losing(*arguments: object, **keywords: object) -> dict:
        failures = run_all(*arguments, **keywords)
        (out / "records" / "digits-small-resnet" / "sgd-seed0.json").unlink()
        return failures

    monkeypatch.setattr("samson.experiments.run_all", losing)
    status, _, err = samson("compare", "--methods", "sgd,sam", "--jobs", 1, *SMALL, "--out", out)
    assert (status, "Of 1 run the record is gone" in err, "Traceback" in err) == (1, True, False)


def test_a_full_disk_is_one_line(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out/records/sgd-seed0.json")

    monkeypatch.setattr("samson.experiments.run_all", full)
    status, _, err = samson("compare", "--methods", "sgd", *SMALL, "--out", tmp_path / "out")
    assert (status, "Traceback" in err) == (1, False)
    assert "'out/records/sgd-seed0.json': No space left on device" in err


def fill_the_disk(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let a file of that name not be written, as a write to an open file says it: the error names no file."""
    write = Path.write_bytes

    def limited(path: Path, content: bytes) -> int:
        if path.name.startswith(f".{name}."):
            raise OSError(28, "No space left on device")
        return write(path, content)

    patch.setattr(Path, "write_bytes", limited)


def write_records(folder: Path) -> None:
    for run in records():
        write_json(folder / "records" / run.problem.name / f"{run.method}-seed{run.seed}.json", run)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["--out", "p.json"], ""),
        (["--out", "a.json", "--page", "p.html"], ""),
        (["--out", "p.json", "--resume", "chips"], "Finished chips are kept; repeat the command to go on.\n"),
    ],
)
def test_a_disk_that_is_full_at_the_end_does_not_lose_what_was_measured(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[str], kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", saved(tmp_path), "--trials", 2, "--levels", ".1"]
    shown = samson(*command)[1]
    [full] = [name for name in written if name.startswith("p.")]
    fill_the_disk(monkeypatch, full)
    status, out, err = samson(*command, *written)
    assert (status, err) == (1, f"samson: '{full}': No space left on device\n{kept}")
    assert out.endswith(shown)
    assert out.removesuffix(shown) == (f"Record: {tmp_path / 'a.json'}\n" if "a.json" in written else "")
    assert not Path(full).exists()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["calibrate", "NETWORK", "--out", "p.toml"], "p.toml"),
        (["train", "--data", "digits", "--method", "samson", "--epochs", "1", "--find-rho", "--out", "."], "rho.json"),
        (["report", "."], "summary.csv"),
        (["report", "."], "report.html"),
    ],
)
def test_a_disk_that_is_full_at_the_end_does_not_lose_a_table(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [saved(tmp_path) if word == "NETWORK" else word for word in command]
    write_records(Path())
    shown = samson(*command)[1]
    Path(name).unlink()
    fill_the_disk(monkeypatch, name)
    status, out, err = samson(*command)
    assert (status, f"'{name}': No space left on device" in err) == (1, True)
    assert out.splitlines() == shown.splitlines()[:-1]  # all but where it is
    assert len(out.splitlines()) > 3


def test_a_disk_that_is_full_under_the_chips_is_no_bad_option(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    network = saved(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, err = samson("evaluate", network, "--trials", 2, "--levels", ".1", "--resume=chips")
    assert status == 1
    assert "/manifest.json': No space left on device\nFinished chips are kept; repeat the command to go on.\n" in err


def test_files_that_cannot_be_written_are_refused_before_compute(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = saved(tmp_path)
    before = network.with_suffix(".json").read_bytes()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("samson.evaluation.evaluate", lambda *_, **__: pytest.fail("computing has started"))
    for options, words in (
        (["--out", "net.json"], "--out must be no file that is read"),
        (["--page", "./net.safetensors"], "--page must be no file that is read"),
        (["--out", "file/below.json"], "--out: 'file/below.json' cannot be written"),
        (["--page", tmp_path], "--page must be a file"),
    ):
        status, _, err = samson("evaluate", network, *options)
        assert (status, words in err) == (2, True), err
    assert network.with_suffix(".json").read_bytes() == before


def test_a_folder_that_cannot_be_written_still_has_a_report(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(Path("runs"))
    Path("file").write_text("")
    before = content(Path("runs"))

    def read_only(*_: object, dir: Path) -> None:  # noqa: A002 (as `TemporaryFile` calls it)
        raise OSError(30, "Read-only file system", str(dir / ".partial"))

    with monkeypatch.context() as patch:
        patch.setattr("samson.cli._errors.TemporaryFile", read_only)
        for options, words in (
            ([], "'runs/summary.csv' cannot be written: Read-only file system."),
            (["--out", "file"], "'file/summary.csv' cannot be written: File exists."),
        ):
            status, _, err = samson("report", "runs", *options)
            assert (status, err) == (2, f"samson: --out: {words}\nGive another folder with --out.\n")
    status, out, _ = samson("report", "runs", "--out", "new/there")
    assert (status, content(Path("runs"))) == (0, before)
    there = content(Path("new", "there"))
    assert f"Report: {tmp_path / 'new' / 'there' / 'report.html'}" in out.replace("\n", "")
    assert samson("report", "runs")[0] == 0
    assert content(Path("runs")) == before | there
    assert sorted(there) == ["report.html", "summary.csv"]
    assert samson("report", "none", "--out", "nowhere")[0] == 2
    assert not Path("none").exists()
    assert not Path("nowhere").exists()


def test_a_record_is_written_before_anything_is_shown(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    write_records(Path())
    monkeypatch.setattr("samson.cli._reporting.console", closed)
    samson("report", ".")
    assert (tmp_path / "report.html").exists()
    for command, module in (("evaluate", "evaluating"), ("budget", "budgeting"), ("sensitivity", "layering")):
        monkeypatch.setattr(f"samson.cli._{module}.show_whole", closed)
        options = ["--levels", ".1"] if command == "evaluate" else []
        samson(command, saved(tmp_path), "--trials", 2, *options, "--out", f"{command}.json")
        assert (tmp_path / f"{command}.json").exists()


def test_the_file_of_a_network_never_names_code_to_run(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(
        "from pathlib import Path\nPath('sprung').touch()\ndef data(): return []\ndef net(): pass"
    )
    network = saved(tmp_path, data="evil:data")
    for command in ("evaluate", "budget", "sensitivity"):
        status, _, err = samson(command, network)
        assert (status, "--data must be given for this network, got 'evil:data'" in err) == (2, True)
    changed(network.with_suffix(".json"), lambda data: data | {"network": "evil:net", "data": "digits"})
    assert samson("evaluate", network)[0] == 2
    assert not Path("sprung").exists()
    samson("evaluate", network, "--data", "evil:data")
    assert not Path("sprung").exists(), "the network is refused first"
    samson("evaluate", "evil:net", "--data", "digits")
    assert Path("sprung").exists(), "the command line may name code: the check can fail"
    Path("sprung").unlink()
    sys.modules.pop("evil")
    Path("evil.toml").write_text('source = "x"\n[noise]\nfamily = "evil:net"')
    assert samson("evaluate", "torch.nn:Identity", "--data", "digits", "--chip", "evil.toml")[0] == 2
    assert Path("sprung").exists(), "and so may a chip file that it gives"


def running(pid: int) -> bool:
    """Whether a process still does something."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked for in /proc")
def test_workers_end_with_their_parent(own) -> None:
    process = start(*COMPARE, "--seeds", 2, "--epochs", 10**6, "--jobs", 2)
    children: list[int] = []
    while len(children) < 3:  # two workers, and the tracker of multiprocessing
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        children = [int(pid) for pid in found.split()]
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)  # also the end of the pipes, which workers have inherited
    while any(map(running, children)):
        time.sleep(0.05)
    assert not list(Path("out").rglob("*.safetensors"))
