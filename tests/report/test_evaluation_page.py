"""The page of an evaluation, from a record made by hand."""

import math
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from samson.records import BudgetRecord, ChipKind, EvaluationRecord, Interval, Measured
from samson.report import (
    budget_figure,
    budget_page,
    evaluation_page,
    half_width,
    level_figure,
    shares_at,
    yield_figure,
)
from tests.builders import SUBJECT

RECORD = EvaluationRecord(
    SUBJECT,
    0.99,
    (
        Measured(ChipKind("0.1", "Gaussian(0.1)", 0.1), (0.9, 0.95, 0.97), Interval(0.94, 0.92, 0.96), 0.9),
        Measured(ChipKind("0.2", "Gaussian(0.2)", 0.2), (0.7, 0.5, 0.6), Interval(0.6, 0.5, 0.72), 0.5),
    ),
    precision=0.05,
)
BUDGET = BudgetRecord(
    subject=SUBJECT,
    family="gaussian",
    unit="level",
    low=0.1,
    high=0.2,
    max_drop=0.05,
    relative=False,
    criterion="mean",
    min_yield=0.9,
    clean=0.99,
    measured=RECORD.measured,
    holds_up_to=0.1,
    crossing=(0.15, 0.12, None),
    voltage=None,
    energy_saved=None,
)


def test_the_figures_hold_the_numbers() -> None:
    dots, line = level_figure(RECORD)["data"]
    assert dots["meta"] == [0.1] * 3 + [0.2] * 3
    assert dots["y"] == pytest.approx([90, 95, 97, 70, 50, 60])
    assert dots["text"] == ["chip 0", "chip 1", "chip 2"] * 2
    assert (line["x"], line["y"]) == ([0.1, 0.2], pytest.approx([94, 60]))
    assert line["error_y"]["array"] == pytest.approx([2, 12])
    assert line["error_y"]["arrayminus"] == pytest.approx([2, 10])
    bands = [trace["legendgroup"] for trace in yield_figure(RECORD)["data"] if trace["line"]["width"] == 0]
    assert bands == ["0.2"] * 2  # the lower and the upper end, of the last alone
    last = RECORD.measured[1]
    alike = replace(RECORD, measured=(RECORD.measured[0], replace(last, kind=replace(last.kind, alike=True))))
    assert not any(trace["line"]["width"] == 0 for trace in yield_figure(alike)["data"])
    lines = [trace for trace in yield_figure(RECORD)["data"] if "name" in trace]
    assert [trace["name"] for trace in lines] == ["0.1", "0.2"]
    assert lines[1]["x"] == pytest.approx([50, 60, 70, 90, 95, 97])
    assert lines[1]["y"] == pytest.approx([100, 200 / 3, 100 / 3, 0, 0, 0])
    upper, lower = (trace["y"] for trace in yield_figure(RECORD)["data"] if trace["line"]["width"] == 0)
    share, half = 1 / 3, math.sqrt(math.log(2 / 0.05) / 6)  # of three chips
    assert (upper[2], lower[2]) == pytest.approx((100 * min(1, share + half), 100 * max(0, share - half)))
    assert lower[0] == pytest.approx(100 * (1 - half))
    # Between two values the share is that of the larger one, or, where less is better, of the smaller.
    for higher, shape in ((True, "vh"), (False, "hv")):
        figure = yield_figure(replace(RECORD, subject=replace(SUBJECT, higher_is_better=higher)))
        assert {trace["line"]["shape"] for trace in figure["data"]} == {shape}


@pytest.mark.parametrize(
    ("higher", "relative", "limit"), [(True, False, 94.0), (False, False, 104.0), (True, True, 94.05)]
)
def test_the_limit_of_a_budget_is_drawn(higher: bool, relative: bool, limit: float) -> None:
    record = replace(BUDGET, relative=relative, subject=replace(SUBJECT, higher_is_better=higher))
    clean, line, _ = budget_figure(record)["layout"]["shapes"]
    assert (clean["y0"], line["y0"]) == pytest.approx((99.0, limit))
    assert "0.15 [below 0.1, above 0.2]" in budget_page(replace(record, crossing=(0.15, 0.0, None)))


def test_kinds_that_are_no_levels_stand_side_by_side() -> None:
    rows = tuple(
        replace(row, kind=replace(row.kind, label=name))
        for row, name in zip(RECORD.measured, ("pcm at 0s", "pcm at 1y"), strict=True)
    )
    figure = level_figure(replace(RECORD, measured=rows))
    assert figure["data"][1]["x"] == figure["layout"]["xaxis"]["tickvals"] == [0, 1]
    assert figure["layout"]["xaxis"]["ticktext"] == ["pcm at 0s", "pcm at 1y"]


@pytest.mark.parametrize("log", [False, True])
def test_dots_of_chips_lie_beside_the_bar(log: bool) -> None:
    """By at most 1 % of the axis, each chip alike at every level, and no two chips of a level at one place."""
    figure = budget_figure(BUDGET) if log else level_figure(RECORD)
    dots, line = figure["data"]
    where = math.log10 if log else float
    aside = [where(x) - where(place) for x, place in zip(dots["x"], dots["meta"], strict=True)]
    assert aside[:3] == pytest.approx(aside[3:])
    assert len({round(by, 6) for by in aside[:3]}) == 3
    assert max(map(abs, aside)) <= 0.01 * (where(line["x"][1]) - where(line["x"][0])) * (1 + 1e-9)


def test_one_level_keeps_its_place() -> None:
    """The axis does not shrink to the breadth of its dots."""
    layout = level_figure(replace(RECORD, measured=RECORD.measured[:1]))["layout"]
    assert (layout["xaxis"]["range"], layout["xaxis"]["ticktext"]) == ([-0.5, 0.5], ["0.1"])
    assert layout["xaxis"]["title"]["text"] == "Noise level"
    low, high = budget_figure(replace(BUDGET, measured=BUDGET.measured[:1], holds_up_to=None))["layout"]["xaxis"][
        "range"
    ]
    assert low < math.log10(BUDGET.low) < math.log10(BUDGET.high) < high


def test_times_stand_on_a_logarithmic_axis_in_words() -> None:
    times = (0.0, 3600.0, 36_000.0, 315_360_000.0)
    kinds = [ChipKind(f"pcm at {time:g}s", "PCM()", time_s=time) for time in times]
    aged = replace(RECORD, measured=tuple(replace(RECORD.measured[0], kind=kind) for kind in kinds))
    figure = level_figure(aged)
    zero, *others = figure["data"][1]["x"]
    assert others == pytest.approx([math.log10(time) for time in times[1:]])
    assert zero == pytest.approx(others[0] - 1)
    axis = figure["layout"]["xaxis"]
    assert (axis["title"]["text"], axis["ticktext"]) == ("Age", ["0 s", "1 h", "10 h", "10 years"])
    assert axis["tickvals"] == [zero, *others]
    assert "<td>0 s, 1 h, 10 h, 10 years</td>" in evaluation_page(aged)
    alike = replace(aged, measured=tuple(replace(row, kind=replace(row.kind, time_s=60.0)) for row in aged.measured))
    axis = level_figure(alike)["layout"]["xaxis"]
    assert axis["ticktext"] == [kind.label for kind in kinds]  # what differs is something else


def test_a_noise_is_said_once_and_not_for_every_level() -> None:
    noise = "PCM(time_s={}, mapping=Mapping(g_min_us=0.0), compensation={})"
    first = RECORD.measured[0]

    def page(*noises: tuple[str, str]) -> str:
        kinds = [ChipKind(f"level {number}", noise.format(*one)) for number, one in enumerate(noises)]
        return unescape(evaluation_page(replace(RECORD, measured=tuple(replace(first, kind=kind) for kind in kinds))))

    levels = page(*((f"{10.0**i}", "'global'") for i in range(14)))
    assert levels.count("PCM(") == 1
    assert noise.format("…", "'global'") + ", … is 1.0 (level 0), 10.0 (level 1), " in levels
    assert page(("1.0", "None"), ("1.0", "None")).count("PCM(") == 1
    both = page(("1.0", "None"), ("2.0", "'global'"))  # two things differ, so that one text would not tell them
    assert [both.count(noise.format(*one)) for one in (("1.0", "None"), ("2.0", "'global'"))] == [1, 1]


def test_the_page_says_what_was_measured() -> None:
    page = evaluation_page(RECORD)
    for text in (
        "94.0 [92.0, 96.0]<",
        "60.0 [50.0, 72.0] *",
        "±5; * is wider",
        "at least what stands below",
        "<th scope='col'>accuracy (%)</th>",
        "359",
        "Gaussian(…), … is 0.1, 0.2",
    ):
        assert text in page
    assert (
        "Accuracy 99.0 % without noise; <b>60.0 [50.0, 72.0] %</b> (wider than asked for) at noise 0.2, and 50.0 % on "
        "the worst of 3 chips."
    ) in page
    loss = replace(SUBJECT, metric="cross-entropy", higher_is_better=False, is_fraction=False, model="<script>")
    page = evaluation_page(replace(RECORD, subject=loss))
    assert "0.94 [0.92, 0.96]<" in page
    assert "at most what stands below" in page
    assert '<p class="kind">samson · cross-entropy on noisy chips</p>' in page
    assert "<th scope='col'>cross-entropy (less is better)</th>" in page
    assert "<script> on" not in page
    page = evaluation_page(replace(RECORD, subject=replace(SUBJECT, metric="mIoU"), precision=0.0004))
    assert "±0.04; * is wider" in page
    assert "MIoU 99.0 % without noise" in page


def test_examples_that_nobody_counted_are_these_all_the_same() -> None:
    """A metric of the whole data set, such as an IoU, has no value for each example."""
    whole = replace(SUBJECT, metric="IoU", examples=None)
    page = " ".join(evaluation_page(replace(RECORD, subject=whole)).split())
    assert "95 %, on these examples; for one value" in page
    assert "measured on these examples, and not of other examples" in page
    budget = " ".join(budget_page(replace(BUDGET, subject=whole)).split())
    assert "measured on these examples, and not of other networks or examples" in budget


def test_shares_follow_the_direction() -> None:
    assert shares_at([0.1, 0.2, 0.3], (0.1, 0.2, 0.2), higher_is_better=True) == pytest.approx([1, 2 / 3, 0])
    assert shares_at([0.1, 0.2, 0.3], (0.1, 0.2, 0.2), higher_is_better=False) == pytest.approx([1 / 3, 1, 1])


def test_the_band_holds_the_whole_line() -> None:
    """20 uniform values, 2,000 times: the largest distance of their shares from the true ones, by Kolmogorov."""
    values = np.sort(np.random.default_rng(0).random((2000, 20)), axis=1)
    shares = np.arange(21) / 20
    farthest = np.maximum(np.abs(values - shares[1:]).max(axis=1), np.abs(values - shares[:-1]).max(axis=1))
    held = (farthest <= half_width(20, 0.95)).mean()
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000) < held < 0.985
    assert (farthest <= half_width(20, 0.95) / 2).mean() < 0.5


@pytest.mark.parametrize(("max_drop", "words"), [(0.01, "at most 1 point in"), (0.02, "at most 2 points in")])
def test_a_budget_of_one_point_is_said_as_one(max_drop: float, words: str) -> None:
    assert f"chips are worse by {words} the mean." in budget_page(replace(BUDGET, max_drop=max_drop))


def test_levels_that_were_searched_for_are_short() -> None:
    """As in the table, where the last column says at which the limit holds."""
    levels = (0.0026826957952797246, 0.1)
    kinds = [ChipKind(f"{level:.3g}", f"Gaussian(sigma={level}, per='layer')", level) for level in levels]
    rows = tuple(replace(row, kind=kind) for row, kind in zip(BUDGET.measured, kinds, strict=True))
    page = unescape(budget_page(replace(BUDGET, measured=rows, low=levels[0], holds_up_to=levels[0])))
    assert "<td>Gaussian(sigma=…, per='layer'), … is 0.00268, 0.1</td>" in page
    assert "worst chip</th><th scope='col'>limit</th>" in page
    assert page.count("<td>holds</td>") == 1


def test_a_title_has_the_name_of_a_file_without_its_path() -> None:
    path = "runs/first/networks/digits/samson+clip-seed0.safetensors"
    subject = replace(SUBJECT, model=path)
    for page, words in (
        (evaluation_page(replace(RECORD, subject=subject)), " on noisy chips"),
        (budget_page(replace(BUDGET, subject=subject)), ": how much gaussian noise it stands"),
        (budget_page(replace(BUDGET, subject=subject, unit="s")), ": how long it stands gaussian"),
    ):
        assert f"<h1>samson+clip-seed0{words}</h1>" in page
        assert f"<td>{path}</td>" in page
    assert "<h1>mine:network on noisy chips</h1>" in evaluation_page(RECORD)
