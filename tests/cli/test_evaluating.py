"""`samson evaluate` and `samson budget` on any saved model, against the library called by hand."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from samson.evaluation import evaluate, noise_budget, sensitivity
from samson.experiments import Request, SetupError, parse_time
from samson.noise import PCM, BitErrors, Gaussian, calibrate, load_calibration, preset
from samson.records import BudgetRecord, EvaluationRecord, SensitivityRecord, read_json
from samson.report import budget_figure, budget_page, evaluation_page
from tests.cli.conftest import TWO_LAYERS, start

NETWORK = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Linear(6, 3)

def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 6, generator=generator)
    with torch.no_grad():
        return [(x, network()(x).argmax(1))]

def number():
    return 3
"""


@pytest.fixture
def samson(samson: Callable[..., tuple[int, str, str]], module: Any, monkeypatch: pytest.MonkeyPatch):
    """Run the command line in a folder with networks of one's own; gives its status and what it wrote."""
    module("mine", NETWORK)
    module("two", TWO_LAYERS)
    monkeypatch.setenv("COLUMNS", "100")
    return samson


def mine(source: str = NETWORK) -> dict[str, Any]:
    """What a module of one's own defines."""
    names: dict[str, Any] = {}
    exec(source, names)
    return names


def by_hand(noise: object, **setting: object) -> object:
    names = mine()
    return evaluate(names["network"](), names["batches"](), noise, **setting)


def test_a_model_and_data_of_ones_own(samson, tmp_path: Path) -> None:
    status, out, _ = samson(
        *("evaluate", "mine:network", "--data", "mine:batches", "--levels", ".3", "--trials", 4, "--seed", 5),
        *("--at-least", ".8", "--out", "record.json", "--page", "page.html"),
    )
    assert status == 0
    expected = by_hand(Gaussian(0.3), trials=4, seed=5)
    record = read_json(tmp_path / "record.json", EvaluationRecord)
    assert record.measured[0].trials == expected.trials
    assert (record.clean, record.subject.examples, record.subject.chip_seed) == (1.0, 60, 5)
    assert record.measured[0].interval == expected.interval
    assert (tmp_path / "page.html").read_text() == evaluation_page(record)
    for shown in (
        "≥ 80 %",
        "100.0",
        f"{100 * expected.mean:.1f} [",
        f"{100 * expected.yield_at(0.8).mean:.0f}% [",
    ):
        assert shown in out


def test_data_from_a_file_a_chip_by_name_and_times(samson, tmp_path: Path) -> None:
    names = mine()
    [(x, y)] = names["batches"]()
    save_file({"inputs": x, "targets": y}, tmp_path / "data.safetensors")
    status, out, _ = samson(
        *("evaluate", "mine:network", "--data", "data.safetensors", "--chip", "pcm", "--times", "0s,1d"),
        *("--trials", 3, "--out", "record.json"),
    )
    assert status == 0
    record = read_json(tmp_path / "record.json", EvaluationRecord)
    for row, time_s in zip(record.measured, (0.0, 86_400.0), strict=True):
        expected = evaluate(names["network"](), (x, y), PCM(time_s=time_s, compensation="global"), trials=3)
        assert (row.trials, row.kind.time_s) == (expected.trials, time_s)
        assert "compensation='global'" in row.kind.noise
        assert not row.kind.alike
    assert "pcm at 1 day" in out
    assert "compensation=&#x27;global&#x27;" in evaluation_page(record)


def test_chips_that_are_all_the_same_are_so_in_the_records_too(samson, tmp_path: Path) -> None:
    call = "two:network", "--data", "two:batches", "--chip", "int4", "--trials", 2, "--out", "record.json"
    for command, kind in (("evaluate", EvaluationRecord), ("sensitivity", SensitivityRecord)):
        status, _, error = samson(command, *call)
        assert status == 0, error
        record = read_json(tmp_path / "record.json", kind)
        assert (record.kind if command == "sensitivity" else record.measured[0].kind).alike


SPLITS = """
def data():
    [(x, y)] = batches()
    return {"train": (x[:40], y[:40]), "validation": (x[40:45], 1 + 0 * y[40:45]), "test": (x[45:], y[45:])}

def pair():
    return data()["train"]
"""


def test_data_with_splits(samson, tmp_path: Path) -> None:
    """What a comparison takes is taken here too; the split of data that have none is refused."""
    (tmp_path / "mine.py").write_text(NETWORK + SPLITS)
    names = mine(NETWORK + SPLITS)
    call = "evaluate", "mine:network", "--levels", ".3", "--trials", 2, "--out", "record.json", "--data"
    arrays = {
        f"{axis}_{split}": part
        for split, pair in names["data"]().items()
        for axis, part in zip("xy", pair, strict=True)
    }
    np.savez(tmp_path / "own.npz", **arrays)
    for data, split, called in (
        ("mine:data", "test", "mine:data"),
        ("mine:data", "validation", "mine:data/validation"),
        ("own.npz", "test", "own.npz/test"),
        ("own.npz", "validation", "own.npz/validation"),
    ):
        assert samson(*call, data, *(("--split", split) if split != "test" else ()))[0] == 0
        record = read_json(tmp_path / "record.json", EvaluationRecord)
        expected = evaluate(names["network"](), names["data"]()[split], Gaussian(0.3), trials=2)
        assert (record.measured[0].trials, record.clean) == (expected.trials, expected.clean)
        assert record.subject.data == called
    (tmp_path / "root").mkdir()
    (tmp_path / "own.npz").rename(tmp_path / "root" / "own.npz")
    norms = Request("mine:network", norms_on="own.npz", data_root=tmp_path / "root").norm_data()
    assert norms[0].equal(names["data"]()["train"][0])
    for data, split, word in (("mine:pair", "train", "which has no splits"), ("mine:data", "tset", "mean 'test'")):
        status, _, err = samson(*call, data, "--split", split)
        assert (status, "--split" in err, word in err) == (2, True, True), err
    assert samson("calibrate", "mine:network", "--data", "mine:data", "--out", "c.toml")[0] == 0
    found = load_calibration(tmp_path / "c.toml").input_ranges
    assert found == pytest.approx(calibrate(names["network"](), names["pair"]()))
    assert found != pytest.approx(calibrate(names["network"](), names["data"]()["test"]))


def test_a_precision_and_a_loss(samson, tmp_path: Path) -> None:
    status, out, _ = samson(
        *("evaluate", "mine:network", "--data", "mine:batches", "--levels", ".3", "--precision", ".0001"),
        *("--max-trials", 12, "--metric", "cross-entropy", "--out", "record.json"),
    )
    assert status == 0
    assert " * " in out
    assert "* wider than ±0.0001" in out
    record = read_json(tmp_path / "record.json", EvaluationRecord)
    assert (record.precision, len(record.measured[0].trials)) == (0.0001, 12)
    expected = by_hand(Gaussian(0.3), trials=12, metric="cross-entropy")
    assert f"{expected.mean:.4g} [" in out


def test_where_more_chips_do_not_help_more_examples_are_asked_for(samson) -> None:
    call = "evaluate", "mine:network", "--data", "mine:batches", "--levels", ".3", "--about", "population"
    said = "* wider than ±{}, even with the chips at hand{}\n"
    for precision, more in ((0.05, ""), (0.03, "; where fewer than 40, more examples are needed")):
        out = samson(*call, "--precision", precision, "--max-trials", 40)[1]
        assert out.endswith(said.format(precision, more))


@pytest.mark.parametrize(
    ("command", "label"), [("evaluate", "without noise"), ("budget", "without noise"), ("sensitivity", "Weights")]
)
def test_nothing_of_a_table_is_cut_in_a_narrow_terminal(
    samson, monkeypatch: pytest.MonkeyPatch, command: str, label: str
) -> None:
    """Rows keep their labels, and columns their headings."""
    model = "two:network" if command == "sensitivity" else "mine:network"
    monkeypatch.setenv("COLUMNS", "20")
    status, out, _ = samson(command, model, "--data", model.replace("network", "batches"), "--trials", 3)
    assert (status, "…" in out) == (0, False)
    assert re.search(rf"(?m)^ .*{label}", out)


METRIC = """
from samson.evaluation import ExampleMetric

def of_class(cls):
    def score(output, targets):
        return (output.argmax(1) == targets).double() * (targets == cls)
    return ExampleMetric(f"class {cls}", score, higher_is_better=True, bounds=(0.0, 1.0))

second = of_class(1)
def third(): return of_class(2)
class Top:
    higher_is_better = True
    def reset(self): self.right, self.all = 0, 0
    def update(self, outputs, targets):
        self.right, self.all = self.right + (outputs.argmax(1) == targets).sum(), self.all + len(targets)
    def compute(self): return self.right / self.all
def bare(output, targets): return output
def broken(): raise KeyError("class")
def deeper(): return nn.Sequential(network(), nn.Linear(3, 3))
"""


def test_a_metric_of_ones_own(samson, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NETWORK + METRIC)
    call = "--data", "mine:batches", "--trials", 3, "--out", "record.json", "--page", "page.html"
    names = mine(NETWORK + METRIC)
    values = {}
    for metric, same in (("second", names["second"]), ("third", names["third"]()), ("Top", "accuracy")):
        status, out, _ = samson("evaluate", "mine:network", *call, "--levels", ".3", "--metric", f"mine:{metric}")
        record = read_json(tmp_path / "record.json", EvaluationRecord)
        values[record.subject.metric] = record.measured[0].trials
        assert (status, record.subject.metric in out) == (0, True)
        assert record.measured[0].trials == pytest.approx(by_hand(Gaussian(0.3), trials=3, metric=same).trials)
    assert len(set(values.values())) == len(values) == 3, "they are told apart"
    for command, kind in (("budget", BudgetRecord), ("sensitivity", SensitivityRecord)):
        assert samson(command, "mine:deeper", *call, "--metric", "mine:third")[0] == 0
        assert read_json(tmp_path / "record.json", kind).subject.metric == "class 2"
    for metric, words in (
        ("thrid", "--metric: in 'mine': 'thrid' is unknown.\nDid you mean 'third'?"),
        ("bare", "A function becomes one by ExampleMetric(name, function, higher_is_better=…)"),
        ("number", "--metric 'mine:number': `metric` must be a name, an ExampleMetric"),
        ("broken", "--metric 'mine:broken' raised KeyError: 'class'"),
    ):
        status, _, err = samson("evaluate", "mine:network", *call, "--metric", f"mine:{metric}")
        assert (status, words in err) == (2, True), err


def test_a_budget_is_the_librarys_and_has_a_page(samson, tmp_path: Path) -> None:
    status, out, _ = samson(
        *("budget", "mine:network", "--data", "mine:batches", "--low", ".01", "--high", 1, "--max-drop", ".1"),
        *("--trials", 6, "--out", "budget.json", "--page", "budget.html"),
    )
    assert status == 0
    names = mine()
    found = noise_budget(names["network"](), names["batches"](), Gaussian, 0.01, 1.0, max_drop=0.1, trials=6)
    record = read_json(tmp_path / "budget.json", BudgetRecord)
    assert record.holds_up_to == found.holds_up_to
    assert [row.trials for row in record.measured] == [e.trials for e in found.evaluations.values()]
    assert f"{found.holds_up_to:g}" in out
    assert json.loads((tmp_path / "budget.json").read_text())["unit"] == "level"
    assert re.findall(r"(?m)^(\w+): .*/(budget\..*)$", out) == [("Record", "budget.json"), ("Page", "budget.html")]
    page = (tmp_path / "budget.html").read_text()
    assert f"<b>{record.holds_up_to:.3g}</b>, chips are worse by at most 10 points in the mean" in page
    assert page == budget_page(record)
    for row in record.measured:
        assert f"<th scope='row'>{row.kind.label}</th>" in page


NORMED = TWO_LAYERS.replace("nn.Tanh(),", "nn.BatchNorm1d(12), nn.Tanh(),")


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (("--read-block", 20), {"read_block": 20}),
        (("--select", "0"), {"select": ["0"]}),
        (("--norms-on", "normed:batches"), {"norm_data": "batches"}),
        (("--about", "population"), {"about": "population"}),
        (("--seed", 3), {"seed": 3}),
    ],
)
def test_each_option_about_chips_and_intervals_reaches_the_library(
    samson, module, tmp_path: Path, options: tuple[object, ...], setting: dict[str, Any]
) -> None:
    names = module("normed", NORMED)
    (x, y), chip = names["batches"]()[0], preset("standard-hwa")
    call = "normed:network", "--data", "normed:batches", "--chip", "standard-hwa", "--metric", "cross-entropy"
    assert samson("evaluate", *call, "--trials", 3, *options, "--out", "record.json")[0] == 0
    [row] = read_json(tmp_path / "record.json", EvaluationRecord).measured
    given = {"trials": 3, "metric": "cross-entropy"}
    plain = evaluate(names["network"]().eval(), [(x, y)], chip, **given)
    setting = {key: [(x, y)] if value == "batches" else value for key, value in setting.items()}
    asked = evaluate(names["network"]().eval(), [(x, y)], chip, **given | setting)
    assert (row.trials, row.interval) == (asked.trials, asked.interval)
    assert (row.trials, row.interval) != (plain.trials, plain.interval)


def test_a_budget_of_a_memory_is_a_rate_and_a_voltage_of_its_own_table(samson, tmp_path: Path) -> None:
    (tmp_path / "memory.toml").write_text(
        'source = "made up"\n[noise]\nfamily = "bit-errors"\nvoltage = 0.62\nbits = 4\nscheme = "symmetric"\n'
        "rates_by_voltage = [[0.6, 0.1], [0.7, 0.001]]"
    )
    status, out, _ = samson(
        *("budget", "mine:network", "--data", "mine:batches", "--chip", "memory.toml", "--low", ".001", "--high", ".1"),
        *("--max-drop", ".1", "--trials", 5, "--out", "budget.json"),
    )
    assert status == 0
    names = mine()

    def bits(rate: float) -> BitErrors:
        return BitErrors(rate, bits=4, scheme="symmetric", rates_by_voltage=((0.6, 0.1), (0.7, 0.001)))

    found = noise_budget(names["network"](), names["batches"](), bits, 0.001, 0.1, max_drop=0.1, trials=5)
    record = read_json(tmp_path / "budget.json", BudgetRecord)
    assert [row.trials for row in record.measured] == [e.trials for e in found.evaluations.values()]
    assert (record.unit, record.holds_up_to) == ("bit error rate", found.holds_up_to)
    assert 0.6 < found.voltage < 0.7  # 0.75 and more by the published table
    assert f"V/V_min {found.voltage:.3f}" in " ".join(out.split())


def test_lower_precision_is_the_librarys(samson, tmp_path: Path) -> None:
    call = "evaluate", "mine:network", "--data", "mine:batches", "--levels", ".2", "--trials", 3, "--out", "record.json"
    status, _, _ = samson(*call, "--metric", "cross-entropy", "--autocast", "bfloat16")
    record = read_json(tmp_path / "record.json", EvaluationRecord)
    lowered = by_hand(Gaussian(0.2), trials=3, metric="cross-entropy", autocast="bfloat16")
    assert (status, record.subject.autocast) == (0, "bfloat16")
    assert record.measured[0].trials == lowered.trials
    assert lowered.trials != by_hand(Gaussian(0.2), trials=3, metric="cross-entropy").trials
    assert "in bfloat16" in evaluation_page(record)
    assert "the model as it is" in evaluation_page(replace(record, subject=replace(record.subject, autocast=None)))


def test_times_have_units() -> None:
    times = {"0s": 0.0, "2m": 120.0, "1.5h": 5400.0, "30d": 2592000.0, "1y": 31536000.0}
    assert {word: parse_time(word) for word in times} == times
    for wrong in ("1 hour", "1", "", "-1h", "nan s", "infs"):
        with pytest.raises(SetupError, match="`times` must be numbers ≥ 0 with one of s, m, h, d, y"):
            parse_time(wrong)


def test_a_sensitivity_is_the_librarys_and_has_a_page(samson, tmp_path: Path) -> None:
    status, out, _ = samson(
        *("sensitivity", "two:network", "--data", "two:batches", "--level", ".3", "--trials", 5, "--max-drop", ".2"),
        *("--out", "layers.json", "--page", "layers.html"),
    )
    assert status == 0
    names = mine(TWO_LAYERS)
    found = sensitivity(names["network"](), names["batches"](), Gaussian(0.3), trials=5, max_drop=0.2)
    record = read_json(tmp_path / "layers.json", SensitivityRecord)
    assert [(row.name, row.alone) for row in record.rows] == [(row.name, row.alone) for row in found.rows]
    assert (record.subject.examples, record.kind.noise) == (60, repr(Gaussian(0.3)))
    assert record.suggestion is not None
    for row in found.rows:
        ends = (f"{100 * value:z.1f}" for value in (row.drop.mean, row.drop.low, row.drop.high))
        assert f"{row.weights}  {'{} [{}, {}]'.format(*ends):>28}" in out
    assert re.search(r"with noise on all 2 layers, worse by [\d.]+ \[.*\] points\.", out)
    assert "the 20 points allowed" in out
    assert "two:network: accuracy (%) on two:batches under gaussian at 0.3" in out
    assert f"Keep digital: {', '.join(found.suggestion.digital)}, which hold " in out
    page = (tmp_path / "layers.html").read_text()
    assert f"{found.rows[0].name}</th>" in page


def test_ages_are_given_in_words(samson, tmp_path: Path) -> None:
    call = "mine:network", "--data", "mine:batches", "--trials", 3, "--out", "record.json"
    status, out, _ = samson("evaluate", *call, "--noise", "pcm", "--levels", "0s,60,1h,1d")
    assert (status, "mine:network on mine:batches under pcm" in out) == (0, True)
    record = read_json(tmp_path / "record.json", EvaluationRecord)
    assert [row.kind.level for row in record.measured] == [0.0, 60.0, 3600.0, 86_400.0]
    assert samson("budget", *call, "--noise", "pcm", "--low", "1m", "--high", "1d", "--max-drop", ".1")[0] == 0
    budget = read_json(tmp_path / "record.json", BudgetRecord)
    assert (budget.low, budget.high) == (60.0, 86_400.0)


def test_a_budgets_bar_says_how_many_levels_may_come(samson, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: dict[str, None] = {}

    @contextmanager
    def bar() -> Iterator[Callable[..., Callable[[object], None]]]:
        yield lambda label, metric: lambda state: labels.setdefault(label)

    monkeypatch.setattr("samson.cli._measuring.chip_bar", bar)
    call = "mine:network", "--data", "mine:batches", "--low", ".01", "--high", 1, "--max-drop", ".1", "--trials", 3
    assert samson("budget", *call)[0] == 0
    most = sum(signature(noise_budget).parameters[name].default for name in ("levels", "refinements"))
    found = [re.fullmatch(r"[\d.]+, (\d+) of at most (\d+) levels", label).groups() for label in labels]
    assert found == [(str(number), str(most)) for number in range(1, len(found) + 1)]
    assert 2 <= len(found) <= most


def test_a_budgets_page_says_the_limit_and_what_is_saved(samson, tmp_path: Path) -> None:
    """Levels that are not asked for are those of the family."""
    status, _, _ = samson(
        *("budget", "mine:network", "--data", "mine:batches", "--noise", "bit-errors", "--max-drop", ".04"),
        *("--relative", "--trials", 4, "--out", "budget.json"),
    )
    record = read_json(tmp_path / "budget.json", BudgetRecord)
    assert (status, record.low, record.high) == (0, 1e-5, 0.2)
    assert record.voltage is not None
    assert record.energy_saved == pytest.approx(1 - record.voltage**2)
    said = budget_page(record)
    assert "chips are worse by at most 4 % of the value in the mean." in said
    assert f"saves {100 * record.energy_saved:.0f} % of an access's energy." in said
    assert "at most 0.04 points" in budget_page(replace(record, relative=False, max_drop=0.0004))


def test_a_sensitivity_has_a_usual_level(samson, tmp_path: Path) -> None:
    levels = {}
    for noise in ("lognormal", "bit-errors", "pcm"):
        call = "sensitivity", "two:network", "--data", "two:batches", "--trials", 2, "--out", "s.json"
        assert samson(*call, "--noise", noise)[0] == 0
        levels[noise] = read_json(tmp_path / "s.json", SensitivityRecord).kind.level
    assert levels == {"lognormal": 0.1, "bit-errors": 0.01, "pcm": 86_400.0}
    out = samson(*call, "--level", 1, "--max-drop", "1e-9")[1]
    assert (
        "which are all, so that no chip is left: of 2 smaller sets none is shown to be within the 1e-07 points allowed"
        in out
    )


def test_a_sensitivity_says_all_settings(samson, tmp_path: Path) -> None:
    call = "sensitivity", "two:network", "--data", "two:batches", "--chip", "standard-hwa", "--trials", 2
    status, _, _ = samson(*call, "--times", "10y", "--select", "*", "--out", "s.json", "--page", "s.html")
    record = read_json(tmp_path / "s.json", SensitivityRecord)
    assert (status, record.kind.time_s, record.subject.select) == (0, 10 * 365 * 86_400.0, ("*",))
    assert "dac_steps=254" in record.kind.periphery
    page = (tmp_path / "s.html").read_text()
    for said in ("dac_steps=254", "<td>10 years</td>", "executor serial"):
        assert said in page


def test_a_budget_of_pcm_is_in_years(samson, tmp_path: Path) -> None:
    status, out, _ = samson(
        *("budget", "mine:network", "--data", "mine:batches", "--noise", "pcm", "--max-drop", ".5", "--trials", 2),
        *("--out", "budget.json"),
    )
    record = read_json(tmp_path / "budget.json", BudgetRecord)
    assert (status, record.unit, record.low, record.high) == (0, "s", 1.0, 10 * 365 * 86_400)
    held = replace(record, holds_up_to=record.high, crossing=(365 * 86_400.0, 3600.0, None))
    said = budget_page(held)
    assert "At least up to <b>10 years</b>, chips are worse" in said
    assert "1 year [1 h, above 10 years], by resampling chips" in said
    assert "<th scope='row'>1 s</th>" in said
    axis = budget_figure(held)["layout"]["xaxis"]
    assert (axis["type"], axis["title"]["text"], axis["ticktext"]) == (
        "log",
        "Age",
        ["1 s", "1 min", "1 h", "1 day", "30 days", "1 year", "10 years"],
    )
    assert axis["tickvals"][3] == 86_400
    assert "1 s" in out
    assert "e+0" not in out


def test_a_budget_of_a_chip_is_in_years_and_keeps_its_converters(samson, tmp_path: Path) -> None:
    """Against the library, whose family is written out here."""
    status, _, _ = samson(
        *("budget", "mine:network", "--data", "mine:batches", "--chip", "standard-hwa", "--max-drop", ".5"),
        *("--trials", 2, "--out", "budget.json"),
    )
    record = read_json(tmp_path / "budget.json", BudgetRecord)
    assert (status, record.family, record.unit, record.high) == (0, "standard-hwa", "s", 10 * 365 * 86_400)
    hwa, names = preset("standard-hwa"), mine()
    for row in record.measured:
        aged = replace(hwa, noise=replace(hwa.noise, time_s=row.kind.level))
        assert row.trials == evaluate(names["network"](), names["batches"](), aged, trials=2).trials
        assert (row.kind.time_s, row.kind.periphery) == (row.kind.level, repr(hwa.periphery))
    assert "dac_steps=254" in budget_page(record)


def test_the_commands_write_the_same_settings(samson, tmp_path: Path) -> None:
    call = "two:network", "--data", "two:batches", "--chip", "standard-hwa", "--trials", 2, "--select", "*", "--seed", 3
    seen = {}
    for command in ("evaluate", "budget", "sensitivity"):
        own = ("--max-drop", ".5", "--high", 2) if command == "budget" else ("--times", "1s")
        assert samson(command, *call, *own, "--out", "record.json", "--page", "page.html")[0] == 0
        record = json.loads((tmp_path / "record.json").read_text())
        [kind] = [record["kind"]] if "kind" in record else [record["measured"][0]["kind"]]
        _, _, what = (tmp_path / "page.html").read_text().partition("<h2>What was")
        names = [name.partition(":")[0] for name in re.findall(r"<th scope='row'>(.+?)</th>", what)]
        noise = kind["noise"].replace("time_s=1.0", "time_s=None")  # a level of a budget is the noise's own time
        seen[command] = record["subject"] | {"finished": ""}, noise, kind["periphery"], kind["time_s"]
        own_lines = {"Estimate of the crossing", "Without noise"}
        seen[command] += (sorted(set(names) - own_lines),)
    assert seen["evaluate"] == seen["sensitivity"] == seen["budget"]
    assert {"Periphery", "Noise", "Time", "Layers on the chip", "Batch norm"} <= set(seen["evaluate"][-1])


def test_a_budget_takes_a_noise_of_ones_own(samson, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NETWORK + "\nfrom samson.noise import Gaussian as own\n")
    call = "budget", "mine:network", "--data", "mine:batches", "--trials", 2, "--max-drop", ".1", "--out"
    for noise in ("mine:own", "gaussian"):
        assert samson(*call, f"{noise[:4]}.json", "--noise", noise)[0] == 0
    own, known = (read_json(tmp_path / f"{name}.json", BudgetRecord) for name in ("mine", "gaus"))
    assert (own.family, own.measured) == ("mine:own", known.measured)


def test_the_commands_have_one_list_of_options(samson) -> None:
    """Each has the same lines of help for the model, the noise and the setting, in one order."""
    commands = ("evaluate", "budget", "sensitivity")
    helps = {command: re.split(r"\n +(?=--)", samson(command, "--help")[1]) for command in commands}
    first, *others = ([" ".join(text.split()) for text in parts] for parts in helps.values())
    shared = [line for line in first if all(line in other for other in others)]
    assert all([line for line in other if line in shared] == shared for other in others)
    names = [line.split()[0] for line in shared]
    options = (
        "weights pretrained data split metric seed select read-block norms-on autocast device executor resume out page"
    )
    assert {f"--{name}" for name in (*options.split(), "noise", "chip", "data-root")} <= set(names)
    assert "--levels" not in names  # the check can fail: a budget looks for the level


@pytest.mark.parametrize("command", ["evaluate", "budget", "sensitivity", "calibrate"])
def test_the_model_is_put_on_the_device(samson, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """On a device that every machine has, and that holds no values."""
    call = command, "two:network", "--data", "two:batches", *(["--out", "k.toml"] if command == "calibrate" else [])
    monkeypatch.setattr("samson.experiments.find_device", torch.device)
    status, _, err = samson(*call, "--device", "meta")
    assert (status, "meta" in err) == (2, True), err


HALTING = """
import time
from pathlib import Path

class Halting(nn.Linear):
    def forward(self, x):
        while len(list(Path("chips").rglob("*.npy"))) >= 3 and not Path("go").exists():
            time.sleep(0.01)
        return super().forward(x)

def halting():
    torch.manual_seed(0)
    return Halting(6, 3)
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_ctrl_c_keeps_finished_chips_and_a_repetition_goes_on(samson, tmp_path: Path) -> None:
    """The network halts after three chips, until it is let go."""
    (tmp_path / "mine.py").write_text(NETWORK + HALTING)
    command = ["evaluate", "mine:halting", "--data", "mine:batches", "--levels", ".3,.4", "--trials", "8"]
    folder = tmp_path / "chips"
    process = start(*command, "--resume", folder, start_new_session=True)
    while len(list(folder.rglob("*.npy"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopped: finished chips are saved. Repeat the command to go on." in err

    def saved() -> dict[Path, int]:
        assert not list(folder.rglob("*.partial"))
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}

    before = saved()
    assert len(before) == 3
    (tmp_path / "go").touch()
    status, out, err = samson(*command, "--resume", folder, "--out", "resumed.json")
    after = saved()
    assert (status, len(after)) == (0, 16), err
    assert before.items() < after.items(), "nothing is written again"
    assert samson(*command, "--out", "alone.json")[1].replace("alone.json", "resumed.json") == out
    resumed, alone = (read_json(tmp_path / f"{name}.json", EvaluationRecord) for name in ("resumed", "alone"))
    assert resumed.measured == alone.measured
    status, _, err = samson(*command, "--seed", 1, "--resume", "chips")
    assert (status, "Traceback" in err) == (2, False)
    assert "holds trials of another evaluation; different: seed" in err


@pytest.mark.parametrize(
    "command", [("budget", "--low", ".1", "--max-drop", ".1"), ("sensitivity", "--max-drop", ".2")]
)
def test_a_repetition_takes_chips_from_the_folder(samson, tmp_path: Path, command: tuple[str, ...]) -> None:
    [name, *options] = command
    call = (name, "two:network", "--data", "two:batches", "--trials", 3, *options)
    expected = samson(*call)
    found = []
    for _ in range(2):
        assert samson(*call, "--resume", "chips")[:2] == expected[:2]
        found.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")})
    assert expected[0] == 0
    assert len(found[0]) >= 6
    assert found[0] == found[1]
