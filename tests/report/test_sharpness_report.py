"""Sharpness against robustness: the figure and the page, from a record made by hand."""

import re
from dataclasses import replace

import pytest

from samson.records import CorrelationRow, Interval, NetworkSharpness, SharpnessRecord, SharpnessSettings
from samson.report import correlation, render_sharpness, sharpness_figure
from tests.builders import ENVIRONMENT, PROBLEM, family

METHODS = ("sgd", "sam", "<b>asam")


def exact(value: float) -> Interval:
    return Interval(value, value, value)


def made(loss: float = 0.5) -> SharpnessRecord:
    rows = tuple(
        CorrelationRow("sam worst", level, Interval(-0.6, -0.8, high), Interval(-0.7, -0.9, high), -1.0, -1.0, 6, 3)
        for level, high in (("clean", 0.1), ("0.1", -0.2), ("0.2", 0.3))
    )
    networks = tuple(
        NetworkSharpness(
            method,
            seed,
            {"loss": exact(loss - i / 2), "sam worst": exact(1.0 + i + seed / 10)},
            (0.9, 0.8, 0.6 + i / 10),
        )
        for i, method in enumerate(METHODS)
        for seed in (0, 1)
    )
    settings = SharpnessSettings("train", 1078, {"sam": {"rho": 0.05}}, 8, "gaussian", "0.1", 20, 0)
    return SharpnessRecord(PROBLEM, family(), 3, settings, "test", networks, rows, 0.95, ENVIRONMENT)


def test_the_figure_holds_the_numbers() -> None:
    figure = sharpness_figure(made(), "sam worst")
    assert [trace["name"] for trace in figure["data"]] == list(reversed(METHODS))  # the most robust first
    right = [replace(n, accuracies=(1.0 - 0.3 * (n.method != "sgd"), *n.accuracies[1:])) for n in made().networks]
    ordered = sharpness_figure(replace(made(), networks=tuple(right)), "sam worst")  # without noise sgd is the best
    assert [trace["name"] for trace in ordered["data"]] == list(reversed(METHODS))
    assert figure["data"][1]["x"] == [2.0, 2.1]
    assert figure["data"][1]["y"] == pytest.approx([80.0, 80.0])  # the second-largest level is shown at first
    assert (
        "Kendall −0.60 [−0.80, −0.20], Spearman −0.70 [−0.90, −0.20] (95%, 3 methods, 6 networks)"
        in (figure["layout"]["title"]["text"])
    )
    assert figure["layout"]["xaxis"]["title"]["text"] == "Rise of the loss in the ball of sam, ρ = 0.05, 8 steps"
    assert figure["layout"]["xaxis"]["type"] == "log"
    colours = [trace["marker"]["color"] for trace in figure["data"]]
    plain = [replace(one, method={"sgd": "sam", "sam": "plain"}.get(one.method, one.method)) for one in made().networks]
    others = sharpness_figure(replace(made(), networks=tuple(plain)), "sam worst")
    greys = [trace["name"] for trace in others["data"] if trace["marker"]["color"] == colours[-1]]
    assert (colours.count(colours[-1]), greys) == (1, ["plain"])  # the baseline alone is grey
    wider = replace(made(), confidence=0.995, problem=replace(PROBLEM, metric="mIoU"))
    assert "(99.5%, 3 methods" in sharpness_figure(wider, "sam worst")["layout"]["title"]["text"]
    assert sharpness_figure(wider, "sam worst")["layout"]["yaxis"]["title"]["text"] == "MIoU (%), test split"
    last = figure["layout"]["updatemenus"][0]["buttons"][2]
    assert last["args"][0]["y"][0] == pytest.approx([80.0, 80.0])
    assert "gaussian 0.2<br>Kendall −0.60 [−0.80, +0.30]" in last["args"][1]["title.text"]


def test_a_measure_that_is_not_always_positive_has_a_linear_axis() -> None:
    assert sharpness_figure(made(0.5), "loss")["layout"]["xaxis"]["type"] == "linear"
    assert sharpness_figure(made(5.0), "loss")["layout"]["xaxis"] | {"title": ""} == {
        **{"title": "", "zeroline": False, "type": "log", "tickformat": ".3~g"}
    }  # 4 to 5: of 1, 2 and 5 there would be one
    assert sharpness_figure(made(1.1), "loss")["layout"]["xaxis"]["dtick"] == "D2"  # .1 to 1.1
    assert "no correlation" in sharpness_figure(made(), "loss")["layout"]["title"]["text"]
    with pytest.raises(ValueError, match="`measure` must be one of loss, sam worst, got 'sam'"):
        sharpness_figure(made(), "sam")


def test_the_page_says_what_was_measured() -> None:
    page = render_sharpness(made())
    for text in (
        "Sharpness on digits",
        "−0.60<small>[−0.80, −0.20]<br>means −1.00",
        "1078 examples",
        "methods like these 3",
    ):
        assert text in page
    assert "Of 2 Kendall correlations" in page
    assert "1 have an interval below zero" in page
    assert "<b>asam" not in page
    assert "button" not in re.search(r"<main>.*?</p>\n<h3>", page, re.DOTALL).group()  # they are a menu there
    with pytest.raises(ValueError, match="at least one network"):
        render_sharpness(replace(made(), networks=()))
    assert "too few methods" in render_sharpness(replace(made(), correlations=()))
    mse = replace(PROBLEM, metric="mse", higher_is_better=False, is_fraction=False)
    page = " ".join(render_sharpness(replace(made(), problem=mse)).split())
    assert "against its mean mse over chips" in page
    assert "with how good the mse is at each noise level" in page  # a correlation's sign is of that, not of the mse
    assert "Mse (less is better), test split" in page
    assert "accura" not in page.partition("<main>")[2]


def test_a_correlation_shows_its_interval() -> None:
    assert correlation(Interval(0.5, -0.25, 0.75)) == "+0.50 [−0.25, +0.75]"
