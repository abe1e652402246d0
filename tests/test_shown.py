"""What one sees at the prompt and in a notebook: at most ten lines that say what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from samson import SAM, SAMSON, Lookbehind, NoiseInjection, RhoSchedule, SharpnessAware, param_groups
from samson.evaluation import Compared, Evaluation, Sensitivity, compare, evaluate, family, noise_budget, sensitivity
from samson.noise import PRESETS, Coverage, Gaussian, deploy
from samson.records import Comparison, RhoPoint, RhoRecord, RunRecord, Search, SearchRecord, SensitivityRecord, Tried
from samson.sharpness import random_landscape, worst_case_rise
from samson.statistics import Trials, rank_correlation
from tests import builders
from tests.builders import ENVIRONMENT
from tests.report import test_evaluation_page, test_plots, test_sensitivity, test_sharpness_report

LAYERS = 30
NAME = "<script>alert('&')</script>"
"""A name that is code where it is not escaped."""


@cache
def deep() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(6, 6) for _ in range(LAYERS)])


@cache
def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(100, 6), torch.randint(6, (100,))


@cache
def _evaluated() -> Evaluation:
    return evaluate(deep(), data(), Gaussian(0.1), trials=20)


@cache
def _ranked() -> Sensitivity:
    return sensitivity(deep(), data(), Gaussian(0.1), trials=3, max_drop=0.9)


@cache
def _paired() -> Compared:
    methods = {f"{NAME}{number}": copy.deepcopy(deep()) for number in range(12)}
    return compare(methods, data(), Gaussian(0.1), trials=3)


RESULTS: dict[str, Callable[[], object]] = {
    "Evaluation": _evaluated,
    "Budget": lambda: noise_budget(deep(), data(), Gaussian, 0.01, 0.5, trials=3, max_drop=0.1),
    "Sensitivity": _ranked,
    "Suggestion": lambda: _ranked().suggestion,
    "LayerRecord": lambda: _ranked().rows[0],
    "Attempt": lambda: _ranked().suggestion.chosen,
    "Compared": _paired,
    "Difference": lambda: _paired().difference(f"{NAME}0", f"{NAME}1"),
    "Family": lambda: family({str(i): _paired() for i in range(2)}, f"{NAME}0"),
    "Trials": lambda: Trials([0.5] * 500),
    "WorstCase": lambda: worst_case_rise(deep(), data(), SAMSON(rho=0.1), steps=40),
    "Landscape": lambda: random_landscape(deep(), data(), [i / 50 for i in range(50)], directions=2),
    "RankCorrelation": lambda: rank_correlation(
        *[{str(i): [i + 0.1 * j for j in range(3)] for i in range(8)} for _ in range(2)], resamples=100
    ),
}


def _runs(methods: int) -> list[RunRecord]:
    families = tuple(builders.family(tuple(i / 20 for i in range(1, 20)), f"noise {i}") for i in range(12))
    measured = ((((0.5,) * 3,) * 19),) * 12
    return [
        replace(run, method=f"method-{number}", families=families, measured=measured)
        for number in range(methods)
        for run in builders.records()[:2]
    ]


def _many_rows() -> SensitivityRecord:
    record = test_sensitivity.made()
    return replace(record, rows=tuple(replace(record.rows[0], name=f"layer{i}") for i in range(152)), suggestion=None)


RECORDS: dict[str, Callable[[], object]] = {
    "Comparison": lambda: Comparison(tuple(_runs(50)), 100),
    "RunRecord": lambda: _runs(1)[0],
    "Configuration": lambda: builders.PLAN,
    "EvaluationRecord": lambda: test_evaluation_page.RECORD,
    "BudgetRecord": lambda: replace(test_plots.BUDGET, measured=test_plots.BUDGET.measured * 20),
    "SensitivityRecord": _many_rows,
    "PairedRecord": lambda: replace(test_plots.PAIRED, methods=test_plots.PAIRED.methods * 30),
    "SharpnessRecord": test_sharpness_report.made,
    "SearchRecord": lambda: SearchRecord(
        builders.PROBLEM,
        "sgd",
        Search(99),
        {"lr": (0.1,)},
        (Tried({"lr": 0.1}, (0.9,)),) * 99,
        {"lr": 0.1},
        ENVIRONMENT,
    ),
    "RhoRecord": lambda: RhoRecord(
        builders.PROBLEM, "samson", {}, 0, 2.3, (RhoPoint(0.1, 1.0, 2.0),) * 99, 0.2, ENVIRONMENT
    ),
}
"""Records hold every trial; what they show of it is as short as a result."""


@pytest.mark.parametrize("name", [*RESULTS, *RECORDS])
def test_a_result_shows_itself(name: str) -> None:
    found = (RESULTS | RECORDS)[name]()
    lines = repr(found).splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 160
    assert lines[0].startswith(f"{name}: ")
    assert "array(" not in repr(found)
    everything = str(found).splitlines()  # `print` leaves out nothing, and no result shows less than it could
    assert len(lines) == min(10, len(everything))
    assert (f"{len(everything) - 9} more lines" in lines[-1]) == (len(everything) > 10)


@pytest.mark.parametrize("name", ["Compared", "Difference", "Evaluation"])
def test_a_notebook_shows_the_same_text_and_runs_no_code(name: str) -> None:
    found = RESULTS[name]()
    tags: list[str] = []
    text: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag) or (attributes and tags.append("?"))
    parser.handle_data = text.append
    parser.feed(found._repr_html_())
    assert set(tags) <= {"pre"}  # no script, no attribute, nothing that a browser fetches
    assert "".join(text) == repr(found)
    if name != "Evaluation":
        assert NAME in repr(found)


@pytest.mark.parametrize(
    ("wrap", "rule"),
    [
        (SharpnessAware, SAM(rho=0.1)),
        (SharpnessAware, SAMSON(rho=0.1)),
        (SharpnessAware, NoiseInjection(Gaussian(0.1))),
        (Lookbehind, SAMSON(rho=0.1)),
    ],
)
def test_an_optimizer_says_what_it_does(wrap: type, rule: object) -> None:
    groups = [{"params": [named], "lr": 0.1 + i} for i, named in enumerate(deep().named_parameters())]
    assert repr(torch.optim.SGD(groups)).count("\n") > 100  # what torch shows
    found = repr(wrap(torch.optim.SGD(groups), rule))
    assert found.count("\n") < 10
    assert found.startswith(f"{wrap.__name__}(SGD, {type(rule).__name__}(")
    assert f"{sum(p.numel() for p in deep().parameters()):,} weights in {2 * LAYERS} groups" in found


def test_a_schedule_says_where_it_is() -> None:
    model = deep()
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=0.4))
    schedule = RhoSchedule(optimizer, "linear", 4)
    schedule.step()
    assert repr(schedule) == "RhoSchedule: 1 of 4 steps done, rho 0.1"
    assert "rho 0.1" in repr(optimizer)  # what counts, not what the rule started with


def test_a_chip_says_what_it_is() -> None:
    found = repr(deploy(deep(), Gaussian(0.1), seed=3, trial=7))
    assert found.startswith(f"Chip: number 7 of seed 3, {LAYERS} weight matrices, Gaussian(")


@pytest.mark.parametrize("name", PRESETS)
def test_a_kind_of_chip_fits_in_ten_lines_of_a_terminal(name: str) -> None:
    assert len(repr(PRESETS[name])) <= 10 * 80


def test_no_share_is_all_where_something_is_missing() -> None:
    """One weight of a million is not on the chip; ten tenths are the whole, though floats add up to less."""
    assert (
        str(Coverage(999_999, 1_000_000, multiply_adds=0.99999)) == "99.99% of the weights, 99.99% of the multiply-adds"
    )
    assert str(Coverage(5, 5, multiply_adds=sum([0.1] * 10))) == "100% of the weights, 100% of the multiply-adds"
