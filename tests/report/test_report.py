"""Tables, figures and the page, from hand-made records."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from samson.records import Interval
from samson.report import (
    chips_figure,
    command,
    gain_figure,
    gain_table,
    headline,
    last_level_within,
    percent,
    points,
    render,
    robustness_figure,
    summarise,
    summary_csv,
)
from tests.builders import PLAN, record, records, with_plan


def test_csv_has_the_promised_columns() -> None:
    table = list(csv.DictReader(io.StringIO(summary_csv(summarise(records())))))
    assert list(table[0]) == ["method", "noise", "level", "mean", "low", "high", "trials", "seeds", "worst"]
    assert len(table) == 6
    last = table[-1]
    assert (last["method"], last["level"], last["trials"], last["seeds"]) == ("samson", "0.2", "3", "2")
    assert float(last["mean"]) == pytest.approx(0.8333333, abs=1e-6)
    assert float(last["low"]) < float(last["mean"]) < float(last["high"])
    assert (table[0]["low"], table[0]["high"]) == (table[0]["mean"], table[0]["mean"])


def test_numbers_show_their_interval() -> None:
    assert percent(Interval(0.9731, 0.9701, 0.9761)) == "97.3 ±0.3"
    assert percent(Interval(0.9731, 0.9731, 0.9731)) == "97.3"
    assert points(Interval(-0.021, -0.031, -0.011)) == "-2.1 ±1.0"
    assert points(Interval(-0.0001, -0.0011, 0.0009)) == "+0.0 ±0.1"  # no "-0.0"


def test_holding_needs_every_lower_level() -> None:
    rows = [
        replace(r, accuracy=Interval(0.9, low, 1.0))
        for r, low in zip(summarise(records())[:3], (0.9, 0.8, 0.9), strict=True)
    ]
    assert last_level_within(rows, "sgd", 0.92) == 0.0  # level .2 would hold, but .1 does not
    assert last_level_within(rows, "sgd", 0.84) == 0.2
    assert last_level_within(rows, "sgd", 0.99) is None


def test_figures_hold_the_numbers() -> None:
    rows = summarise(records())
    lines = [t for t in robustness_figure(rows, "sgd").data if t.name]
    assert [t.name for t in lines] == ["sgd", "samson"]
    assert list(lines[1].y) == pytest.approx([98.0, 96.0, 100 * 2.5 / 3])
    thin = [t for t in robustness_figure(rows, "sgd").data if t.line.width == 0.8]
    assert len(thin) == 4  # one a method and seed
    [gain] = [t for t in gain_figure(rows, "sgd").data if t.name]
    assert list(gain.y) == pytest.approx([1.0, 5.0, 100 * (2.5 - 1.65) / 3])
    boxes = chips_figure(records(), "sgd").data
    assert sum(len(box.y) for box in boxes) == 24  # every noisy trial
    assert [box.visible for box in boxes] == [True, True, False, False]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_the_page_is_one_file_that_opens_offline() -> None:
    page = render(records(), summarise(records()))
    links = Links()
    links.feed(page)
    assert links.found == []
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    for text in ("digits under gaussian noise", "83.3 ±", "+28.3 ±", "360", "samson compare"):
        assert text in page
    assert "runs are finished" not in page
    assert "3 of 4 runs are finished" in render(records()[:3], summarise(records()[:3]))


def test_a_gain_is_marked_where_it_is_sure() -> None:
    rows = summarise(records())
    apart, across, below = Interval(0.1, 0.05, 0.15), Interval(0.1, -0.1, 0.3), Interval(-0.1, -0.2, -0.05)

    def marks(gain: Interval, over_seeds: Interval | None, p_value: float = 0.04) -> list[str]:
        changed = {"gain": gain, "gain_over_seeds": over_seeds, "p_value": p_value}
        found = [replace(r, **changed) for r in rows if r.method == "samson"]
        return re.findall(r"<td class='(\w*)'", gain_table(found))

    assert marks(apart, None) == marks(apart, apart) == ["up"] * 3
    assert marks(apart, across) == marks(apart, apart, 0.06) == [""] * 3
    assert marks(below, below) == ["down"] * 3
    table = gain_table([replace(rows[-1], gain=apart, gain_over_seeds=across, p_value=0.04)])
    assert "title='p = 0.04 after Holm'>+10.0 ±5.0<small><br>seeds ±20.0" in table


def test_a_page_without_the_baseline_says_so() -> None:
    alone = records()[2:]
    assert "no run of the baseline" in render(alone, summarise(alone))
    with pytest.raises(ValueError, match="at least one run"):
        render([], [])


def test_what_comes_from_records_is_escaped() -> None:
    plan = with_plan(methods={"<b>sgd": {"lr": 0.1}}, noise="<script>alert(1)</script>", seeds=1)
    one = [record("<b>sgd", 0, [[0.9], [0.9] * 3, [0.9, 0.8, 0.9]], plan)]
    page = render(one, summarise(one))
    assert "<b>sgd" not in page.replace("<b>&lt;b&gt;sgd", "")
    assert "<script>alert" not in page


def test_the_headline_says_what_was_measured() -> None:
    rows = summarise(records())
    assert headline(rows, "sgd").startswith("Within 5 points of the 97.0 % that sgd has without noise: ")
    assert "<b>samson</b> up to noise <b>0.1</b>; sgd itself up to 0." in headline(rows, "sgd")


def test_the_command_repeats_the_run() -> None:
    assert command(PLAN) == (
        "samson compare --data digits --methods sgd,samson --noise gaussian --levels 0,0.1,0.2 --trials 3 --seeds 2 "
        "--epochs 1 --set samson.rho=0.5 --out runs/digits"
    )
