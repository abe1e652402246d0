"""Comparisons from a file: several problems, families of chips, methods, trainers and networks of one's own."""

import csv
import importlib
import json
import os
import re
import shutil
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from samson._environment import environment
from samson.evaluation import evaluate
from samson.experiments import (
    Comparing,
    Estimate,
    Failure,
    Job,
    Loop,
    Run,
    SetupError,
    Silent,
    chip_by_level,
    compare_suite,
    estimate,
    find_noise,
    jobs_of,
    load_data_set,
    load_model,
    load_splits,
    plan_suite,
    read_suite,
    run_all,
)
from samson.noise import PCM, PRESETS, Compose, Gaussian, calibrate, calibrate_adc, load_chip_model
from samson.records import PLAN, RunRecord, checksum, load_comparison
from samson.report import last_kind_within, render, robustness_figure, views
from tests.builders import records
from tests.programs import samson
from tests.report.test_report import in_bits

MINE = """
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from samson.noise import FixedNoise, standard_normal


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 1, 6, 6, generator=generator)
    y = x.flatten(1)[:, :3].argmax(1)
    return {"train": (x[:64], y[:64]), "test": (x[64:], y[64:])}


def net(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, classes))


def net_of_three():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def optimizer(model, lr=0.05, seed=0):
    return torch.optim.RMSprop(model.parameters(), lr=lr)


def fails(model, lr=0.05, seed=0):
    if seed == 1 and not Path("mended").exists():
        raise RuntimeError("the disk of seed 1 is full")
    return optimizer(model, lr)


def of_the_last_layer(model, lr=0.1):
    return torch.optim.SGD(model[-1].parameters(), lr=lr)


@dataclass(frozen=True)
class Shaken(FixedNoise):
    sigma: float

    def noisy(self, weight, generator):
        return weight + self.sigma * standard_normal(weight, generator)


def noise(level):
    return Shaken(level)


def train(run):
    model = run.network()
    optimizer = run.optimizer(model)
    batches = [each for epoch in range(2) for each in run.data.batches(16, seed=run.seed, epoch=epoch, device="cpu",
                                                                       augment=())]
    for number, (inputs, targets) in enumerate(batches, 1):

        def closure():
            optimizer.zero_grad()
            loss = run.task.loss(model(inputs), targets)
            loss.backward()
            return loss

        optimizer.step(closure)
        run.progress(number, len(batches))
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "kept.txt").write_text(f"seed {run.seed}")
    return model
"""

CHIP = 'source = "a test"\nnoise = {family = "gaussian", sigma = 0.15}\n'

SUITE = """
trials = 2
seeds = 1
chip_seed = 7
chips = [
  {noise = "gaussian", levels = [0.1, 0.3]},
  {noise = "pcm", levels = ["1h", "1y"]},
  {chip = ["int8", "int4"], name = "bits"},
  "my-chip.toml",
  {noise = "mine:noise", levels = [0.1]},
]

[[problems]]
data = "digits"
network = "mlp"
methods = ["plain", "samson"]
recipe = {epochs = 1, batch_size = 64}

[[problems]]
data = "mine:data"
network = ["mine:net", "mine:net_of_three"]
base = "AdamW"
methods = ["plain", {method = "samson", rho = 1.5}, {method = "mine:optimizer", lr = 0.1}]
recipe = {epochs = 2, batch_size = 16}
"""

SMALL: dict[str, Any] = {
    "data": "mine:data",
    "network": "mine:net",
    "methods": ["sgd", {"method": "mine:optimizer"}],
    "chips": [{"noise": "gaussian", "levels": [0.1]}],
    "seeds": 1,
    "trials": 2,
    "recipe": {"epochs": 1, "batch_size": 16, "precision": "float32"},
}

FAMILIES = ["gaussian", "pcm", "bits", "my-chip", "noise"]
PROBLEMS = {
    "digits-mlp": ["plain", "samson"],
    "data-net": ["plain", "samson", "optimizer"],
    "data-net_of_three": ["plain", "samson", "optimizer"],
}


@contextmanager
def working_in(folder: Path, module: str = MINE) -> Iterator[Path]:
    """Work in a folder with the module `mine`, which nothing of another test is left of."""
    (folder / "mine.py").write_text(module)
    (folder / "my-chip.toml").write_text(CHIP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        forget()
        yield folder
        forget()


def forget() -> None:
    """Forget the module `mine` and the data that came from it."""
    sys.modules.pop("mine", None)
    load_data_set.cache_clear()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with working_in(tmp_path):
        yield tmp_path


def measured(folder: Path) -> dict[str, list]:
    """What every run measured, by its name."""
    records = folder / "records"
    return {
        str(path.relative_to(records).with_suffix("")): [data["clean"], data["measured"]]
        for path in sorted(records.rglob("*.json"))
        for data in [json.loads(path.read_text())]
    }


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_runs(jobs: Sequence[Job], *_: object, **__: object) -> dict:
    return {} if not jobs else pytest.fail("a run is made")


# The whole of it


def check_what_it_shows(found: Comparing, path: Path) -> None:
    """Its table, plot and page, which write nothing into its folder."""
    before = content(found.folder)
    record = found.records[0]
    rows = {(row["problem"], row["family"], row["method"], row["kind"]): row for row in found.table()}
    for name in {r.problem.name for r in found.records}:
        assert {key[1] for key in rows if key[0] == name} == set(FAMILIES)
    last = record.families[0].kinds[-1].label
    row = rows[record.problem.name, record.families[0].name, record.method, last]
    scale = 100 if record.problem.is_fraction else 1
    assert row["mean"] == pytest.approx(sum(record.measured[0][-1]) / len(record.measured[0][-1]))
    lines = repr(found).splitlines()
    assert lines[0] == "Comparing: 8 runs, 0 failed, in python"
    assert len(lines) == 10
    assert lines[-1].startswith("… ")
    line = next(trace for trace in found.plot(record.problem.name).data if trace.name == record.method)
    assert line.y[-1] == pytest.approx(scale * row["mean"])
    with pytest.raises(ValueError, match=r"`problem` and `family` must be .* got 'x' and None. Available: "):
        found.plot("x")
    found.page(path)
    assert record.problem.name in path.read_text("utf-8")
    path.unlink()
    assert content(found.folder) == before


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `suite.toml`, and with it run from Python and by the command, in one process and in two."""
    with working_in(tmp_path_factory.mktemp("suite")) as folder:
        (folder / "suite.toml").write_text(SUITE)
        found = compare_suite(read_suite(Path("suite.toml")), "python", processes=1)
        assert not found.failures
        assert len(found.records) == 8
        check_what_it_shows(found, folder / "page.html")
        forget()
        (folder / "sklearn.py").write_text('raise ImportError("not that which is installed")')
        status, out, err = samson("compare", "suite.toml", "--out", "command", "--jobs", 2, "--quiet")
        assert status == 0, err
        (folder / "out.txt").write_text(out)
    return folder


def test_the_command_gives_the_records_of_python(compared: Path) -> None:
    found = measured(compared / "command")
    assert list(found) == sorted(f"{name}/{method}-seed0" for name in PROBLEMS for method in PROBLEMS[name])
    assert found == measured(compared / "python")
    assert len({json.dumps(values) for values in found.values()}) == len(found)


def test_every_run_is_on_every_family(compared: Path) -> None:
    for path in (compared / "command" / "records").rglob("*.json"):
        record = json.loads(path.read_text())
        kinds = {family["name"]: [kind["label"] for kind in family["kinds"]] for family in record["families"]}
        assert list(kinds) == FAMILIES
        assert list(kinds.values()) == [["0.1", "0.3"], ["1 h", "1 year"], ["int8", "int4"], ["my-chip.toml"], ["0.1"]]
        assert [[len(chips) for chips in family] for family in record["measured"]] == [[2, 2], [2, 2], [2, 2], [2], [2]]
        assert record["chip_seed"] == 7


def test_the_report_has_all_problems_and_families(compared: Path) -> None:
    page = (compared / "command" / "report.html").read_text()
    pairs = re.findall(r'data-problem="([^"]*)" data-family="([^"]*)"', page)
    assert pairs == [(problem, family) for problem in PROBLEMS for family in FAMILIES]
    assert re.findall(r"<option>([^<]*)</option>", page) == [*PROBLEMS, *FAMILIES]
    assert "3 problems, 5 families of chips" in page
    rows = list(csv.DictReader((compared / "command" / "summary.csv").read_text().splitlines()))
    found = {(row["problem"], row["family"], row["method"]) for row in rows}
    assert found == {
        (p, family, method) for p, methods in PROBLEMS.items() for family in FAMILIES for method in methods
    }
    said = (compared / "out.txt").read_text()
    assert all(name in said for name in (*PROBLEMS, *FAMILIES, "optimizer"))


def test_the_table_is_that_of_the_summary(compared: Path) -> None:
    rows = list(csv.DictReader((compared / "command" / "summary.csv").read_text().splitlines()))
    table = Comparing(load_comparison(compared / "python").records, {}, compared / "python").table()
    for written, row in zip(rows, table, strict=True):
        assert list(written) == list(row)
        known = {key: float(text) if isinstance(row[key], float) else text for key, text in written.items()}
        assert known == pytest.approx({key: "" if value is None else value for key, value in row.items()} | {
            key: str(row[key]) for key in ("trials", "seeds", "higher_is_better")
        })  # fmt: skip
    assert any(row["gain"] for row in table)


def test_its_text_has_a_table_for_each_metric_with_unit_and_direction() -> None:
    runs = records()
    lines = str(Comparing((*runs, *map(in_bits, runs)), {}, Path("both"))).splitlines()
    assert lines[0] == "8 runs, 0 failed, in both"
    heads = [place for place, line in enumerate(lines) if line.startswith("problem")]
    assert [lines[place - 1] for place in heads] == ["Test accuracy (%)", "Test bits-per-token (less is better)"]
    names = [[line.split()[0] for line in lines[place + 1 : place + 3]] for place in heads]
    assert names == [["digits-small-resnet"] * 2, ["text"] * 2]
    assert max(map(len, lines)) <= 80
    assert str(Comparing((), {}, Path("none"))) == "0 runs, 0 failed, in none"
    failed = {"a/plain-seed0": Failure("ValueError: of another shape"), "a/plain-seed1": Failure("later")}
    last = "a/plain-seed0 failed: ValueError: of another shape"
    assert str(Comparing((), failed, Path("none"))).splitlines() == ["0 runs, 2 failed, in none", last]


def test_what_was_measured_is_what_the_saved_network_gives(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chips made here by hand; their seed counts."""
    monkeypatch.syspath_prepend(compared)
    with working_in(compared):
        mine = importlib.import_module("mine")

        chips = [
            [Gaussian(0.1), Gaussian(0.3)],
            [PCM(time_s=3600.0, compensation="global"), PCM(time_s=365 * 86_400.0, compensation="global")],
            [PRESETS["int8"], PRESETS["int4"]],
            [load_chip_model(Path("my-chip.toml"))],
            [mine.Shaken(0.1)],
        ]
        digits = load_model("python/networks/digits-mlp/samson-seed0.safetensors")
        own = mine.net(3)
        own.load_state_dict(load_file("python/networks/data-net/optimizer-seed0.safetensors"))
        splits, raw = load_splits("digits", Path()), mine.data()["test"]
    for name, model, test in (
        ("digits-mlp/samson-seed0", digits, splits.examples("test")),
        ("data-net/optimizer-seed0", own.eval(), raw),
    ):
        clean, found = measured(compared / "python")[name]
        assert clean == (model(test[0]).argmax(1) == test[1]).double().mean().item()
        again = [[list(evaluate(model, test, one, trials=2, seed=7).trials) for one in family] for family in chips]
        assert found == again
        assert list(evaluate(model, test, Gaussian(0.3), trials=2, seed=8).trials) != found[0][1]


APART = {"no method": ["plain"], "one method": ["samson"]}
"""The methods of a second problem, by what it has in common with the first."""


@pytest.mark.parametrize("common", APART)
def test_problems_need_not_have_the_same_methods(place: Path, common: str) -> None:
    """There is nothing to rank then, and all the rest to show."""
    first = {"name": "first", "methods": ["sgd", "samson"]}
    second = {"name": "second", "base": "AdamW", "methods": APART[common]}
    given = {key: SMALL[key] for key in ("data", "network", "recipe", "chips", "seeds", "trials")}
    assert not compare_suite({**given, "problems": [first, second]}, "out").failures
    status, out, err = samson("report", "out")
    assert status == 0, err
    page = Path("out", "report.html").read_text()
    assert re.findall(r'data-problem="([^"]*)"', page) == ["first", "second"]
    assert "Mean rank" not in out + page


def finer(level: float) -> Gaussian:
    """Noise that falls with its level, as with bits or a voltage."""
    return Gaussian(2 / level)


def test_levels_of_ones_own_noise_stay_in_order_the_mildest_first(place: Path) -> None:
    families = [{"noise": finer, "levels": [9000, 4, 1]}, {"noise": "gaussian", "levels": [0.3, 0.1]}]
    suite = {**SMALL, "data": told_by_one, "network": linear, "methods": ["sgd"], "chips": families, "trials": 5}
    found = compare_suite({**suite, "recipe": {"batch_size": 16, "epochs": 10}}, "out")
    own, gaussian = views(found.records)
    assert own.kinds == ("clean", "9000", "4", "1")
    assert gaussian.kinds == ("clean", "0.1", "0.3"), "where noise rises with the level, order says nothing"
    [record] = found.records
    assert set(record.measured[0][0]) == {record.clean}
    assert max(record.measured[0][-1]) < record.clean - 0.05
    assert last_kind_within(own, "sgd", record.clean) == "9000"
    ticks = [robustness_figure(view)["layout"]["xaxis"]["tickvals"] for view in (own, gaussian)]
    assert ticks == [[0, 1, 2, 3], [0, 0.1, 0.3]], "falling levels in line, away from where there is no noise"


HELD: list[int] = [0]
"""Which number of an example tells its class."""


def told_by_one() -> dict[str, tuple[Tensor, Tensor]]:
    x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, HELD[0]] > 0).long()
    return {"train": (x[:128], y[:128]), "test": (x[128:], y[128:])}


def linear(outputs: int) -> nn.Module:
    return nn.Linear(6, outputs)


def test_data_may_change_between_two_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, where a function is written again."""
    suite = {**SMALL, "data": told_by_one, "network": linear, "methods": ["sgd"], "recipe": {"batch_size": 16}}
    first = compare_suite(suite, tmp_path / "first").records[0]
    monkeypatch.setattr(sys.modules[__name__], "HELD", [1])
    second = compare_suite(suite, tmp_path / "second").records[0]
    assert min(first.clean, second.clean) > 0.8
    assert first.clean != second.clean or first.measured != second.measured
    model = linear(2)
    model.load_state_dict(load_file(tmp_path / "second" / "networks" / "told_by_one-linear" / "sgd-seed0.safetensors"))
    assert model.weight[1].argmax() == 1


# Going on


def test_more_methods_and_seeds_run_what_is_missing(place: Path) -> None:
    compare_suite(SMALL, "out")
    before = content(place / "out" / "records")
    begun: list[list[str]] = []
    more = {**SMALL, "seeds": 2, "methods": [*SMALL["methods"], "samson"]}
    found = compare_suite(more, "out", begin=lambda jobs, left: begun.append([job.name for job in left]))
    missing = ["data-net/samson-seed0", "data-net/sgd-seed1", "data-net/optimizer-seed1", "data-net/samson-seed1"]
    assert begun == [missing]
    assert len(found.records) == 6
    own = next(record for record in found.records if record.method == "optimizer")
    assert own.settings == {"method": "mine:optimizer", "lr": 0.05}
    after = content(place / "out" / "records")
    assert before == {name: after[name] for name in before}
    assert compare_suite(more, "out", runner=no_runs).records == found.records


def test_nothing_is_left_of_what_was_killed(place: Path) -> None:
    """A run when its record was written, before what it kept was deleted; and files half written, long ago and now."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    own = {**SMALL, "train": "mine:train"}  # which keeps something
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            compare_suite(own, "out")
    old, new = (Path("out", "records", "data-net", f".sgd-seed0.json.0123abc{k}.partial") for k in range(2))
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    other = Path("out", "unfinished", "data-net", "sgd-seed7", "kept.txt")  # of another command
    other.parent.mkdir()
    other.touch()
    compare_suite(own, "out")
    assert [path for path in Path("out", "unfinished").rglob("*") if path.is_file()] == [other]
    assert (old.exists(), new.exists()) == (False, True)


def test_the_methods_of_a_comparison_may_be_run_apart(finished: Path, tmp_path: Path) -> None:
    """On machines without Ray: what each of them has is copied into one folder, and the whole is asked for there."""
    with working_in(tmp_path):
        for number, method in enumerate(SMALL["methods"]):
            compare_suite(SMALL | {"methods": [method]}, f"part-{number}")
            for kind in ("records", "networks"):
                shutil.copytree(f"part-{number}/{kind}", f"out/{kind}", dirs_exist_ok=True)
        assert samson("report", "part-0")[0] == 0
        compare_suite(SMALL, "out", runner=no_runs)
        shutil.copytree(finished / "out", "whole")
        for folder in ("out", "whole"):
            assert samson("report", folder)[0] == 0
        parts, out, whole = (Path(folder, "summary.csv").read_bytes() for folder in ("part-0", "out", "whole"))
        assert out == whole != parts


NOISES = """
from collections.abc import Callable
from samson.noise import ChipModel, Gaussian, Periphery

class nameless(FixedNoise):
    def __init__(self, level): self.level = level
    def noisy(self, weight, generator): return weight + self.level

def by_half(weight): return weight / 2

@dataclass(frozen=True)
class shaped(FixedNoise):
    level: float
    shape: Callable = by_half
    def noisy(self, weight, generator): return weight + self.level * self.shape(weight)

@dataclass(frozen=True)
class Around(Periphery):
    shape: Callable = by_half

def chip(): return ChipModel(Gaussian(0.1), "a test", Around(dac_steps=30))
"""
"""Noises and a chip whose `repr` says where something lies in memory."""


@pytest.mark.parametrize(("kind", "name"), [("noise", "nameless"), ("noise", "shaped"), ("chip", "chip")])
def test_where_chips_lie_in_memory_does_not_matter(tmp_path: Path, kind: str, name: str) -> None:
    suite = {**SMALL, "methods": ["sgd"], "chips": [{kind: f"mine:{name}"}]}
    with working_in(tmp_path, MINE + NOISES):
        first = plan_suite(suite)
        compare_suite(first, "out")
        forget()
        second = plan_suite(suite)
        before, after = (plan.families[0].kinds[0].noise for plan in (first, second))
        assert repr(before) != repr(after)
        assert len(compare_suite(second, "out", runner=no_runs).records) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which SMALL is finished."""
    with working_in(tmp_path_factory.mktemp("finished")) as folder:
        compare_suite(SMALL, "out")
    return folder


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "recipe": ({"recipe": SMALL["recipe"] | {"epochs": 2}}, "recipe"),
    "levels": ({"chips": [{"noise": "gaussian", "levels": [0.2]}]}, "chips"),
    "families": ({"chips": ["int4"]}, "chips"),
    "unit": ({"chips": [{"name": "gaussian", "noise": "pcm", "levels": ["1h"]}]}, "chips"),
    "chip seed": ({"chip_seed": 1}, "chip_seed"),
    "base": ({"base": "Adam", "methods": ["mine:optimizer"]}, "base"),
    "task": ({"task": "mine:task"}, "task"),
    "trainer": ({"train": "mine:train"}, "trainer"),
    "network": ({"network": "mine:net_of_three", "name": "data-net"}, "network"),
    "setting": ({"set": {"optimizer.lr": 0.2}}, "optimizer.lr"),
    "method": ({"methods": ["sgd", {"method": "mine:fails", "name": "optimizer"}]}, "optimizer.method"),
    "fewer methods": ({"methods": ["sgd"]}, "methods"),
    "candidates": ({"methods": ["sgd", {"method": "mine:optimizer", "lr": [0.1, 0.2]}]}, "optimizer.lr"),
    "examples": ({"examples": 8}, "examples"),
}
"""Changes, and what they are called."""


@pytest.mark.parametrize("change", OTHER)
def test_another_comparison_is_refused(finished: Path, change: str) -> None:
    changes, word = OTHER[change]
    with working_in(finished, f"{MINE}\nfrom samson.experiments import Classification as task\n"):
        before = content(finished / "out")
        with pytest.raises(SetupError) as error:
            compare_suite({**SMALL, **changes}, "out", runner=no_runs)
        assert content(finished / "out") == before
        compare_suite(SMALL, "out", runner=no_runs)
    said = str(error.value)
    assert "`out`: 'out' belongs to another configuration; different:" in said
    assert word in re.split(r"[,.:] |\.\n| \(", said.partition("different: ")[2])
    assert "Choose another folder with `out`." in said
    command = "samson evaluate mine:net --weights out/networks/….safetensors --data mine:data."
    assert (command in said) == (word in ("chips", "trials", "chip_seed", "examples"))
    assert ('name = "optimizer-2"' in said) == word.startswith("optimizer.")
    missing = {"levels": "gaussian (0.1)", "families": "gaussian (0.1)", "fewer methods": "optimizer"}
    left_out = re.findall(r"A folder takes more, not fewer: name too what it has: (.*)\.", said)
    assert left_out == [missing[key] for key in [change] if key in missing]
    assert "delete" not in said
    assert len(said.splitlines()) <= 4


def test_chips_of_another_kind_of_device_are_other_chips(finished: Path, tmp_path: Path) -> None:
    with working_in(tmp_path):
        shutil.copytree(finished / "out", "out")
        for device in ("cuda", "cuda:1"):
            changed(Path("out", PLAN), lambda data, device=device: data | {"device": device})
            with pytest.raises(SetupError, match="different: device"):
                compare_suite(SMALL, "out", runner=no_runs)
        changed(Path("out", PLAN), lambda data: data | {"device": "cpu:0"})
        compare_suite(SMALL, "out", runner=no_runs)


@pytest.mark.parametrize("link", ["unfinished", "unfinished/data-net"])
def test_nothing_is_deleted_through_a_link(place: Path, link: str) -> None:
    """As it may lie in a folder that comes from others."""
    elsewhere = place / "elsewhere"
    kept = elsewhere / "data-net" / "sgd-seed0" / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.touch()
    Path("out", link).parent.mkdir(parents=True)
    Path("out", link).symlink_to(elsewhere / Path(link).relative_to("unfinished"))
    with pytest.raises(SetupError, match=f"no link in `unfinished`, .*, got 'out/{link}'.\nRemove the link."):
        compare_suite(SMALL, "out")
    assert kept.exists()
    Path("out", link).unlink()
    compare_suite(SMALL, "out")
    assert kept.exists()
    assert not Path("out", "unfinished").exists()


MORE = {
    "kinds": {"chips": ["int4", {"noise": "gaussian", "levels": [0.1, 0.3]}, {"noise": "pcm", "levels": ["1d"]}]},
    "trials": {"trials": 4},
    "all of it": {"chips": [{"noise": "gaussian", "levels": [0.05, 0.1]}, "int4"], "trials": 4, "seeds": 2},
}
"""What may be added to a finished comparison."""


def no_training(*_: object, **__: object) -> None:
    pytest.fail("a network is trained that is there")


@pytest.mark.parametrize("added", MORE)
def test_chips_that_are_added_take_the_networks_that_are_there(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: str
) -> None:
    """None is trained again; all is as if asked for at once. While some lack chips, these are not shown."""
    suite = SMALL | MORE[added]
    with working_in(tmp_path):
        shutil.copytree(finished / "out", "out")
        at_once = compare_suite(suite, "at-once")
        old = {path: path.read_text() for path in Path("out/records").rglob("*.json")}
        last: dict[str, tuple[str, int, int]] = {}
        with monkeypatch.context() as patch:
            if added != "all of it":  # which has a seed more
                patch.setattr("samson.experiments._runs.trained", no_training)
            watcher = Silent()
            watcher.progress = lambda name, *state: last.update({name: state})  # type: ignore[method-assign]
            found = compare_suite(suite, "out", watcher=watcher)
        assert not found.failures
        assert measured(Path("out")) == measured(Path("at-once"))
        records = [
            [replace(one, training=replace(one.training, seconds=0.0), finished="") for one in of.records]
            for of in (found, at_once)
        ]
        assert records[0] == records[1]
        chips = {"kinds": 6, "trials": 4, "all of it": 12}[added]
        assert {*last.values()} == {("chips", chips, chips)}
        compare_suite(suite, "out", runner=no_runs)
        with pytest.raises(SetupError, match=f"different: {'trials' if added == 'trials' else 'chips'}"):
            compare_suite(SMALL, "out", runner=no_runs)
        path, text = next(iter(old.items()))
        path.write_text(text)  # as if it had been interrupted before this one
        views_now = views(load_comparison("out").records)
        assert [(view.family.name, list(view.kinds)) for view in views_now] == [("gaussian", ["clean", "0.1"])]
        assert "data-net: some networks are not on all chips yet" in render(load_comparison("out"))
        before = views(load_comparison(finished / "out").records)
        if "seeds" not in suite or suite["seeds"] == 1:
            assert [view.rows for view in views_now] == [view.rows for view in before]


def test_chips_that_are_added_elsewhere_do_not_change_where_the_network_was_made(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more kinds, those that are there stay; with more trials, every chip is measured again."""
    first, second, third = (replace(environment(), samson=f"9.{number}", threads=1) for number in range(3))
    kinds = MORE["kinds"]["chips"]
    steps = [
        (first, {}, ()),
        (second, {"chips": kinds}, (second,)),
        (first, {"chips": [*kinds, "int8"]}, (second,)),
        (third, {"chips": [*kinds, "int8", "lognormal"]}, (second, third)),
        (third, {"chips": [*kinds, "int8", "lognormal"], "trials": 3}, (third,)),
    ]
    with working_in(tmp_path):
        for here, more, added in steps:
            monkeypatch.setattr("samson.experiments._runs.environment", lambda device, here=here: here)
            assert not compare_suite(SMALL | {"methods": ["sgd"]} | more, "out").failures
            [record] = load_comparison("out").records
            assert (record.environment, record.chips_added_on) == (first, added)


@pytest.mark.parametrize("change", ["model.insert(3, nn.Hardtanh(0, 0.5))", "model.__setitem__(2, nn.Tanh())"])
def test_a_network_that_its_weights_do_not_make_is_trained_again(place: Path, change: str) -> None:
    """One's own trainer may change more than weights: what was measured of its network is of that network."""
    Path("mine.py").write_text(f"{MINE}\n\ndef other(run):\n    model = train(run)\n    {change}\n    return model\n")
    forget()
    suite = SMALL | {"train": "mine:other"}
    compare_suite(suite, "out")
    added = compare_suite(suite | MORE["kinds"], "out")
    assert not added.failures
    assert measured(Path("out")) == measured(compare_suite(suite | MORE["kinds"], "at-once").folder)


def test_a_network_whose_code_has_changed_is_trained_again(place: Path) -> None:
    """What was measured of it is of the old one, whose weights fit the new one too."""
    suite = SMALL | {"methods": ["sgd"], "recipe": SMALL["recipe"] | {"epochs": 5}}
    before = compare_suite(suite, "out").records[0].clean
    Path("mine.py").write_text(MINE.replace("nn.ReLU()", "nn.Hardtanh(-9, 0)"))
    forget()
    assert compare_suite(suite | MORE["kinds"], "out").records[0].clean != before
    assert measured(Path("out")) == measured(compare_suite(suite | MORE["kinds"], "at-once").folder)


def test_a_network_that_is_gone_is_trained_again(finished: Path, tmp_path: Path) -> None:
    with working_in(tmp_path):
        shutil.copytree(finished / "out", "out")
        Path("out/networks/data-net/sgd-seed0.safetensors").unlink()
        compare_suite(SMALL | MORE["trials"], "out")
        assert measured(Path("out")) == measured(Path(compare_suite(SMALL | MORE["trials"], "again").folder))


def test_the_chips_by_which_settings_were_chosen_stay(place: Path) -> None:
    chosen = {"methods": [{"method": "sgd", "lr": [0.05, 0.1]}], "search": {"chosen_by": "gaussian"}}
    compare_suite(SMALL | chosen, "out")
    wider = {"chips": [{"noise": "gaussian", "levels": [0.1, 0.3]}]}
    with pytest.raises(SetupError, match="different: gaussian, by which settings are chosen"):
        compare_suite(SMALL | chosen | wider, "out", runner=no_runs)
    found = compare_suite(SMALL | chosen | {"chips": [*SMALL["chips"], "int4"]}, "out")
    assert [family.name for family in found.records[0].families] == ["gaussian", "int4"]


def test_a_file_of_data_that_was_written_again_is_read_again(place: Path) -> None:
    for count in (20, 30):
        x, y = torch.ones(count, 6).numpy(), (torch.arange(count) % 2).numpy()
        np.savez("own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        plan = plan_suite({**SMALL, "data": "own.npz", "network": "mlp", "methods": ["sgd"]})
        assert plan.problems[0].examples == count


def test_a_run_that_raises_is_told_and_tried_again(place: Path) -> None:
    suite = place / "suite.toml"
    suite.write_text(
        'data = "mine:data"\nnetwork = "mine:net"\nmethods = ["sgd", "mine:fails"]\nseeds = 2\ntrials = 2\n'
        'chips = [{noise = "gaussian", levels = [0.1]}]\nrecipe = {epochs = 1, batch_size = 16}\n'
    )
    command = ["compare", suite, "--out", "out", "--jobs", 1, "--quiet"]
    done = ["data-net/fails-seed0", "data-net/sgd-seed0", "data-net/sgd-seed1"]
    for attempt in range(2):
        status, _, err = samson(*command)
        words = " ".join(err.split())
        assert (status, list(measured(place / "out"))) == (1, done)
        assert "FAILED data-net/fails-seed1: RuntimeError: the disk of seed 1 is full" in words
        assert "1 of 4 runs failed (details: out/failed.txt)" in words
        assert ("4 runs are finished" in words) == (attempt == 1)
        assert "Traceback" not in err
        details = Path("out", "failed.txt").read_text()
        assert "Traceback" in details
        assert "mine.py" in details
        assert Path("out", "report.html").exists()
    kept = measured(place / "out")
    Path("mended").touch()
    status, _, err = samson(*command)
    assert (status, [line.split()[0] for line in err.splitlines()]) == (0, ["Going", "4/4"])
    assert not Path("out", "failed.txt").exists()
    assert {name: measured(place / "out")[name] for name in done} == kept
    assert len(measured(place / "out")) == 4


# Trainers of one's own


def test_a_loop_of_ones_own_gives_the_numbers_of_ours(place: Path) -> None:
    plain = {**SMALL, "methods": ["sgd", "samson", "samson+clip", "noise"], "seeds": 2}
    plain["recipe"] = {**SMALL["recipe"], "epochs": 2, "schedule": "constant", "channels_last": False}
    own = compare_suite({**plain, "train": "mine:train"}, "own")
    compare_suite(plain, "ours")
    assert not own.failures
    assert measured(place / "own") == measured(place / "ours")
    assert [record.problem.trainer for record in own.records] == ["mine:train"] * 8
    assert {record.training.gradients for record in own.records} == {None}
    assert all(record.training.validation is not None for record in own.records)
    assert not (place / "own" / "unfinished").exists(), "what the trainer kept goes with the run"
    compare_suite({**plain, "recipe": {**plain["recipe"], "epochs": 3}}, "longer")
    assert measured(place / "longer") != measured(place / "ours"), "the loop must have a say"


def test_progress_of_a_loop_of_ones_own_is_told_and_may_stop_it(place: Path) -> None:
    class Stops:
        seen: list[tuple[str, str, int, int]] = []  # noqa: RUF012

        def progress(self, *state: Any) -> None:
            self.seen.append(state)
            if state[2] == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_suite({**SMALL, "train": "mine:train"}, "out", watcher=Stops())
    assert Stops.seen == [("data-net/sgd-seed0", "training", number, 6) for number in range(1, 6)]
    assert not list((place / "out").rglob("*.safetensors"))


def own_data() -> dict[str, tuple[Tensor, Tensor]]:
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
    return {"train": (x[:64], x[:64, :3].argmax(1)), "test": (x[64:], x[64:, :3].argmax(1))}


class Net(nn.Module):
    """As Transformers wants it: it gives its loss where there are labels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, classes))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.layers(x)
        return logits if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def sharp(model: nn.Module, lr: float = 0.05) -> Any:
    from samson import SAMSON, SharpnessAware, param_groups

    return SharpnessAware(torch.optim.SGD(param_groups(model), lr=lr), SAMSON(rho=0.5))


def by_transformers(run: Run) -> nn.Module:
    """Whatever the method's optimizer is: a Trainer's."""
    from transformers import Trainer, TrainingArguments

    from samson import SharpnessAware
    from samson.integrations.transformers import SharpnessAwareTrainer

    model = run.network()
    optimizer = run.optimizer(model)
    given = {"output_dir": str(run.folder), "num_train_epochs": 2, "per_device_train_batch_size": 16, "seed": run.seed}
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    rows = [{"x": x, "labels": y} for x, y in zip(*run.data.examples("train"), strict=True)]
    kind = SharpnessAwareTrainer if isinstance(optimizer, SharpnessAware) else Trainer
    trainer = kind(model, TrainingArguments(**given, **quiet), train_dataset=rows, optimizers=(optimizer, None))
    trainer.train()
    run.progress(trainer.state.global_step, trainer.state.max_steps)
    return model


def test_transformers_trains_what_is_compared(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from accelerate.state import AcceleratorState, GradientState

    (tmp_path / "mine.py").write_text("")
    suite = {**SMALL, "data": own_data, "network": Net, "train": by_transformers}
    suite["methods"] = [
        "sgd",
        {"method": "samson", "rho": 1.5},
        {"method": "clip", "alpha": 1.2},
        {"method": f"{__name__}:sharp", "lr": 0.1},
    ]
    try:
        found = compare_suite(suite, tmp_path / "out")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    assert not found.failures, found.failures
    records = {record.method: record for record in found.records}
    assert list(records) == ["sgd", "samson", "clip", "sharp"]
    assert {record.problem.trainer for record in found.records} == {f"{__name__}:by_transformers"}
    assert len({record.measured for record in found.records}) == 4, "each method has a say"
    status, _, err = samson("report", tmp_path / "out")
    assert status == 0, err
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{__name__}:by_transformers" in page
    for method, record in records.items():
        model = Net(3)
        model.load_state_dict(load_file(tmp_path / "out" / "networks" / "own_data-Net" / f"{method}-seed0.safetensors"))
        again = evaluate(model.eval(), own_data()["test"], Gaussian(0.1), trials=2)
        assert again.trials == record.measured[0][0]


def test_functions_stand_for_their_names(tmp_path: Path) -> None:
    named = {"data": f"{__name__}:own_data", "network": f"{__name__}:Net", "methods": [f"{__name__}:sharp"]}
    functions = {"data": own_data, "network": Net, "methods": [sharp]}
    plans = [plan_suite({**SMALL, **given}) for given in (named, functions)]
    tables = {"methods": [{"method": sharp}], "chips": [{"noise": Gaussian, "levels": [0.1]}]}
    plans.append(plan_suite({**SMALL, **functions, **tables}))
    assert [plan.problems[0].record for plan in plans] == [plans[0].problems[0].record] * 3
    assert [plan.problems[0].methods for plan in plans] == [plans[0].problems[0].methods] * 3
    assert plans[0].problems[0].record.name == "own_data-Net"
    public = plan_suite({**SMALL, **functions, "chips": [{"chip": PCM}]})
    assert public.families[0].kinds[0].label == "samson.noise:PCM", "a record does not say where code is kept"
    found = compare_suite({**SMALL, **functions}, tmp_path / "out")
    assert [record.problem.data for record in found.records] == [f"{__name__}:own_data"]


class Elsewhere(Dataset[Any]):
    """Examples that are not in memory."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= len(self):
            raise IndexError
        return tuple(part[number] for part in own_data()["test"])


def data_elsewhere() -> dict[str, Any]:
    return {**own_data(), "test": Elsewhere()}


def validation_elsewhere() -> dict[str, Any]:
    return {**own_data(), "validation": Elsewhere()}


class Missing(Elsewhere):
    """Its files are not where worker processes look for them."""

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if torch.utils.data.get_worker_info() is not None:
            raise FileNotFoundError("no such picture")
        return super().__getitem__(number)


def data_missing() -> dict[str, Any]:
    return {**own_data(), "train": Missing(), "outputs": 3}


def test_an_error_in_a_worker_process_is_told_by_its_cause(tmp_path: Path) -> None:
    suite = {**SMALL, "data": data_missing, "network": Net, "methods": ["sgd"]}
    [failure] = compare_suite(suite, tmp_path / "out").failures.values()
    assert failure.reason == "FileNotFoundError: no such picture"


def test_some_examples_can_be_drawn_of_those_in_memory_alone() -> None:
    """The search by chips draws them of the validation split, that without noise does not."""
    searched = [{"method": "sgd", "lr": [0.1, 0.2]}]
    suite = {**SMALL, "data": validation_elsewhere, "network": Net, "methods": searched, "examples": 8}
    assert plan_suite(suite).search.chosen_by == "blind"
    wrong = [{**suite, "search": {"chosen_by": "gaussian"}}, {**suite, "data": data_elsewhere}]
    for table in wrong:
        with pytest.raises(SetupError, match="`examples` must be left out for data that are not in memory, got 8"):
            plan_suite(table)
        del table["examples"]
        plan_suite(table)


class Unsmoothed:
    metric = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


class Hard(Unsmoothed):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise ValueError("targets are hard")
        return super().loss(outputs, targets)


class Unreduced(Unsmoothed):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Number(Unsmoothed):
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Any:
        return super().loss(outputs, targets).item()


def lazy(classes: int) -> nn.Module:
    return nn.LazyLinear(classes)


OURS_ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "no smoothing": (
        {"task": Unsmoothed},
        "^the loss of the task '.*:Unsmoothed' .*takes 3 positional arguments but 4 were given",
    ),
    "no smoothing here": ({"task": Hard, "recipe": {"batch_size": 16, "label_smoothing": 0.1}}, "targets are hard"),
    "a loss with axes": (
        {"task": Unreduced},
        r"the loss of the task '.*:Unreduced' must be a tensor of shape .*\(2,\)",
    ),
    "a loss that is no tensor": ({"task": Number}, r"a tensor of shape \(\), got 'float'.\nReturn its mean"),
    "lazy layers": ({"network": lazy}, "`network` must be of layers that know their sizes, got .*:lazy'"),
}
"""What our own loop cannot train, over a good suite; and the words of its error."""


@pytest.mark.parametrize("case", OURS_ALONE)
def test_what_our_loop_cannot_train_is_refused_before(case: str) -> None:
    """A trainer of one's own may."""
    changes, words = OURS_ALONE[case]
    suite = {**SMALL, "data": own_data, "network": Net, "methods": ["sgd"], **changes}
    with pytest.raises(SetupError, match=words):
        plan_suite(suite)
    plan_suite({**suite, "train": by_transformers})


@pytest.mark.parametrize("key", ["data", "network", "methods", "train", "task", "chips"])
def test_a_function_without_a_name_is_refused(place: Path, key: str) -> None:
    with pytest.raises(SetupError) as error:
        plan_suite({**SMALL, key: lambda *_: None})
    said = str(error.value)
    assert len(said.splitlines()) <= 4
    assert key.rstrip("s") in said
    assert "<lambda>" in said


# Before anything is run


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    text = SUITE.replace('{method = "mine:optimizer", lr = 0.1}', '{method = "mine:optimizer", lr = [0.1, 0.2, 0.3]}')
    text = text.replace("seeds = 1", "seeds = 4") + '\n[[problems]]\nname = "own"\ndata = "mine:data"\n'
    text += 'network = "mine:net"\ntrain = "mine:train"\nmethods = ["sgd"]\nrecipe = {batch_size = 16}\n'
    Path("suite.toml").write_text(text + "\n[search]\nseeds = 2\n")
    before = content(place)
    status, out, err = samson("compare", "suite.toml", "--dry-run", "--out", "out", "--jobs", 2)
    assert (status, err) == (0, "")
    assert {name: held for name, held in content(place).items() if "__pycache__" not in name} == before
    assert not Path("out").exists()
    rows = [line.split() for line in out.splitlines()]
    for problem, methods in {**PROBLEMS, "own": ["sgd"]}.items():
        for method in methods:
            [row] = [row for row in rows if row[:2] == [problem, method]]
            assert row[2] == "4"
            assert (row[3] == "?") == (problem == "own")
    said = " ".join(out.split())
    assert "times are for each run" in said
    assert "36 runs, each on 2 chips of every kind: gaussian (2), pcm (2), bits (2), my-chip (1), noise (1)" in said
    assert "a search, by blind: 6 trainings for each of 2 pairs of a problem and a method" in said
    assert re.search(r"At least [\d.]+ (s|min|h) with 2 side by side, without the trainings marked \?, from", said)
    assert samson("compare", "suite.toml", "--dry-run")[0] == 0, "it needs no --out"


def test_a_dry_run_looks_at_the_folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an estimate of 100 seconds a run; a folder of another comparison is refused as by the command itself."""
    one = {"training": 60.0, "chips": 40.0}
    monkeypatch.setattr(
        "samson.experiments.estimate",
        lambda plan: [Estimate("data-net", method, **one) for method in ("sgd", "optimizer")],
    )
    text = 'data = "mine:data"\nnetwork = "mine:net"\nmethods = ["sgd", "mine:optimizer"]\ntrials = 2\n'
    text += 'chips = [{noise = "gaussian", levels = [0.1]}]\n'
    text += 'recipe = {epochs = 1, batch_size = 16, precision = "float32"}\n'
    with working_in(finished):
        Path("suite.toml").write_text(text + "seeds = 3\n")
        before = content(finished / "out")
        command = ["compare", "suite.toml", "--dry-run", "--jobs", 1, "--out"]
        status, out, err = samson(*command, "out")
        assert status == 0, err
        said = " ".join(out.split())
        assert "2 of 6 runs are finished; those left: About 7 min with 1 side by side" in said  # 400 of 600 seconds
        assert "About 10 min with 1 side by side" in " ".join(samson(*command, "new")[1].split())
        Path("suite.toml").write_text(text.replace("trials = 2", "trials = 3"))
        said = " ".join(samson(*command, "out")[1].split())
        assert "About 8 min with 1 side by side" in said, "four trainings, and six networks on chips"
        Path("suite.toml").write_text(text + "chip_seed = 3\n")
        status, _, err = samson(*command, "out")
        assert (status, "different: chip_seed" in err) == (2, True)
        assert content(finished / "out") == before
        assert not Path("new").exists()


@pytest.mark.parametrize(
    ("line", "option", "expected"),
    [("", [], "variable"), ('data_root = "file"', [], "file"), ('data_root = "file"', ["--data-root", "o"], "o")],
)
def test_a_variable_says_where_data_lie_if_nothing_else_does(
    place: Path, monkeypatch: pytest.MonkeyPatch, line: str, option: list[str], expected: str
) -> None:
    seen: list[str] = []

    def plan(table: dict[str, Any], command: str) -> None:
        seen.extend((table["data_root"], *re.findall("--data-root (.*) --out", command)))
        raise SetupError("enough")

    monkeypatch.setattr("samson.experiments.plan_suite", plan)
    monkeypatch.setenv("SAMSON_DATA", "variable")
    Path("suite.toml").write_text(line)
    assert samson("compare", "suite.toml", *option, "--out", "out")[0] == 2
    assert seen == [expected] * (1 if expected == "file" else 2)


@pytest.mark.parametrize(("epochs", "timed", "lr"), [(1, 1, 0.1), (2, 1, 0.1), (9, 3, 0.1), (9, 3, 1e30)])
def test_an_estimate_times_steps_also_with_one_batch_an_epoch(
    place: Path, epochs: int, timed: int, lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that each step moves by two seconds, the first by five, which counts if it is alone.

    That a training diverges is no matter of its time.
    """
    now = [0.0]
    advance = Loop.advance

    def slow(self: Loop, *batch: Tensor) -> None:
        now[0] += 2 if self.step else 5
        advance(self, *batch)

    monkeypatch.setattr("samson.experiments._estimate.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Loop, "advance", slow)
    sgd, recipe = {"method": "sgd", "lr": lr}, {"epochs": epochs, "batch_size": 58}
    [found] = estimate(plan_suite({**SMALL, "methods": [sgd], "recipe": recipe}))
    assert found.training == (5 if epochs == 1 else 2 * epochs)
    assert now[0] == 5 + 2 * timed * (epochs > 1)


def test_an_estimate_counts_the_pass_without_noise_each_chip_and_the_teacher(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a step moves by two seconds, and an example by half a one."""
    now = [0.0]

    def look(model: nn.Module, data: tuple[Tensor, Tensor], metric: object) -> float:
        now[0] += len(data[1]) / 2
        return 0.0

    def step(self: Loop, *batch: Tensor) -> None:
        now[0] += 2

    monkeypatch.setattr("samson.experiments._estimate.time.monotonic", lambda: now[0])
    monkeypatch.setattr("samson.experiments._estimate.clean_value", look)
    monkeypatch.setattr(Loop, "advance", step)
    recipe = {"epochs": 2, "batch_size": 58}
    suite = {**SMALL, "methods": ["sgd", "distil"], "recipe": recipe, "chips": [*SMALL["chips"], "int4"]}
    for more, examples in (({}, 32), ({"examples": 8}, 8)):
        plain, distil = estimate(plan_suite({**suite, **more}))
        assert plain.chips == distil.chips == examples / 2 * (1 + 2 * 2)
        assert (plain.training, distil.training) == (2 * 2, 2 * 2 * 2)


BAD = """
import torch
from torch import nn

from samson.noise import FixedNoise, Gaussian as blind

table, number = {}, 3

class Odd(FixedNoise):
    def __init__(self, level): self.level = level
    def noisy(self, weight, generator): return weight + "much"

def pair(count=40, shape=(1, 6, 6), classes=3, targets=None):
    return torch.zeros(count, *shape), torch.arange(targets or count) % classes

def no_test(): return {"train": pair()}
def uneven(): return {"train": pair(targets=39), "test": pair()}
def outside(): return {"train": pair(), "test": pair(classes=4)}
def shapes(): return {"train": pair(), "test": pair(shape=(1, 5, 5))}
def nothing(): return None
def fails(): raise OSError("no such disk")
def data(): return {"train": pair(), "test": pair()}
def net(classes): return nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
def wide(classes): return nn.Sequential(nn.Flatten(), nn.Linear(35, classes))
def text(classes): return "a network"
def no_optimizer(model): return None
def of_nothing(): return None
def raises(model, lr=0.1): raise RuntimeError("no such lr")
def chip(): return 3
class Task: metric = "accuracy"
class recurrent(nn.GRU):
    def __init__(self): super().__init__(6, 3, batch_first=True)
    def forward(self, x): return super().forward(x.flatten(1, 2))[0][:, -1]
def norm(classes): return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36))
"""

DATA, NETWORK, METHODS = "data = 'mine:data'", "network = 'mine:net'", "methods = ['sgd']"
GOOD = {"data": DATA, "network": NETWORK, "methods": METHODS, "chips": "chips = [{noise = 'gaussian', levels = [0.1]}]"}
GOOD |= {"seeds": "seeds = 1", "trials": "trials = 2", "recipe": "recipe = {epochs = 1, batch_size = 16}"}
SEARCHED = "methods = [{method = 'sgd', lr = [0.1, 0.2]}]"


def chips(text: str) -> dict[str, str]:
    return {"chips": f"chips = [{text}]"}


def methods(text: str) -> dict[str, str]:
    return {"methods": f"methods = [{text}]"}


def mine(key: str, name: str) -> dict[str, str]:
    return {key: f"{key} = 'mine:{name}'"}


def searched(text: str) -> dict[str, str]:
    return {"methods": SEARCHED, "x": f"search = {{{text}}}"}


ROWS: dict[str, tuple[dict[str, str] | str, str]] = {
    # keys that are not known
    "a key": ({"seeds": "seed = 1"}, "keys: 'seed'|Did you mean 'seeds'"),
    "a key of a problem": ({"x": "[[problems]]\ndat = 'digits'"}, "problems: 'dat'|Did you mean 'data'"),
    "a key of the suite in a problem": ({"x": "[[problems]]\ntrials = 3"}, "problems: 'trials'|Available: name, data"),
    "a metric": ({"x": "metric = 'mine:f1'"}, "keys: 'metric' is a part of the task|Write task = 'mine:Task'"),
    "a metric of a problem": ({"x": "[[problems]]\nmetric = 'mine:f1'"}, "problems: 'metric'|task = 'mine:Task'"),
    "a key of the recipe": ({"recipe": "recipe = {epoch = 1}"}, "recipe: 'epoch'|Did you mean 'epochs'"),
    "a key of chips": (chips("{noise = 'gaussian', level = [0.1]}"), "chips: 'level'|Did you mean 'levels'"),
    "a key of a method": (methods("{method = 'sgd', rl = 1}"), "sgd: 'rl'|Did you mean 'lr'"),
    "a selection that meets nothing": ({"x": "select = 'heed'"}, "`select` with the network|'heed'|to choose from"),
    "a selection that is no text": ({"x": "select = 3"}, "`select` must be a pattern of names|got 3"),
    "a key of a search": (searched("trial = 2"), "search: 'trial'|Did you mean 'trials'"),
    "a set key": ({"x": "set = {'sgd.rl' = 1}"}, "sgd: 'rl'|Did you mean 'lr'"),
    "a set method": ({"x": "set = {'sdg.lr' = 1}"}, "'sdg'|Did you mean 'sgd'"),
    "a set key of no method": ({"x": "set = {rl = 1}"}, "`set`: 'rl' is unknown|Did you mean 'lr'"),
    # names that are not known
    "data": ({"data": "data = 'digit'"}, "`data`: 'digit'|Did you mean 'digits'"),
    "a module": ({"data": "data = 'mien:data'"}, "`data`: there is no module 'mien'|Did you mean 'mine'"),
    "a function": (mine("data", "dat"), "`data`: in 'mine': 'dat'|Did you mean 'data'"),
    "a network": ({"network": "network = 'small-resnt'"}, "`network`: 'small-resnt'|Did you mean 'small-resnet'"),
    "a method": (methods("'samsom'"), "`methods`: 'samsom'|Did you mean 'samson'"),
    "a base": ({"x": "base = 'AdmW'", "methods": "methods = ['plain']"}, "`base`: 'AdmW'|Did you mean 'AdamW'"),
    "a task": ({"x": "task = 'clasification'"}, "task: 'clasification'|Did you mean 'classification'"),
    "a trainer": ({"x": "train = 'mine:tran'"}, "`train`: in 'mine': 'tran'|Available"),
    "a noise": (chips("'gausian'"), "`chips`: 'gausian'|Did you mean 'gaussian'"),
    "a chip": (chips("{chip = 'int5'}"), "`chip`: 'int5'|Did you mean 'int8'"),
    "a schedule": ({"recipe": "recipe = {schedule = 'cosin', batch_size = 16}"}, "recipe: `schedule`|'cosin'|'cosine'"),
    "an augmentation": ({"recipe": "recipe = {augment = 'flop', batch_size = 16}"}, "`augment`: 'flop'|'flip'"),
    "a sampler": (searched("sampler = 'bayes'"), "search.sampler: 'bayes'|grid, random"),
    "chosen_by": (searched("chosen_by = 'pcm'"), "search.chosen_by: 'pcm'|blind, gaussian"),
    # types
    "seeds in words": ({"seeds": "seeds = 'three'"}, "`seeds` must be |'three'|default is 3"),
    "half a trial": ({"trials": "trials = 2.5"}, "`trials` must be |2.5"),
    "a true recipe": ({"recipe": "recipe = {epochs = true}"}, "recipe.epochs must be of type int, got True|30"),
    "no table of a recipe": ({"recipe": "recipe = 'short'"}, "recipe must be a table, got 'short'|[recipe]"),
    "no table of a search": ({"x": "search = 3"}, "search must be a table, got 3|[search]"),
    "a data root": ({"x": "data_root = 3"}, "data_root must be a folder, got 3"),
    "a number of data": ({"data": "data = 3"}, "data must be texts or tables, got 3"),
    "a number of chips": (chips("3"), "chips must be texts or tables, got 3"),
    "a number as noise": (chips("{noise = 3}"), "noise|3"),
    "a number as chip": (chips("{chip = 3}"), "chip|3"),
    "a number among chips": (chips("{chip = ['int8', 4]}"), "chip|4"),
    "a number as name of chips": (chips("{chip = 'int8', name = 3}"), "name|3"),
    "a number as time": (chips("{chip = 'pcm', times = 3600}"), "times|3600"),
    "a number among times": (chips("{chip = 'pcm', times = [3600]}"), "times|3600"),
    "a number as method": (methods("{method = 3}"), "method|3"),
    "a number as name of a method": (methods("{method = 'sgd', name = 3}"), "name|3"),
    "a number as base": ({"x": "base = 3", "methods": "methods = ['plain']"}, "base|3"),
    "a list of bases": ({"x": "base = ['Adam']", "methods": "methods = ['plain']"}, "base|['Adam']"),
    "a number as task": ({"x": "task = 3"}, "task must be |3"),
    "a number as sampler": (searched("sampler = 3"), "search.sampler|3"),
    "a number of settings": ({"x": "set = 3"}, "set|3"),
    "a number of problems": ({"x": "problems = 3"}, "problems|3"),
    "one table of problems": ({"x": "[problems]\ndata = 'digits'"}, "problems must be tables|[[problems]]"),
    "a setting in words": ({"x": "set = {'sgd.lr' = 'big'}"}, "`set` sgd.lr must be a number, got 'big'"),
    "a name of several": (
        {"network": "network = ['mlp', 'linear']", "x": "name = 'one'"},
        "`name` must be left out with",
    ),
    "a true setting": (methods("{method = 'sgd', lr = true}"), "sgd.lr must be a number, got True"),
    # lists
    "no data": ({"data": "data = []"}, "data must be at least one, got []"),
    "no network": ({"network": "network = []"}, "network must be at least one, got []"),
    "no methods": (methods(""), "methods must be at least one, got []"),
    "no chips": ({"chips": "chips = []"}, "chips must be at least one, got []"),
    "no problems": ({"x": "problems = []"}, "problems|[]"),
    "no levels": (chips("{noise = 'gaussian', levels = []}"), "`levels` must be at least one level above 0, got []"),
    "none of chips": (chips("{chip = []}"), "`chip` must be at least one chip, got []"),
    "no times": (chips("{chip = 'pcm', times = []}"), "times|at least one time|for example"),
    "no candidates": (methods("{method = 'sgd', lr = []}"), "sgd.lr must be at least one value, got []"),
    # what there may be once
    "problems twice": (
        {"x": "[[problems]]\n[[problems]]"},
        "problems must be without repetition, got ['data-net']|name =",
    ),
    "problems but for case": (
        {"x": "[[problems]]\n[[problems]]\nname = 'Data-net'"},
        "problems must be without repetition",
    ),
    "families twice": (chips("'pcm', {noise = 'pcm', levels = ['1h']}"), "chips must be without repetition|pcm|name ="),
    "methods twice": (methods("'sgd', {method = 'sgd', lr = 1}"), "without repetition, got 'sgd'"),
    "methods but for case": (methods("'sgd', {method = 'sgd', name = 'SGD'}"), "without repetition, got 'SGD'"),
    "levels twice": (chips("{noise = 'gaussian', levels = [0.1, 0.1]}"), "`levels` must be without repetition|0.1"),
    "levels that look alike": (chips("{noise = 'gaussian', levels = [0.1, 0.10000001]}"), "`levels` must be |0.1"),
    "ages twice": (chips("{noise = 'pcm', levels = ['1h', '60m']}"), "`levels` must be without repetition|60m"),
    "times twice": (chips("{chip = 'pcm', times = ['1h', '60m']}"), "times|1 h', '1 h"),
    "a chip twice": (chips("{chip = ['int8', 'int8']}"), "chip|int8"),
    "candidates twice": (methods("{method = 'sgd', lr = [1, 1.0]}"), "sgd.lr must be without repetition"),
    # numbers
    "no seeds": ({"seeds": "seeds = 0"}, "`seeds` must be at least 1, got 0|default"),
    "seeds by name": (
        {"seeds": "seeds = [1]"},
        "`seeds` must be a whole number of at least 1, got [1].|Their seeds are 0, 1, …; the default is 3.",
    ),
    "no examples": ({"x": "examples = 0"}, "`examples` must be at least 1, got 0|Leave it out"),
    "one trial": ({"trials": "trials = 1"}, "`trials` must be at least 2, got 1|default"),
    "a negative chip seed": ({"x": "chip_seed = -1"}, "`chip_seed` must be at least 0, got -1"),
    "no epochs": ({"recipe": "recipe = {epochs = 0, batch_size = 16}"}, "recipe: `epochs` must be at least 1, got 0"),
    "a large batch": (
        {"recipe": "recipe = {batch_size = 37}"},
        "batch|from 1 to 36|37|Write recipe = { batch_size = 36 }",
    ),
    "a negative level": (chips("{noise = 'gaussian', levels = [-0.1]}"), "`levels` must be ≥ 0 and finite, got -0.1"),
    "a level in words": (chips("{noise = 'gaussian', levels = ['much']}"), "`levels` must be a number, got 'much'"),
    "a level too large": (chips("{noise = 'bit-errors', levels = [2]}"), "`levels`: 2 does not fit|`rate` must be ≤ 1"),
    "a malformed age": (
        chips("{noise = 'pcm', levels = ['1 hour']}"),
        "`levels` must be a number, or an age with s, m, h, d, y, got '1 hour'",
    ),
    "ages in one text": (chips("{noise = 'pcm', levels = ['1h,1d']}"), "levels|1h,1d"),
    "a malformed time": (chips("{chip = 'pcm', times = ['h']}"), "`times` must be numbers ≥ 0 with one of|got 'h'"),
    "a time that a chip does not know": (chips("{chip = 'reram-wan2022', times = ['1h']}"), "times|3600"),
    "a bad setting": ({"x": "set = {'sgd.lr' = -1}"}, "sgd: Invalid learning rate: -1|Change it"),
    "a bad candidate": (methods("{method = 'sgd', lr = [1, -2]}"), "sgd: Invalid learning rate: -2"),
    # chips
    "chips of nothing": (chips("{levels = [0.1]}"), "chips must be tables with a noise or a chip|Write"),
    "noise and chip": (chips("{noise = 'gaussian', chip = 'int8'}"), "chips: 'chip'|Available: noise, levels"),
    "a chip file that is not there": (chips("'none.toml'"), "`chip` must be a TOML file, got 'none.toml'"),
    "a chip of one's own": (
        chips("{chip = 'mine:chip'}"),
        "`chip` must be a function or a class that gives a noise or a chip, got 3",
    ),
    "a noise of one's own": (chips("{noise = 'mine:net', levels = [1]}"), "`noise`|mine:net"),
    "chips that cannot carry a network": (
        {"network": "network = 'mine:recurrent'", **chips("'standard-hwa'")},
        "standard-hwa|'mine:recurrent'|recurrent",
    ),
    "a network without weights for a chip": (mine("network", "norm"), "'mine:norm'|weight for the chip"),
    # searches
    "a search of nothing": (
        {"x": "search = {sampler = 'grid'}"},
        "search must be left out where no setting has several",
    ),
    "uneven grids": (
        methods("{method = 'sgd', lr = [1, 2]}, {method = 'sam', rho = [1, 2, 3]}"),
        "candidates must be of the same number|'data-net/sgd': 2, 'data-net/sam': 3|Give each as many",
    ),
    "too many draws": (
        searched("sampler = 'random', trials = 3"),
        "search.trials must be from 1 to 2, got 3|different",
    ),
    "no draws": (searched("sampler = 'tpe'"), "search.trials must be from 1 to 2, got 0"),
    "part of a grid": (searched("trials = 1"), "search.trials must be left out for a grid, or 2"),
    "negative trials of a search": (searched("trials = -1"), "search.trials|-1"),
    "no seeds of a search": (searched("seeds = 0"), "search.seeds|got 0"),
    # names
    "a name of two words": ({"x": "name = 'my problem'"}, "`name` of a problem must be letters|'my problem'|folder"),
    "a name with a folder": (methods("{method = 'sgd', name = '../../sgd'}"), "name|'../../sgd'"),
    "a family called clean": (chips("{chip = 'int8', name = 'clean'}"), "name|'clean'"),
    "a family called all": (chips("{chip = 'int8', name = 'all'}"), "name|'all'"),
    "a family called blind": (chips("{chip = 'int8', name = 'blind'}"), "name|'blind'"),
    "a function called blind": (chips("'mine:blind'"), "name of chips must be not one of clean, all, blind|'blind'"),
    # numbers beyond those of the type
    "a huge level": (chips(f"{{noise = 'gaussian', levels = [{10**400}]}}"), "`levels` must be ≥ 0 and finite"),
    "a huge setting": ({"methods": f"methods = [{{method = 'samson', rho = {10**400}}}]"}, "rho must be a number"),
    "a huge norm": ({"recipe": f"recipe = {{clip_norm = {10**400}}}"}, "recipe: int too large to convert to float"),
    # code of one's own
    "no test": (mine("data", "no_test"), "`data` must be a dictionary with train and test|['train']|Return"),
    "uneven data": (mine("data", "uneven"), "`data`: `train` must have a target for each of 40 inputs, got 39"),
    "labels out of range": (mine("data", "outside"), "`data`: `test` must have targets from 0 to 2, got 0 to 3"),
    "other shapes": (mine("data", "shapes"), "`data`: `test` must have inputs of shape (1, 6, 6)|(1, 5, 5)"),
    "nothing": (mine("data", "nothing"), "`data` must be a dictionary|NoneType|Return"),
    "data that fail": (mine("data", "fails"), "`data` 'mine:fails' raised OSError: no such disk|Mend|mine.py, line"),
    "a network that does not fit": (
        mine("network", "wide"),
        "`network` 'mine:wide' cannot be trained on 'mine:data'|(1, 6, 6)|Take a network",
    ),
    "a network for text": ({"network": "network = 'gpt-tiny'"}, "`gpt-tiny`|(1, 6, 6)|Take a network for images"),
    "no network at all": (mine("network", "text"), "a function that returns an nn.Module, got 'a network'"),
    "data that are no function": (
        mine("data", "table"),
        "`data` must be the name of a function or a class, got 'mine:table'|Write a function that gives it",
    ),
    "a method that is no function": (
        methods("'mine:number'"),
        "`methods` must be a function that takes a model, got 'mine:number'",
    ),
    "a noise that fails": (
        chips("{noise = 'mine:Odd', levels = [1]}"),
        "chips: 1 cannot carry the network 'mine:net': TypeError: |Take other chips",
    ),
    "no optimizer": (
        methods("'mine:no_optimizer'"),
        "`methods` mine:no_optimizer must be a function that returns an optimizer, got 'NoneType'",
    ),
    "a method that takes nothing": (methods("'mine:of_nothing'"), "a function that takes a model|mine:of_nothing"),
    "a rule in place of a method": (
        methods("{method = 'samson.optim:SAMSON', rho = 1}"),
        "a function that returns an optimizer, and no rule, got 'samson.optim:SAMSON'|returns `SharpnessAware",
    ),
    "a setting of the recipe": (
        methods("{method = 'samson', ema = 0.9}"),
        "a setting of the method, and none of `recipe`, got 0.9|a problem with a `name`",
    ),
    "a method that raises": (methods("'mine:raises'"), "`methods`|raises|no such lr"),
    "a trainer that takes nothing": ({"x": "train = 'mine:of_nothing'"}, "`train` must be a function of one argument"),
    "no task": ({"x": "task = 'mine:Task'"}, "task must be a class with a metric and a loss, got 'mine:Task'"),
    # the file
    "no TOML": ("data = [", "SUITE must be a TOML file, got 'suite.toml'|Mend that line"),
    "no text": ("\udcff", "SUITE must be a TOML file, got 'suite.toml'|Mend"),
    "deep": ("a = " + "[" * 5000, "SUITE must be a TOML file, got 'suite.toml'"),
}
"""What is wrong in a suite, over GOOD, or the whole of its text; and the words of its error."""


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run_all", "compare_suite"):
        monkeypatch.setattr(f"samson.experiments.{name}", lambda *_, **__: pytest.fail("something is run"))


def refused(folder: Path, *arguments: str) -> str:
    """The words of an error in a few lines, after which the folder is as before."""
    before = content(folder)
    status, out, err = samson("compare", *arguments)
    assert (status, out) == (2, ""), err
    assert err.startswith("samson: ")
    assert len(err.strip().splitlines()) <= 4
    assert {name: held for name, held in content(folder).items() if "__pycache__" not in name} == {
        name: held for name, held in before.items() if "__pycache__" not in name
    }
    return " ".join(err.split())


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.usefixtures("nothing_runs")
def test_a_bad_suite_is_refused_in_a_few_words(tmp_path: Path, row: str) -> None:
    changes, wanted = ROWS[row]
    with working_in(tmp_path, BAD):
        text = changes if isinstance(changes, str) else "\n".join({**GOOD, **changes}.values())
        Path("suite.toml").write_bytes(text.encode(errors="surrogateescape"))
        said = refused(tmp_path, "suite.toml", "--out", "out", "--jobs", "1")
    assert said.startswith("samson: suite.toml: ") or "SUITE must be a TOML file" in said
    assert "--" not in said, "an option could not mend it"
    for words in wanted.split("|"):
        assert words in said


@pytest.mark.usefixtures("nothing_runs")
def test_a_good_suite_is_not_refused(tmp_path: Path) -> None:
    """The control of the rows above, and of what the file is called."""
    with working_in(tmp_path, BAD):
        Path("suite.toml").write_text("\n".join(GOOD.values()))
        assert "'none.toml': No such file" in refused(tmp_path, "none.toml", "--out", "out")
        assert "got '.': Is a directory" in refused(tmp_path, ".", "--out", "out")
        words = refused(tmp_path, "suite.toml", "--out", "out", "--seeds", "3")
        assert "--seeds must be left out beside SUITE" in words
        with pytest.raises(pytest.fail.Exception, match="something is run"):
            samson("compare", "suite.toml", "--out", "out")


def test_settings_may_stand_below_the_name_of_their_method(place: Path) -> None:
    """TOML reads `samson.rho = 0.3`, without quotes, as a table in a table."""
    Path("suite.toml").write_text(
        "data = 'mine:data'\nnetwork = 'mine:net'\nmethods = ['samson', 'samson+clip']\nrecipe = {batch_size = 16}\n"
        "[set]\nsamson.rho = 0.3\n'samson+clip'.rho = 0.4\n'samson+clip.alpha' = 1.5\n",
        encoding="utf-8-sig",  # some editors write the mark
    )
    one, two = plan_suite(read_suite(Path("suite.toml"))).problems[0].methods
    assert (one.settings["rho"], two.settings["rho"], two.settings["alpha"]) == (0.3, 0.4, 1.5)


@pytest.mark.parametrize("nested", [False, True])
def test_a_problem_says_a_part_of_its_recipe_and_settings_otherwise(place: Path, nested: bool) -> None:
    top, own = {"samson.rho": 0.3, "samson.p": 3, "clip.alpha": 2.5}, {"samson.rho": 0.4}
    if nested:
        top, own = {"samson": {"rho": 0.3, "p": 3}, "clip": {"alpha": 2.5}}, {"samson": {"rho": 0.4}}
    suite = {**SMALL, "methods": ["samson", "clip"], "recipe": {"epochs": 2, "batch_size": 16}, "set": top}
    suite["problems"] = [{}, {"name": "other", "recipe": {"batch_size": 8, "warmup": 0.5}, "set": own}]
    first, second = plan_suite(suite).problems
    for problem, size, warmup, rho in ((first, 16, 0, 0.3), (second, 8, 0.5, 0.4)):
        assert (problem.recipe.epochs, problem.recipe.batch_size, problem.recipe.warmup) == (2, size, warmup)
        samson, clip = (method.settings for method in problem.methods)
        assert (samson["rho"], samson["p"], clip["alpha"]) == (rho, 3, 2.5)


def test_settings_at_the_top_are_not_those_of_other_methods_or_another_base(place: Path) -> None:
    suite = {
        **SMALL,
        "methods": ["plain", "samson"],
        "set": {"samson.momentum": 0.5},
        "recipe": {"epochs": 2, "batch_size": 16},
    }
    other = {"methods": ["plain"], "set": {"plain.lr": 0.2}}
    for own, name in ((other, "plain"), ({"base": "AdamW", "set": {}}, "samson")):
        first, second = plan_suite({**suite, "problems": [{}, {"name": "other", **own}]}).problems
        assert first.methods[1].settings["momentum"] == 0.5
        assert second.methods[-1].name == name
        assert second.methods[-1].settings.get("momentum") != 0.5
        assert second.recipe.epochs == 2


def test_the_default_methods_suit_every_base(place: Path) -> None:
    table = {key: SMALL[key] for key in ("data", "network", "recipe")}
    for base, first in (("SGD", "sgd"), ("AdamW", "plain")):
        methods = plan_suite({**table, "base": base}).problems[0].methods
        assert [method.name for method in methods] == [first, "noise", "clip", "sam", "asam", "samson", "samson+clip"]


def test_a_method_may_look_at_the_network_it_is_for(place: Path) -> None:
    found = compare_suite({**SMALL, "methods": ["sgd", "mine:of_the_last_layer"]}, "out")
    assert (found.failures, [record.method for record in found.records]) == ({}, ["sgd", "of_the_last_layer"])


# Files of a comparison name no code


EVIL = """
from pathlib import Path
Path("sprung").touch()
from mine import data, net, optimizer, train, noise
from samson.experiments import Classification as task
"""


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a file of a comparison, with a checksum that fits."""
    data = json.loads(path.read_text())
    checked = data.pop("checksum", None) is not None
    data = change(data)
    path.write_text(json.dumps(data | {"checksum": checksum(data)} if checked else data))


def named_evil(value: Any) -> Any:
    """The same with the module `evil` in place of `mine`."""
    return json.loads(json.dumps(value).replace("mine:", "evil:"))


def load_mine_net(record: RunRecord) -> nn.Module:
    """The network of a run of `mine:net` in "out"."""
    model = importlib.import_module("mine").net(3)
    model.load_state_dict(load_file(f"out/networks/data-net/{record.method}-seed0.safetensors"))
    return model.eval()


def test_converters_without_a_bound_are_calibrated_for_each_network(place: Path) -> None:
    """From training data, after the input ranges, and for the slices of the chip's own devices."""
    Path("slices.toml").write_text(
        'source = "a sheet"\n[noise]\nfamily = "pcm"\nmapping = {levels = 4, slices = 2}\n'
        '[periphery]\nadc_bits = 3\ndac_bits = 4\nadc_per = "slice"\n'
    )
    suite = {**SMALL, "methods": ["sgd", {"method": "sgd", "name": "slow", "lr": 0.01}], "chips": ["slices.toml"]}
    found = compare_suite(suite, "out")
    kind, splits = load_chip_model("slices.toml"), load_data_set("mine:data", Path())
    bounds = []
    for record in found.records[:2]:
        model = load_mine_net(record)
        few = list(splits.few_inputs(int(record.problem.recipe["batch_size"])))
        around = replace(kind.periphery, input_ranges=calibrate(model, few))
        assert dict(record.calibrated) == around.input_ranges
        around = replace(around, adc_bounds=calibrate_adc(model, few, around, noise=kind))
        bounds.append(around.adc_bounds)
        expected = evaluate(model, splits.test, replace(kind, periphery=around), trials=2)
        assert record.measured[0][0] == expected.trials
    assert bounds[0] != bounds[1]


def test_a_selection_is_what_lies_on_the_chips(place: Path) -> None:
    """Also for converters and what is calibrated; each problem may have its own, and the report says it."""
    Path("converters.toml").write_text(
        'source = "a sheet"\nnoise = {family = "gaussian", sigma = 0.3}\nperiphery = {adc_bits = 3, dac_bits = 4}\n'
    )
    chips = [{"noise": "gaussian", "levels": [0.3]}, "converters.toml"]
    problems = [{"select": "!3"}, {"name": "all"}]
    found = compare_suite({**SMALL, "methods": ["sgd"], "chips": chips, "problems": problems}, "out")
    kind, splits = load_chip_model("converters.toml"), load_data_set("mine:data", Path())
    some, whole = found.records
    assert (some.problem.select, whole.problem.select) == (("!3",), ())
    assert some.clean == whole.clean
    for record, select in ((some, ["!3"]), (whole, None)):
        model = load_mine_net(record)
        few = list(splits.few_inputs(int(record.problem.recipe["batch_size"])))
        ranges = calibrate(model, few, select)
        assert dict(record.calibrated) == ranges
        around = replace(kind.periphery, input_ranges=ranges)
        around = replace(around, adc_bounds=calibrate_adc(model, few, around, select, noise=kind))
        for noise, measured in zip((Gaussian(0.3), replace(kind, periphery=around)), record.measured, strict=True):
            expected = evaluate(model, splits.test, noise, trials=2, select=select)
            assert measured[0] == expected.trials
            assert record.coverage == expected.coverage.share
            assert record.multiply_adds == expected.coverage.multiply_adds
    assert some.coverage < whole.coverage
    assert some.measured != whole.measured
    found.page("page.html")
    page = Path("page.html").read_text("utf-8")
    assert page.count(">Selected</th><td>!3</td>") == 1  # of that problem alone


def test_whole_numbers_for_a_network_of_measurements_are_explained(place: Path) -> None:
    Path("whole.py").write_text(
        "import torch\n"
        "def split(n): return torch.randint(0, 5, (n, 6)), torch.arange(n) % 3\n"
        "def data(): return {'train': split(40), 'test': split(20)}\n"
    )
    with pytest.raises(SetupError, match="Whole numbers are tokens: give measurements as floats"):
        plan_suite({**SMALL, "data": "whole:data", "network": "mlp", "methods": ["sgd"]})


def test_a_level_of_ones_own_noise_is_what_the_noise_makes_of_it(place: Path) -> None:
    """An age, a bit error rate, or a number that only some noises take."""
    Path("own.py").write_text(
        "from samson.noise import BitErrors, MeasuredDevices, Quantize, ReRAM\n"
        "def aged(time_s): return MeasuredDevices(time_s, targets_us=(0.0, 25.0), deviations_us=(0.4, 0.7))\n"
        "def wrong(rate): return BitErrors(rate, bits=4)\n"
        "def bits(number): return Quantize(int(number))\n"
        "def day(time_s): return ReRAM(time_s=time_s)\n"
        "def volts(v): return BitErrors(voltage=v)\n"
    )
    units = {name: find_noise(f"own:{name}").unit for name in ("aged", "wrong", "bits", "day", "volts")}
    assert units == {"aged": "s", "wrong": "bit error rate", "bits": "level", "day": "s", "volts": "level"}
    assert find_noise("own:bits")(4).bits == 4
    plan = plan_suite({**SMALL, "chips": [{"noise": "own:aged", "levels": ["1h"]}]})
    assert plan.families[0].kinds[0].noise.time_s == 3600.0


def test_a_noise_of_ones_own_may_age(place: Path) -> None:
    Path("own.py").write_text("from mine import Shaken\ndef chip(): return Shaken(0.1)\n")
    plan = plan_suite({**SMALL, "chips": [{"chip": "own:chip", "times": ["1h"]}]})
    assert [kind.time_s for kind in plan.families[0].kinds] == [3600.0]


def test_a_chip_of_several_noises_ages_in_that_of_its_devices(place: Path) -> None:
    Path("own.py").write_text(
        "from samson.noise import PCM, Compose, Gaussian\ndef both(): return Compose(Gaussian(0.1), PCM())\n"
    )
    make, family = chip_by_level("own:both")
    assert make(60.0).noise == Compose(Gaussian(0.1), PCM(time_s=60.0))
    assert family.unit == "s"


def test_no_file_of_a_comparison_names_code_to_run(place: Path) -> None:
    Path("evil.py").write_text(EVIL)
    suite = {**SMALL, "train": "mine:train", "task": "mine:task", "chips": [{"noise": "mine:noise", "levels": [0.1]}]}
    Path("mine.py").write_text(f"{MINE}\nfrom samson.experiments import Classification as task\n")
    compare_suite(suite, "out")
    recipe = {"epochs": 1, "batch_size": 512}
    compare_suite({**SMALL, "data": "digits", "network": "mlp", "methods": ["sgd"], "recipe": recipe}, "digits")
    files = [path for folder in ("out", "digits") for path in Path(folder).rglob("*.json")]
    assert len(files) == 8
    for path in files:
        changed(path, named_evil)
    assert sum("evil:" in path.read_text() for path in files) == 5
    record = Path("digits", "records", "digits-mlp", "sgd-seed0.json")
    network = Path("digits", "networks", "digits-mlp", "sgd-seed0.json")
    good = json.loads(record.read_text())["problem"]
    for field in ("data", "network", "trainer", "task"):
        changed(record, lambda data, field=field: data | {"problem": good | {field: f"evil:{field}"}})
        samson("report", "digits")
        samson("sharpness", "digits", "--steps", 1, "--trials", 2)
    samson("report", "out")
    samson("sharpness", "out")
    Path("evil.toml").write_text('source = "x"\n[noise]\nfamily = "evil:net"')
    kind = {"label": "evil.toml", "noise": "evil.toml", "level": 0.1}
    families = [{"name": "evil.toml", "unit": "level", "kinds": [kind]}]
    changed(record, lambda data: data | {"problem": good})
    changed(Path("digits", "configuration.json"), lambda data: data | {"families": families})
    samson("report", "digits")
    samson("sharpness", "digits", "--steps", 1, "--trials", 2)
    saved = network.read_text()
    for field in ("network", "data"):
        network.write_text(saved)
        changed(network, lambda data, field=field: data | {field: f"evil:{field}"})
        samson("evaluate", network.with_suffix(".safetensors"), "--trials", 2, "--levels", ".1")
    samson("evaluate", "out/networks/data-net/sgd-seed0.safetensors", "--data", "digits")
    assert not Path("sprung").exists()
    samson("evaluate", network.with_suffix(".safetensors"), "--data", "evil:data", "--trials", 2, "--levels", ".1")
    assert Path("sprung").exists(), "the command line may name code: the check can fail"


def interrupted_where_python_drops_it() -> None:
    """Ctrl-C in the callback of a weak reference, as when a tensor is freed."""

    class Freed:
        pass

    freed = Freed()
    reference = weakref.ref(freed, lambda _: signal.raise_signal(signal.SIGINT))
    del freed
    assert reference() is None


def test_an_interrupt_that_python_drops_still_stops_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped, begun = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: dropped.append(what.exc_type))

    def run(job: Job, folder: Path, progress: Callable[[str, int, int], None]) -> None:
        begun.append(job.name)
        interrupted_where_python_drops_it()
        progress("training", 1, 2)
        raise AssertionError("it went on")

    monkeypatch.setattr("samson.experiments._suite.run", run)
    jobs = jobs_of(plan_suite({"methods": ["sgd", "sam"], "network": "mlp"}))
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, tmp_path, processes=1, watcher=Silent())
    assert dropped == [KeyboardInterrupt]
    assert len(begun) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
