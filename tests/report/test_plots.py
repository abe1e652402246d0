"""What all plots have in common: plotly takes them, and methods stand in one order with one colour each."""

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, product

import pytest
from plotly.graph_objects import Figure

from samson.records import ChipKind, Interval, PairedMethod, PairedRecord, RunRecord
from samson.report import (
    Overview,
    accuracy_table,
    against_each,
    budget_figure,
    budget_page,
    chips_figure,
    evaluation_page,
    figure_of,
    gain_figure,
    gain_table,
    level_figure,
    paired_figure,
    paired_page,
    rank_figure,
    render,
    render_sharpness,
    robustness_figure,
    sensitivity_figure,
    sensitivity_page,
    sharpness_figure,
    summary_csv,
    training_figure,
    view,
    views,
    yield_figure,
)
from tests.builders import SUBJECT, comparison, record, records, unpacked, with_plan
from tests.report import test_evaluation_page, test_sensitivity, test_sharpness_report
from tests.report.colours import contrast, rgb
from tests.report.test_report import in_bits
from tests.report.test_summary import three

EVALUATION = test_evaluation_page.RECORD
BUDGET = test_evaluation_page.BUDGET
PAIRED = PairedRecord(
    SUBJECT,
    ChipKind("Gaussian(0.1)", "Gaussian(0.1)"),
    "sgd",
    tuple(
        PairedMethod(name, ((mean - 0.1, mean + 0.1),), (0.99,), Interval(mean, mean - 0.05, mean + 0.05), *gain, True)
        for name, mean, gain in (
            ("sgd", 0.6, (None, None, "")),
            ("samson", 0.8, (Interval(0.2, 0.1, 0.3), 0.01, "these two networks")),
        )
    ),
)
PLOTS = {
    "robustness": lambda: robustness_figure(view(three())),
    "gain": lambda: gain_figure(view(three())),
    "chips": lambda: chips_figure(view(three())),
    "training": lambda: training_figure(view(three())),
    "ranks": lambda: rank_figure(Overview(views([*records(), *map(in_bits, records())]))),
    "levels": lambda: level_figure(EVALUATION),
    "yields": lambda: yield_figure(EVALUATION),
    "budget": lambda: budget_figure(BUDGET),
    "ages": lambda: budget_figure(replace(BUDGET, unit="s")),
    "paired": lambda: paired_figure(PAIRED),
    "sensitivity": lambda: sensitivity_figure(test_sensitivity.made()),
    "sharpness": lambda: sharpness_figure(test_sharpness_report.made(), "sam worst"),
}


PAGES = {
    "comparison": lambda: render(comparison(records())),
    "evaluation": lambda: evaluation_page(EVALUATION),
    "budget": lambda: budget_page(BUDGET),
    "paired": lambda: paired_page(PAIRED),
    "sensitivity": lambda: sensitivity_page(test_sensitivity.made()),
    "sharpness": lambda: render_sharpness(test_sharpness_report.made()),
}


class Links(HTMLParser):
    """The places that a page names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_methods_on_the_same_chips_have_no_best_where_they_are_equal() -> None:
    plain, samson = PAIRED.methods
    for methods, said in (
        ((plain, replace(plain, name="again")), "No method is ahead: the mean is 60.0."),
        ((plain, samson, replace(samson, name="again")), "samson and again share the best mean: 80.0."),
        ((plain, samson), "samson has the best mean: 80.0 [75.0, 85.0]."),
    ):
        assert f'<p class="lead">{said}</p>' in paired_page(replace(PAIRED, methods=methods))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_file_that_opens_offline(name: str) -> None:
    """And every part of its template is filled."""
    page = unpacked(PAGES[name]())
    assert Links(page).found == []
    assert Links('<img src="a.png"><link href=b.css>').found == ["a.png", "b.css"]  # the check can fail
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    assert "$" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def test_plots_and_tables_have_names_for_who_does_not_see_them() -> None:
    """The plots' are of their axes, and stand without the marks that plotly reads."""
    for name, make in PAGES.items():
        page = unpacked(make())
        parts = re.findall(r"<div class='(?:plot|scroll)'[^>]*>", page)
        assert parts
        assert all(re.search(r" role='(img|group)' aria-label='[^'<]+'", part) for part in parts), name
    sensitivity, sharpness, evaluation = (
        unpacked(PAGES[name]()) for name in ("sensitivity", "sharpness", "evaluation")
    )
    assert "aria-label='Points of accuracy, positive: worse with noise, or better if digital'" in sensitivity
    assert (
        "aria-label='Accuracy (%), test split by Rise of the loss in the ball of sam, ρ = 0.05, 8 steps'" in sharpness
    )
    assert "aria-label='Share of chips (%) by At least this accuracy (%)'" in evaluation
    assert ("aria-label='Layer table'" in sensitivity, "aria-label='facts table'" in sensitivity) == (True, True)
    quoted = replace(EVALUATION, subject=replace(SUBJECT, metric="<b>'s"))
    assert "aria-label='Share of chips (%) by At least this &lt;b&gt;&#x27;s (%)'" in evaluation_page(quoted)


@pytest.mark.parametrize("name", PLOTS)
def test_plotly_takes_every_plot(name: str) -> None:
    """It refuses a setting that it does not know, here and below."""
    plot = PLOTS[name]()
    figure = Figure(plot)
    assert len(figure.data) == len(plot["data"]) > 0
    for wrong in ({"data": [plot["data"][0] | {"colour": 1}]}, {"layout": plot["layout"] | {"colour": 1}}):
        with pytest.raises(ValueError, match="colour"):
            Figure(wrong)


def order_in(plot: dict) -> list[str]:
    return list(dict.fromkeys(trace["name"] for trace in plot["data"] if "name" in trace))


@pytest.mark.parametrize("turned", [False, True])
def test_methods_stand_in_the_order_of_their_mean_under_noise(turned: bool) -> None:
    """The same in every plot and table; for a metric that is better lower it is the other way round on its values."""
    found = view([in_bits(run) for run in three()] if turned else three())
    expected = ["samson", "clip", "sgd"]
    for figure in (robustness_figure, chips_figure, training_figure):
        assert order_in(figure(found)) == expected
    assert order_in(gain_figure(found)) == expected[:-1]
    assert re.findall(r"<th scope='row'>(.*?)</th>", accuracy_table(found)) == expected
    assert re.findall(r"<th scope='row'>(.*?)</th>", gain_table(found)) == expected[:-1]
    assert [line.split(",")[2] for line in summary_csv([found]).splitlines()[1::3]] == expected
    swapped = {"samson": "sgd", "sgd": "samson", "clip": "clip"}
    other = view([replace(run, method=swapped[run.method]) for run in three()])
    assert order_in(robustness_figure(other)) == ["sgd", "clip", "samson"]
    assert order_in(paired_figure(PAIRED)) == ["samson", "sgd"]
    assert re.findall(r"<th scope='row'>(.*?)</th>", paired_page(PAIRED))[:3] == ["samson", "sgd", "Model"]
    lower = replace(PAIRED, subject=replace(SUBJECT, higher_is_better=False))
    assert order_in(paired_figure(lower)) == ["sgd", "samson"]
    assert "<th scope='col'>accuracy (%, less is better) on chips</th>" in paired_page(lower)


def test_a_method_has_one_colour_in_all_plots() -> None:
    found = view(three())
    plots = [robustness_figure(found), training_figure(found), *map(gain_figure, against_each(found))]
    colours = {
        (trace["name"], trace["line"]["color"]) for plot in plots for trace in plot["data"] if "name" in trace
    } | {(trace["name"], trace["marker"]["color"]) for trace in chips_figure(found)["data"]}
    assert len(colours) == len({colour for _, colour in colours}) == 3
    assert ("sgd", "#6b7280") in colours  # grey is the baseline


def many(costs: dict[str, int] | None = None, **means: tuple[float, float]) -> list[RunRecord]:
    """A run of each method and seed, with its mean; where no cost is said, it is of 100 gradients."""
    plan = with_plan(methods={name: {} for name in means}, seeds=2)
    runs = [
        record(name, seed, [[0.99], *[[of[seed] + 0.01, of[seed], of[seed] - 0.01]] * 2], plan)
        for name, of in means.items()
        for seed in (0, 1)
    ]
    return [replace(r, training=replace(r.training, gradients=(costs or {}).get(r.method, 100))) for r in runs]


TWENTY = {f"method-{number}": (0.5 + number / 100, 0.52 + number / 100) for number in range(19)}


def test_no_two_of_twenty_methods_look_alike() -> None:
    """In plots with lines the dash tells those of one colour apart, else the symbol; no two colours are close."""
    found = view(many(sgd=(0.4, 0.42), **TWENTY))
    sharp = replace(
        test_sharpness_report.made(),
        networks=tuple(replace(test_sharpness_report.made().networks[0], method=name) for name in ("sgd", *TWENTY)),
    )
    lines = [
        [(trace["line"]["color"], trace["line"].get("dash")) for trace in figure["data"] if "name" in trace]
        for figure in (robustness_figure(found), gain_figure(found))
    ]
    means = [trace for trace in training_figure(found)["data"] if trace["line"]["width"] > 1]
    lines.append([(trace["line"]["color"], trace["line"].get("dash")) for trace in means])
    dots = [
        (trace["marker"]["color"], trace["marker"].get("symbol")) for trace in sharpness_figure(sharp, "loss")["data"]
    ]
    assert [len(of) for of in (*lines, dots)] == [20, 19, 20, 20]
    for looks in (*lines, dots):
        for (one, first), (other, second) in combinations(looks, 2):
            assert first != second or math.dist(rgb(one), rgb(other)) > 0.2, (one, other, first)
    for trace in robustness_figure(found)["data"]:
        if trace.get("mode") == "lines+markers":
            assert (trace["line"]["dash"] == "solid") == (trace["marker"]["symbol"] == "circle")


def test_every_colour_is_seen_on_white_and_on_dark() -> None:
    """By WCAG at least 3 : 1, for lines and marks."""
    found = view(many(sgd=(0.4, 0.42), **TWENTY))
    papers = re.findall(r"--paper: (#\w+)", render(comparison(records())))
    assert len(papers) == 2
    colours = {trace["line"]["color"] for trace in robustness_figure(found)["data"] if "name" in trace}
    assert len(colours) > 5
    for colour, paper in product(colours, papers):
        assert contrast(rgb(colour), rgb(paper)) >= 3, (colour, paper)


def test_of_many_methods_the_few_that_matter_have_bands() -> None:
    """The baseline, the best, and the one to take, which is as good for half of the gradients."""
    best, taken = (0.82, 0.83), (0.80, 0.84)
    runs = many({"best": 200}, sgd=(0.4, 0.42), best=best, taken=taken, **dict(list(TWENTY.items())[:6]))
    few, band, of_seed = {"best", "taken", "sgd"}, 0, 0.8

    def drawn(plot: dict, width: float) -> list[str]:
        return [trace["legendgroup"] for trace in plot["data"] if trace["line"]["width"] == width]

    found = view(runs)
    assert set(drawn(robustness_figure(found), band)) == few
    assert drawn(gain_figure(found), band) == ["best", "taken"]
    for figure in (robustness_figure, training_figure):
        assert sorted(drawn(figure(found), of_seed)) == sorted([*few] * 2)
        assert len(order_in(figure(found))) == 9
    html = unpacked(render(comparison(runs)))
    assert html.count("of best, taken and sgd alone, since there are many methods") == 2
    gains = [json.loads(text) for text in re.findall(r"data-plot='gain-0-\d+'>(.*?)</script>", html)]
    bands = [{trace["legendgroup"] for trace in plot["data"] if trace["line"]["width"] == band} for plot in gains]
    assert sorted(map(sorted, bands)) == sorted(sorted(few - {baseline}) for baseline in found.table)
    eight = [run for run in runs if run.method != "method-0"]
    assert len(set(drawn(robustness_figure(view(eight)), band))) == 8
    assert "since there are many" not in render(comparison(eight))


def test_a_training_that_ended_early_has_its_part_of_the_curve() -> None:
    """As a trainer of one's own may; the mean is over those that reached the epoch."""
    losses = ((4.0, 3.0, 2.0), (2.0,))
    found = view([replace(r, training=replace(r.training, loss=losses[r.seed])) for r in records()])
    curves = [trace["y"] for trace in training_figure(found)["data"] if trace["name"] == "sgd"]
    assert curves == [[3.0, 3.0, 2.0], [4.0, 3.0, 2.0], [2.0]]


def test_a_number_that_is_not_finite_is_left_out() -> None:
    """JSON has none; a browser would refuse the plot."""
    first, *others = records()
    first = replace(first, training=replace(first.training, loss=(math.nan, 0.123456789)))
    others = [replace(run, training=replace(run.training, loss=(1.0, 0.5))) for run in others]
    text = re.search(r"data-plot='training-0'>(.*?)</script>", render(comparison([first, *others]))).group(1)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = [trace["y"] for trace in json.loads(text, parse_constant=refuse)["data"] if trace["name"] == "sgd"]
    assert lines[0][0] is None
    assert lines[1] == [None, 0.12346]
    with pytest.raises(AssertionError, match="NaN"):
        json.loads("[NaN]", parse_constant=refuse)


def test_without_plotly_a_figure_names_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r'A figure needs plotly: pip install .* "\.\[cli\]"'):
        figure_of(robustness_figure(view(records())))
