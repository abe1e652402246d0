"""Searched settings: the validation split alone chooses, methods have the same effort, and nothing is tried twice."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samson.evaluation import evaluate
from samson.experiments import (
    Plan,
    SetupError,
    compare_suite,
    environment,
    load_data_set,
    plan_suite,
    search_settings,
)
from samson.noise import Gaussian
from samson.records import SearchRecord, load_comparison
from tests.experiments.test_suites import content, forget, no_runs, working_in
from tests.experiments.test_tasks import OF_MANY
from tests.programs import samson

pytest.importorskip("optuna")

MINE = '''
from pathlib import Path

import torch
from torch import nn

from samson.experiments import DivergedError


def data():
    """The class is the sign of the first number; the third is always zero. Some files give a split other labels."""
    x = torch.randn(360, 3, generator=torch.Generator().manual_seed(5))
    x[:, 2] = 0
    parts = dict(zip(("train", "validation", "test"), x.split([40, 160, 160])))
    number = {name: int(Path(f"{name}.other").exists()) for name in parts}
    return {name: (part, (part[:, number[name]] > 0).long()) for name, part in parts.items()}


def line():
    return {name: (x, x[:, :1] * 2) for name, (x, _) in data().items()}


def network(outputs):
    return nn.Linear(3, outputs, bias=False)


def shaped(model, shape="exact"):
    return torch.optim.SGD(model.parameters(), lr=1.0)


def leaning(model, lean=0.0, outlier=0.0):
    return torch.optim.SGD(model.parameters(), lr=1.0)


SHAPES = {"poor": [1, 2, 0], "exact": [1, 0, 60], "robust": [1, 0.3, 0]}


def train(run):
    """Weights by hand: (1, lean, outlier). A lean costs accuracy; noise is as large as the largest weight."""
    settings = run.method.settings
    with Path("trained.txt").open("a") as file:
        file.write(f"{run.method.name} {list(settings.values())[0]} {run.seed}\\n")
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "kept.txt").touch()
    if Path("breaks").exists() and settings.get("lean") == 2:
        raise RuntimeError("no lean\\nof two")
    if settings.get("lean", 0) < 0 or (settings.get("lean") == 0.001 and run.seed == 1001):
        raise DivergedError(3)
    row = torch.tensor(SHAPES[settings["shape"]] if "shape" in settings else [1, settings["lean"], settings["outlier"]])
    row = row + torch.tensor([0, 0.02, 0]) * (run.seed % 1000)
    model = run.network()
    with torch.no_grad():
        model.weight.copy_(2 * row if model.out_features == 1 else torch.stack([-row, row]))
    run.progress(1, 1)
    return model
'''

SUITE: dict[str, Any] = {
    "data": "mine:data",
    "network": "mine:network",
    "train": "mine:train",
    "methods": [
        {"method": "mine:shaped", "shape": ["poor", "exact", "robust"]},
        {"method": "mine:leaning", "lean": [0.5, 0.0, 2]},
        {"method": "mine:leaning", "name": "fixed"},
    ],
    "chips": [{"noise": "gaussian", "levels": [0.1, 0.2]}, {"noise": "gaussian", "levels": [0.01], "name": "weak"}],
    "seeds": 2,
    "trials": 4,
    "chip_seed": 3,
    "recipe": {"batch_size": 8},
    "search": {"seeds": 2},
}
EIGHT: dict[str, Any] = {**SUITE, "methods": [{"method": "mine:leaning", "lean": [2, 0, 1, 0.5, 4, 3, 0.25, 0.125]}]}
"""One method with many choices, of which the second is the best."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with working_in(tmp_path, MINE):
        yield tmp_path


def searched(suite: dict[str, Any], folder: str = "out", **changes: Any) -> Plan:
    """A plan with its settings chosen."""
    plan = plan_suite({**suite, "search": {**suite["search"], **changes}})
    return search_settings(plan, Path(folder), processes=1, progress=lambda *_: None)


def records(folder: str = "out") -> dict[str, SearchRecord]:
    return {record.method: record for record in load_comparison(Path(folder)).searches}


def chosen(plan: Plan) -> dict[str, Any]:
    return {method.name: next(iter(method.settings.values())) for method in plan.problems[0].methods}


def trainings() -> list[list[str]]:
    """Method, setting and seed of each training that was begun."""
    path = Path("trained.txt")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def by_hand(shape: list[float], seed: int, noise: list[Gaussian]) -> float:
    """The accuracy on the validation split of the weights that the trainer makes, written again."""
    x = torch.randn(360, 3, generator=torch.Generator().manual_seed(5))[40:200]
    x[:, 2] = 0
    y = (x[:, 0] > 0).long()
    row = torch.tensor(shape) + torch.tensor([0, 0.02, 0]) * (seed % 1000)
    if not noise:
        return float(((x.numpy() @ row.numpy() > 0) == y.numpy()).mean())
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-row, row]))
    return float(np.mean([evaluate(model, (x, y), one, trials=4, seed=1003).trials for one in noise]))


SHAPES = {"poor": [1, 2, 0], "exact": [1, 0, 60], "robust": [1, 0.3, 0]}
CRITERIA = {
    "blind": ("exact", []),
    "gaussian": ("robust", [Gaussian(0.1), Gaussian(0.2)]),
    "weak": ("exact", [Gaussian(0.01)]),
}
"""The best shape, and the chips that say so: noise is as large as the largest weight, and strong drowns the others."""


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_best_on_the_validation_split_is_chosen(place: Path, criterion: str) -> None:
    best, noise = CRITERIA[criterion]
    plan = searched(SUITE, chosen_by=criterion)
    found = records()
    assert list(found) == ["leaning", "shaped"]
    for record in found.values():
        assert (record.search.chosen_by, record.search.sampler, record.split) == (criterion, "grid", "validation")
        assert len(record.tried) == record.search.trials == 3, "each method has the same effort"
        means = [np.mean(one.values) for one in record.tried]
        assert record.chosen == record.tried[int(np.argmax(means))].settings
    again = {shape: [by_hand(row, seed, noise) for seed in (1000, 1001)] for shape, row in SHAPES.items()}
    for one in found["shaped"].tried:
        assert one.values == pytest.approx(again[one.settings["shape"]])
    assert max(again, key=lambda shape: np.mean(again[shape])) == best
    assert chosen(plan) == {"shaped": best, "leaning": 0.0, "fixed": 0.0}
    assert not any(method.candidates for method in plan.problems[0].methods)
    assert plan.problems[0].methods[2] == plan_suite(SUITE).problems[0].methods[2]


def test_of_equal_choices_the_later_is_taken(place: Path) -> None:
    for values, wanted in (([2, 0, 1e-9], 1e-9), ([2, 1e-9, 0], 0.0)):
        suite = {**SUITE, "methods": [{"method": "mine:leaning", "lean": values}]}
        plan = searched(suite, f"of{wanted}", chosen_by="blind")
        [record] = records(f"of{wanted}").values()
        by_value = {one.settings["lean"]: one.values for one in record.tried}
        assert by_value[0.0] == by_value[1e-9] != by_value[2.0]
        assert chosen(plan) == {"leaning": wanted}


@pytest.mark.parametrize("criterion", ["blind", "gaussian"])
def test_the_test_split_chooses_nothing(place: Path, criterion: str) -> None:
    def found(folder: str) -> tuple[dict[str, Any], list[Any]]:
        load_data_set.cache_clear()
        plan = searched(SUITE, folder, chosen_by=criterion)
        return chosen(plan), [(one.settings, one.values) for record in records(folder).values() for one in record.tried]

    before = found("before")
    Path("test.other").touch()
    assert found("test") == before
    Path("test.other").unlink()
    Path("validation.other").touch()
    after = found("validation")
    assert after[0] == {"shaped": "poor", "leaning": 2.0, "fixed": 0.0}
    assert after != before, "the check can fail"


def test_the_lowest_is_best_where_that_is_better(place: Path) -> None:
    methods = [{"method": "mine:leaning", "lean": [2.0, 0.0, 0.5]}]
    plan = searched({**SUITE, "data": "mine:line", "methods": methods})
    [record] = records().values()
    assert (record.problem.metric, record.problem.higher_is_better) == ("mse", False)
    values = [np.mean(one.values) for one in record.tried]
    assert values[0] > values[2] > values[1]
    assert chosen(plan) == {"leaning": 0.0}


def test_seeds_and_chips_of_the_search_are_others_than_those_of_the_runs(place: Path) -> None:
    found = compare_suite(SUITE, "out")
    assert not found.failures
    begun = trainings()
    searches, runs = begun[:12], begun[12:]
    assert sorted(searches) == sorted(
        [name, value, seed]
        for name, values in (("shaped", ("poor", "exact", "robust")), ("leaning", ("0.5", "0.0", "2.0")))
        for value in values
        for seed in ("1000", "1001")
    )
    assert runs == [
        [*run, seed] for seed in ("0", "1") for run in (["shaped", "exact"], ["leaning", "0.0"], ["fixed", "0.0"])
    ]
    assert [record.settings.get("shape") for record in found.records if record.method == "shaped"] == ["exact"] * 2
    assert not (place / "out" / "unfinished").exists(), "what trainings of the search kept goes with it"
    compare_suite(SUITE, "out", runner=no_runs)
    assert trainings() == begun


SAMPLERS = {"random": 5, "tpe": 7}
"""Those that draw, and how many choices; a grid is tried in its order, as what was drawn at random is."""


def changes(sampler: str) -> dict[str, Any]:
    return {"sampler": sampler, "trials": SAMPLERS[sampler]}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_different_choices_are_drawn_the_same_ones_again(place: Path, sampler: str) -> None:
    first, again = (searched(EIGHT, folder, **changes(sampler)) for folder in ("one", "two"))
    tried = [one.settings["lean"] for one in records("one")["leaning"].tried]
    assert len(set(tried)) == len(tried) == SAMPLERS[sampler]
    assert set(tried) <= {2, 0, 1, 0.5, 4, 3, 0.25, 0.125}
    assert records("one") == records("two")
    assert chosen(first) == chosen(again)
    assert len(trainings()) == 2 * 2 * SAMPLERS[sampler]
    methods = [*EIGHT["methods"], {**EIGHT["methods"][0], "name": "other"}]
    searched({**EIGHT, "methods": methods}, "more", **changes(sampler))
    found = records("more")
    assert found["leaning"].tried == records("one")["leaning"].tried, "another method changes nothing"
    if sampler == "random":
        assert [one.settings for one in found["other"].tried] != [one.settings for one in found["leaning"].tried]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_an_interruption_nothing_is_tried_again(place: Path, sampler: str) -> None:
    whole = searched(EIGHT, "whole", **changes(sampler))
    once = trainings()
    Path("trained.txt").unlink()

    def stop(name: str, *_: object) -> None:
        if len(trainings()) == 6:  # in the second training of the third choice
            raise KeyboardInterrupt

    plan = plan_suite({**EIGHT, "search": {**EIGHT["search"], **changes(sampler)}})
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search_settings(plan, Path("out"), processes=1, progress=stop)
        assert trainings() == once[:6]
        assert not list(Path("out").rglob("search/*/*.json"))
        Path("trained.txt").write_text("\n".join(" ".join(each) for each in once[:4]) + "\n")
    after = searched(EIGHT, **changes(sampler))
    assert trainings() == once, "each choice once: the third from its start, and then the others"
    assert chosen(after) == chosen(whole)
    assert records() == records("whole")


def test_half_a_line_that_a_full_disk_left_is_no_hindrance(place: Path) -> None:
    whole = chosen(searched(SUITE))
    log = Path("out", "search", "optuna.log")
    log.write_bytes(log.read_bytes()[:-30])
    once = trainings()
    for _ in range(2):
        assert chosen(searched(SUITE)) == whole
        assert trainings() == [*once, *once[-2:]], "the last choice alone is tried again"


def test_a_choice_that_two_commands_tried_counts_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both asked what to try before either had told what came of it."""
    from samson.experiments import _search

    ask = _search._MethodSearch.ask
    suite = {**SUITE, "methods": [{"method": "mine:leaning", "lean": [0.5, 0.0, 2]}]}
    first = True

    def beaten(search: Any) -> Any:
        nonlocal first
        asked = ask(search)
        if first:
            first = False
            searched(suite)
        return asked

    monkeypatch.setattr(_search._MethodSearch, "ask", beaten)
    assert chosen(searched(suite)) == {"leaning": 0.0}
    assert len(trainings()) == 2 * len(records()["leaning"].tried) * 2 == 12


def test_another_search_is_one_of_its_own(place: Path) -> None:
    """Where it chooses the same, runs go on; else the folder is refused, and says of its runs what it said."""

    def said() -> dict[str, bytes]:
        held = content(Path("out"))
        return {name: held[name] for name in held if "optuna" not in name and not name.startswith("unfinished")}

    suite = {**SUITE, "methods": [{"method": "mine:leaning", "lean": [0.5, 0.0, 2]}], "search": {}}
    compare_suite(suite, "out")
    begun = trainings()
    wider = {**suite, "methods": [{"method": "mine:leaning", "lean": [0.5, 0.0, 2, 1]}]}
    compare_suite(wider, "out", runner=no_runs)
    assert [each[1] for each in trainings()[len(begun) :]] == ["0.5", "0.0", "2.0", "1.0"]
    assert len(records()["leaning"].tried) == 4
    kept = said()
    other = {**suite, "methods": [{"method": "mine:leaning", "lean": [0.5, 2]}]}
    with pytest.raises(SetupError, match=r"different: leaning\.lean \(first in data-network, leaning\)"):
        compare_suite(other, "out", runner=no_runs)
    assert said() == kept
    fixed = {key: value for key, value in suite.items() if key != "search"}
    fixed["methods"] = [{"method": "mine:leaning", "lean": 0.5}]
    with pytest.raises(SetupError, match="different: leaning.lean"):
        compare_suite(fixed, "out", runner=no_runs)
    begun = trainings()
    compare_suite(suite, "out", runner=no_runs)
    assert trainings() == begun, "the first search is still known"


def test_what_a_search_chose_may_be_said_without_it(place: Path) -> None:
    """The chips by which it chose, in the folder's plan, are no chips of the runs that are left out."""
    method = {"method": "mine:leaning", "lean": [0.5, 0.0, 2]}
    found = compare_suite({**SUITE, "methods": [method], "search": {"chosen_by": "gaussian"}}, "out")
    fixed = {key: value for key, value in SUITE.items() if key != "search"}
    fixed["methods"] = [{**method, "lean": found.records[0].settings["lean"]}]
    assert compare_suite(fixed, "out", runner=no_runs).records == found.records


def test_what_diverges_is_not_chosen(place: Path) -> None:
    methods = [{"method": "mine:leaning", "lean": [-1, 2, -2]}]
    plan = searched({**SUITE, "methods": methods})
    assert chosen(plan) == {"leaning": 2.0}
    assert [one.values[0] is None for one in records()["leaning"].tried] == [True, False, True]
    methods = [{"method": "mine:leaning", "lean": [-1, -2]}]
    with pytest.raises(
        SetupError, match="data-network/leaning: training diverged with every choice.\nTry a smaller lr"
    ):
        searched({**SUITE, "methods": methods}, "other")
    assert not records("other")


def test_what_diverges_with_one_of_several_seeds_is_not_chosen(place: Path) -> None:
    plan = searched({**SUITE, "methods": [{"method": "mine:leaning", "lean": [0.001, 2]}]})
    assert chosen(plan) == {"leaning": 2.0}
    assert [one.values[1] is None for one in records()["leaning"].tried] == [True, False]


@pytest.mark.parametrize("criterion", ["blind", "gaussian"])
def test_a_metric_without_a_value_on_the_validation_split_is_no_divergence(tmp_path: Path, criterion: str) -> None:
    suite = {**OF_MANY, "methods": [{"method": "sgd", "lr": [0.1, 0.2]}], "search": {"chosen_by": criterion}}
    with pytest.raises(
        SetupError, match="search for .*/sgd failed with .*'rare' has no finite value on the validation"
    ):
        compare_suite(suite, tmp_path / "out")


@pytest.mark.parametrize("other", [{"search": {"seeds": 2}}, {"methods": [{"outlier": 60}]}])
def test_nothing_of_a_search_by_other_chips_or_with_other_settings_is_taken(place: Path, other: dict[str, Any]) -> None:
    leaning = {"method": "mine:leaning", "lean": [0.5, 0.0, 2]}
    suite = {**SUITE, "methods": [leaning], "search": {"seeds": 2, "chosen_by": "gaussian"}}
    changed = {**suite, **other}
    changed["methods"] = [leaning | more for more in other.get("methods", [{}])]
    fresh = searched(changed, "fresh")
    searched(suite)
    before = records()["leaning"].tried
    assert chosen(searched(changed)) == chosen(fresh)
    assert records()["leaning"].tried == records("fresh")["leaning"].tried
    assert [one.values for one in records()["leaning"].tried] != [one.values for one in before]


def test_what_raises_is_told_in_a_few_words(place: Path) -> None:
    Path("breaks").touch()
    with pytest.raises(SetupError) as error:
        searched(SUITE)
    said = str(error.value)
    assert len(said.splitlines()) <= 4
    for words in ("data-network/leaning", "RuntimeError: no lean", "2"):
        assert words in said
    begun = trainings()
    Path("breaks").unlink()
    assert chosen(searched(SUITE))["leaning"] == 0.0
    assert trainings()[len(begun) :] == [["leaning", "2.0", "1000"], ["leaning", "2.0", "1001"]]


def test_a_disk_that_fails_is_no_bad_input(place: Path) -> None:
    Path("out").mkdir()
    Path("out", "unfinished").touch()
    with pytest.raises(OSError, match="The search for data-network/shaped failed with .*Error: "):
        searched(SUITE)
    Path("out", "unfinished").unlink()
    assert chosen(searched(SUITE))["leaning"] == 0.0


def test_the_command_searches_and_the_report_says_how(place: Path) -> None:
    Path("suite.toml").write_text(
        """
data = "mine:data"
network = "mine:network"
train = "mine:train"
seeds = 1
trials = 2
methods = [{method = "mine:shaped", shape = ["poor", "exact", "robust"]}, "mine:leaning"]
chips = [{noise = "gaussian", levels = [0.1]}]
recipe = {batch_size = 8}
search = {sampler = "random", trials = 3, chosen_by = "gaussian"}
"""
    )
    torch.set_num_threads(2)  # as the search, which is not in one thread, has it
    try:
        assert environment("cpu").threads == 2
        status, _, err = samson("compare", "suite.toml", "--out", "out", "--jobs", 1, "--quiet")
    finally:
        torch.set_num_threads(1)
    assert status == 0, err
    assert {record.environment.threads for record in load_comparison(Path("out")).records} == {1}
    page = Path("out", "report.html").read_text()
    assert "on chips of the family gaussian (informed), in 3 choices for each method, drawn by “random”" in page
    [tried] = re.findall(r"data-network: shaped</th>\s*<td>shape robust</td>\s*<td>(.*?)</td>", page)
    assert sorted(re.findall(r"shape (\w+): ", tried)) == ["exact", "poor", "robust"]
    assert re.findall(r"<b>shape (\w+): ", tried) == ["robust"]
    assert "data-network: leaning" not in page


def test_a_missing_package_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SetupError, match=r'pip install .* "\.\[search\]"'):
        searched(SUITE)
    assert not trainings()
    forget()
