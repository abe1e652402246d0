"""`samson train`: killed and started again it gives the same bytes, and bad input a short error."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import ExampleMetric
from samson.experiments import Classification, Loop, Saver, Splits, load_checkpoint, load_model
from samson.records import PLAN, RhoRecord, TrainingRecord, read_json
from tests.programs import run_once

# A small problem


def stripes() -> Splits:
    """Images of stripes, in noise, lying or standing."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.arange(96) % 2
    waves = torch.arange(8).remainder(2).float().expand(8, 8)
    pictures = torch.stack([waves, waves.T])[targets].unsqueeze(1)
    pictures = pictures + torch.randn(96, 1, 8, 8, generator=generator)
    parts = [(pictures[a:b], targets[a:b]) for a, b in ((0, 64), (64, 80), (80, 96))]
    return Splits(*parts, outputs=2)


def maps() -> Splits:
    return replace(stripes(), task="own")


def network(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, outputs))


def rectified(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(144, outputs))


OWN = ["train", "--data", f"{__name__}:stripes", "--network", f"{__name__}:network", "--epochs", "2"]
OWN += ["--recipe", "batch_size=16", "--recipe", "precision=float32"]

# Killed and started again

KILLS = 4
DRIVER = """
'''Trains in processes of its own, which it kills; each tells every step that is done through a pipe.'''
import json, os, random, signal, sys, time
from pathlib import Path

import samson.cli, samson.cli._app, samson.experiments, torch, torch._dynamo
from samson.experiments import _saving as saving
from samson.experiments import Loop

kills, *command, folder = sys.argv[1:]
folder = Path(folder)
delays = random.Random(5)
advance = Loop.advance


def start(out, least_s=0.0, seed=0, limit=None):
    '''Begin in a new process, which waits at the limit; gives its number, where steps are read, and a way on.'''
    steps, told = os.pipe()
    waits, on = os.pipe()
    process = os.fork()
    if process:
        os.close(told)
        os.close(waits)
        return process, steps, on
    os.close(on)
    done = 0

    def telling(loop, inputs, targets):
        nonlocal done
        advance(loop, inputs, targets)
        done += 1
        os.write(told, b'.')
        if done == limit:
            os.read(waits, 1)

    torch.set_num_threads(1)
    Loop.advance = telling
    saving.LEAST_S, saving.SHARE = least_s, float('inf')
    sys.argv = ['samson', *command, '--seed', str(seed), '--out', str(out)]
    status = 1
    try:
        samson.cli.main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def kill(out):
    '''End a process that trains, at any moment of its third to fifth step; gives its status.'''
    process, told, on = start(out, limit=4)
    began = time.monotonic()
    for _ in range(delays.randint(2, 3)):
        os.read(told, 1)
        began, step_s = time.monotonic(), time.monotonic() - began
    time.sleep(min(1.0, step_s) * delays.random())
    os.kill(process, signal.SIGKILL)
    return ended(process, told, on)[0]


def notify(out, steps, **more):
    '''Send a notice to end after some steps.'''
    process, told, on = start(out, limit=steps, **more)
    for _ in range(steps):
        os.read(told, 1)
    os.kill(process, signal.SIGTERM)
    return ended(process, told, on)


def ended(process, told, on):
    '''How a process has ended, and the steps that it made beyond those that were read.'''
    os.close(on)
    status = os.waitpid(process, 0)[1]
    steps = len(os.read(told, 10000))
    os.close(told)
    return os.waitstatus_to_exitcode(status), steps


def kept(out):
    path = out / 'unfinished' / 'training.safetensors'
    return path.stat().st_size if path.exists() else None


found = {'whole': ended(*start(folder / 'whole')), 'seed': ended(*start(folder / 'seed', seed=1))}
found['kills'] = [(kill(folder / 'killed'), kept(folder / 'killed')) for _ in range(int(kills))]
found['killed'] = ended(*start(folder / 'killed'))
found['notice'] = *notify(folder / 'told', 20, least_s=1e9), kept(folder / 'told')
found['told'] = ended(*start(folder / 'told', least_s=1e9))
(folder / 'found.json').write_text(json.dumps(found))
"""
STEPS = 32
SAVED = ["model.json", "model.safetensors", "training.json"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a driver that has trained with and without interruptions, and of what it found."""
    folder = run_once(tmp_path_factory, "cut trainings", ["-c", DRIVER, str(KILLS), *OWN, "--epochs", "8"], limit_s=250)
    assert (folder / "found.json").exists(), (folder / "output.txt").read_text()[-1500:]
    return folder


def test_kills_at_random_steps_leave_the_same_bytes(cut: Path) -> None:
    found = json.loads((cut / "found.json").read_text())
    assert found["whole"] == [0, STEPS], (cut / "output.txt").read_text()[-2000:]
    assert [status for status, _ in found["kills"]] == [-signal.SIGKILL] * KILLS
    assert all(size for _, size in found["kills"])
    status, steps = found["killed"]
    assert status == 0
    assert STEPS - 4 * KILLS <= steps <= STEPS - KILLS  # each went on where the one before it was killed
    for name in ("model.safetensors", "model.json"):
        assert (cut / "killed" / name).read_bytes() == (cut / "whole" / name).read_bytes()
    assert (cut / "seed" / "model.safetensors").read_bytes() != (cut / "whole" / "model.safetensors").read_bytes()


def test_a_notice_to_end_is_heeded_at_once_and_a_repetition_goes_on(cut: Path) -> None:
    found = json.loads((cut / "found.json").read_text())
    status, late, size = found["notice"]
    assert status == 128 + signal.SIGTERM
    assert late == 0  # it ends with the step at hand
    assert size > 0
    assert found["told"] == [0, STEPS - 20]
    for name in ("model.safetensors", "model.json"):
        assert (cut / "told" / name).read_bytes() == (cut / "whole" / name).read_bytes()


def test_nothing_but_the_network_and_its_record_is_left(cut: Path) -> None:
    for name in ("whole", "killed", "told"):
        assert sorted(path.name for path in (cut / name).iterdir()) == SAVED
    assert "Traceback" not in (cut / "output.txt").read_text()


def test_a_disk_that_fails_is_told_shortly(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saver, "due", lambda _: True)

    def full(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, message = samson(*OWN, "--out", tmp_path / "out")
    assert status == 1
    assert "No space left on device" in message
    assert "repeat the command to go on" in message
    assert len(message.strip().splitlines()) <= 4


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let Ctrl-C come when so many steps are saved."""
    patch.setattr(Saver, "due", lambda _: True)
    advance = Loop.advance

    def advancing(loop: Loop, inputs: Tensor, targets: Tensor) -> None:
        if loop.step == steps:
            raise KeyboardInterrupt
        advance(loop, inputs, targets)

    patch.setattr(Loop, "advance", advancing)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_its_status_and_keeps_what_was_saved(samson, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 5)
        status, _, message = samson(*OWN, "--out", tmp_path / "out")
    assert status == 130
    assert "Traceback" not in message
    assert [path.name for path in tmp_path.rglob("*.*")] == ["training.safetensors"]
    assert samson(*OWN, "--out", tmp_path / "out")[0] == samson(*OWN, "--out", tmp_path / "whole")[0] == 0
    both = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert both[0] == both[1]


def test_the_folder_of_another_unfinished_training_is_refused(samson, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        samson(*OWN, "--out", tmp_path)
    other_network = ["--network", f"{__name__}:rectified"]
    for changed in (["--seed", "1"], ["--method", "sam"], ["--set", "rho=1"], ["--epochs", "3"], other_network):
        status, _, message = samson(*OWN, "--out", tmp_path, *changed)
        refused(status, message, "belongs to another training", "Delete it, or take another folder")
        assert not (tmp_path / "model.safetensors").exists()


def test_a_finished_network_of_another_training_is_refused(samson, tmp_path: Path) -> None:
    method = ["--method", "sgd", "--epochs", "1"]
    assert samson(*OWN, "--out", tmp_path, *method)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other_network = ["--network", f"{__name__}:rectified"]
    changes = {"recipe": ["--epochs", "2"], "seed": ["--seed", "1"], "lr": ["--set", "lr=1"], "network": other_network}
    changes |= {"method": ["--method", "sam"], "rho": ["--method", "sam", "--find-rho"]}
    for word, changed in changes.items():
        status, _, message = samson(*OWN, "--out", tmp_path, *method, *changed)
        refused(status, message, "--out", "has the network of another training; different: ", "another folder")
        assert re.search(rf"\b{word}\b", message) or "--find-rho" in changed
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert samson(*OWN, "--out", tmp_path, *method)[0] == 0
    (tmp_path / "training.json").write_text("{")
    refused(*samson(*OWN, "--out", tmp_path, *method)[::2], "--out", "training.json", "another folder")
    (tmp_path / PLAN).touch()
    refused(*samson(*OWN, "--out", tmp_path, *method)[::2], "--out must be a folder without a comparison")


def test_a_range_test_may_stand_beside_the_network_that_it_was_for(samson, tmp_path: Path) -> None:
    for more in (["--find-rho"], ["--set", "rho=0.1"], ["--find-rho"]):
        assert samson(*OWN, "--out", tmp_path, *more)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*SAVED, "rho.json"])


def test_what_a_finished_training_kept_hinders_no_other(samson, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "due", lambda _: True)
        patch.setattr("shutil.rmtree", interrupted)  # as if it were killed at its very end
        assert samson(*OWN, "--out", tmp_path, "--method", "sgd")[0] == 130
    (tmp_path / ".model.json.0123abcd.partial").touch()
    os.utime(tmp_path / ".model.json.0123abcd.partial", (0, 0))
    assert (tmp_path / "unfinished" / "training.safetensors").exists()
    assert samson(*OWN, "--out", tmp_path, "--method", "sam")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == SAVED
    assert read_json(tmp_path / "training.json", TrainingRecord).method == "sam"


def test_after_a_divergence_the_advice_can_be_followed(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saver, "due", lambda _: True)
    status, shown, message = samson(*OWN, "--out", tmp_path, "--set", "lr=1e30")
    assert (status, shown.strip()) == (1, "")
    assert message.lstrip().startswith("The training diverged at step ")
    assert message.endswith(".\nTry a smaller lr or perturbation.\n")
    assert not (tmp_path / "model.safetensors").exists()
    assert samson(*OWN, "--out", tmp_path, "--set", "lr=0.1")[0] == 0


# What is shown and saved


def test_a_network_is_saved_and_shown(samson, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    status, shown, _ = samson(*OWN, "--out", out, "--method", "samson", "--seed", "2")
    assert status == 0
    validation, moved, place, record = shown.strip().splitlines()
    assert re.match(r"Validation accuracy: \d+\.\d %, in ", validation)
    words = moved.rstrip(".").replace(",", "").split()
    assert moved.startswith("The last perturbation: loss ")
    assert " at the weights, " in moved
    assert " perturbed, ‖ε‖ " in moved
    clean, perturbed, norm = (float(words[i]) for i in (4, 8, 11))
    assert perturbed > clean
    assert norm > 0
    assert place == f"Network: {(out / 'model.safetensors').resolve()}"
    assert record == f"Record: {(out / 'training.json').resolve()}"
    assert sorted(path.name for path in out.iterdir()) == SAVED


def test_a_saved_network_loads_again(samson, tmp_path: Path) -> None:
    command = ["train", "--network", "mlp", "--epochs", "1", "--method", "sgd", "--out", tmp_path]
    status, shown, _ = samson(*command)
    assert status == 0
    assert "perturbation" not in shown
    path = tmp_path / "model.safetensors"
    model, about = load_checkpoint(path)
    assert (about.network, about.data, about.method, about.seed) == ("mlp", "digits", "sgd", 0)
    assert (about.shape, about.outputs) == ((1, 8, 8), 10)
    assert not model.training
    x = torch.rand(3, 1, 8, 8)
    assert load_model(str(path))(x).equal(model(x))
    out = samson("evaluate", path, "--levels", ".1", "--trials", "2")[1]
    validation, test = float(shown.split()[2]), float(out.split("without noise")[1].split()[0])
    assert validation == pytest.approx(test, abs=15)  # of 360 and 359 examples: within four standard deviations
    assert validation > 0.25  # one class of ten by chance


class Confident(Classification):
    metric = ExampleMetric("confidence", lambda o, _: o.softmax(1).amax(1), higher_is_better=True, bounds=(0, 1))


def test_a_task_may_be_ones_own(samson, tmp_path: Path) -> None:
    status, shown, _ = samson(*OWN, "--out", tmp_path, "--task", f"{__name__}:Confident")
    assert status == 0
    assert shown.lstrip().startswith("Validation confidence: ")


class Hopeless(Classification):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return super().loss(outputs, targets, label_smoothing) * torch.inf


def test_a_first_loss_that_is_not_finite_is_no_matter_of_the_lr(samson, tmp_path: Path) -> None:
    status, _, message = samson(*OWN, "--out", tmp_path, "--task", f"{__name__}:Hopeless")
    assert status == 1
    assert message.endswith("The training diverged at step 1.\nLook at data and loss.\n")


def test_noise_shows_what_is_known(samson, tmp_path: Path) -> None:
    shown = samson(*OWN, "--out", tmp_path, "--method", "noise")[1]
    assert "The last perturbation: loss – at the weights, " in shown
    assert "‖ε‖" not in shown


def test_other_processes_of_torchrun_show_nothing(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert samson(*OWN, "--out", tmp_path)[1:] == ("", "")


def test_settings_reach_the_training(samson, tmp_path: Path) -> None:
    ends = set()
    for number, more in enumerate(
        (
            [],
            ["--set", "rho=0.1"],
            ["--set", "samson.rho=0.1"],
            ["--set", "lr=0.01"],
            ["--base", "AdamW"],
            ["--recipe", "schedule=constant"],
            ["--recipe", "label_smoothing=0.2"],
            ["--recipe", "label_smoothing = .2"],
            ["--recipe", "augment = 'flip'"],
        )
    ):
        out = tmp_path / str(number)
        assert samson(*OWN, "--out", out, *more)[0] == 0
        ends.add((out / "model.safetensors").read_bytes())
    assert len(ends) == 7  # two and two say the same


def test_a_range_test_is_shown_and_recorded(samson, tmp_path: Path) -> None:
    status, shown, _ = samson(*OWN, "--out", tmp_path, "--find-rho")
    assert status == 0
    record = read_json(tmp_path / "rho.json", RhoRecord)
    assert [path.name for path in tmp_path.iterdir()] == ["rho.json"]
    for point in record.points:
        assert f"{point.rho:.3g}" in shown
        assert f"{point.perturbed_loss:.4f}" in shown
    suggestion = "No rho to suggest" if record.suggested is None else f"--set rho={record.suggested:g}"
    assert suggestion in shown


def test_a_range_test_that_diverged_is_not_to_be_longer(samson, tmp_path: Path) -> None:
    shown = samson(*OWN, "--out", tmp_path, "--find-rho", "--set", "lr=1e6")[1]
    assert "No rho to suggest: the training diverged. Take a smaller lr: --set lr=" in " ".join(shown.split())
    assert "--epochs" not in shown


# Errors


def refused(status: int, message: str, *words: str) -> None:
    assert status == 2, message
    assert len(message.strip().splitlines()) <= 4
    assert "Traceback" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "samsom"], ["samson: --method: 'samsom'", "Did you mean 'samson'?"]),
        (["--method", "sam+samson"], ["'sam+samson'"]),
        (["--network", "resnet9"], ["--network", "'resnet9'", "Did you mean 'resnet"]),
        (["--data", "digit"], ["--data", "'digit'", "Did you mean 'digits'?"]),
        (["--data", f"{__name__}:maps"], ["task must be named for", 'Write --task "mine:Task", with metric and loss']),
        (["--base", "AdaW"], ["--base", "'AdaW'", "Did you mean 'AdamW'?"]),
        (["--train", f"{__name__}:nothing"], ["--train", "'nothing'"]),
        (["--parallel", "dpp"], ["--parallel", "'dpp'", "Did you mean 'ddp'?"]),
        (["--set", "rho"], ["--set must be PARAM=VALUE", "rho", "--set rho=0.5"]),
        (["--set", "rho=big"], ["--set samson.rho must be a number", "'big'"]),
        (["--set", "roh=1"], ["'roh'", "Did you mean 'rho'?"]),
        (["--set", "rho=-1"], ["`rho` must be ≥ 0", "got -1.0"]),
        (["--set", "sam.rho=1"], ["--set", "'sam'", "Did you mean 'samson'?"]),
        (["--recipe", "epoch=2"], ["recipe", "'epoch'", "Did you mean 'epochs'?"]),
        (["--recipe", "warmup"], ["--recipe must be KEY=VALUE, got 'warmup'", "--recipe batch_size=64"]),
        (["--recipe", "epochs=2,batch_size=8"], ["--recipe must be one KEY=VALUE", "Repeat --recipe"]),
        (["--recipe", "nothing=1"], ["recipe", "'nothing'"]),
        (["--recipe", "accumulate=2.5"], ["recipe.accumulate must be of type int", "2.5"]),
        (["--recipe", "schedule=cosinus"], ["`schedule`: 'cosinus' is unknown", "Did you mean 'cosine'"]),
        (["--recipe", "clip_norm=0"], ["`clip_norm` must be > 0"]),
        (["--recipe", "batch_size=65"], ["`batch_size` must be from 1 to 64", "65"]),
        (["--recipe", "augment=flop"], ["`augment`", "'flop'", "Did you mean 'flip'?"]),
        (["--recipe", "="], ["recipe", "''"]),
        (["--epochs", "0"], ["`epochs` must be at least 1, got 0"]),
        (["--seed", "-1"], ["'--seed'"]),
        (["--seed", str(2**63)], ["'--seed'"]),
        (["--device", "gpu"], ["--device", "'gpu'"]),
        (["--find-rho", "--method", "noise"], ["--find-rho must be for a method of this library with ρ", "'noise'"]),
        (
            ["--find-rho", "--method", "samson+hwa"],
            ["--find-rho must be for a method without distillation", "Take samson+"],
        ),
        (["--find-rho", "--set", "every=2"], ["--set every must be 1.0 with --find-rho", "2.0"]),
        (["--find-rho", "--set", "ramp=linear"], ["--set ramp must be constant with --find-rho", "'linear'"]),
        (["--find-rho", "--set", "budget=.5"], ["--set budget must be inf with --find-rho", "0.5"]),
        (["--find-rho", "--log"], ["--log must be left out with --find-rho"]),
        (["--device", "cuda:99"], ["--device", "'cuda:99'"]),
    ],
)
def test_train_refuses(
    samson: Callable[..., tuple[int, str, str]], tmp_path: Path, options: list[str], words: list[str]
) -> None:
    out = tmp_path / "out"
    status, shown, message = samson(*OWN, "--out", out, *options)
    refused(status, message, *words)
    assert not shown.strip()
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("method", ["clip+samson", "sgd+clip"])
def test_a_setting_of_a_method_in_another_order(samson, tmp_path: Path, method: str) -> None:
    assert samson(*OWN, "--out", tmp_path, "--method", method, "--set", "alpha=1.5")[0] == 0


def test_a_folder_that_is_a_file_is_refused_before_training(
    samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "advance", lambda *_: pytest.fail("training has started"))
    (tmp_path / "thesis.tex").write_text("precious")
    status, _, message = samson(*OWN, "--out", tmp_path / "thesis.tex")
    refused(status, message, "--out", "thesis.tex")


def test_logs_need_a_package(samson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "advance", lambda *_: pytest.fail("training has started"))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    status, _, message = samson(*OWN, "--out", tmp_path, "--log")
    refused(status, message, "--log needs a package", "pip install tensorboard")
