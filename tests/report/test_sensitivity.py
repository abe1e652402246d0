"""The record of a sensitivity analysis, and its page."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from samson.evaluation import sensitivity
from samson.experiments import Kind
from samson.noise import Gaussian
from samson.records import Interval, RecordError, SensitivityRecord, read_json, write_json
from samson.report import sensitivity_figure, sensitivity_page, sensitivity_table
from tests.builders import SUBJECT


def made(metric: str = "accuracy") -> SensitivityRecord:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(100, 4)
    noise = Gaussian(0.3)
    found = sensitivity(model, (x, model(x).argmax(1)), noise, trials=4, metric=metric, max_drop=0.5)
    subject = replace(SUBJECT, metric=metric, is_fraction=metric == "accuracy")
    return replace(found.record(), subject=subject, kind=Kind("0.3", noise, 0.3).record())


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = made()
    write_json(tmp_path / "sensitivity.json", record)
    assert read_json(tmp_path / "sensitivity.json", SensitivityRecord) == record
    text = (tmp_path / "sensitivity.json").read_text()
    for old, new, error in (
        ('"version": 2', '"version": 1', "`version` must be 2"),
        ('"alone": [', '"alone": [\n0.5,', "must hold 4 chips, got 5 and 4"),
    ):
        (tmp_path / "bad.json").write_text(text.replace(old, new))
        with pytest.raises(RecordError, match=error):
            read_json(tmp_path / "bad.json", SensitivityRecord)
    with pytest.raises(ValueError, match="must name layers of `rows`, got absent"):
        replace(record, suggestion=replace(record.suggestion, digital=("absent",)))


def test_a_drop_at_the_limit_is_within_it() -> None:
    suggestion = made().suggestion
    assert suggestion is not None
    limit = suggestion.confirmed.high
    assert replace(suggestion, max_drop=limit).holds
    assert not replace(suggestion, max_drop=limit - 1e-9).holds


def test_the_figure_holds_the_numbers() -> None:
    record = made()
    drops, gains = sensitivity_figure(record)["data"]
    assert drops["x"] == pytest.approx([100 * row.drop.mean for row in record.rows])
    assert drops["x"] == sorted(drops["x"], reverse=True)
    ends = [x + length for x, length in zip(gains["x"], gains["error_x"]["array"], strict=True)]
    assert ends == pytest.approx([100 * row.gain.high for row in record.rows])
    assert sensitivity_figure(made("cross-entropy"))["data"][0]["x"][0] < 50  # nats, not percent


def test_the_page_says_what_was_measured() -> None:
    record = made()
    page = sensitivity_page(record)
    for text in ("Gaussian(sigma=0.3", "5 intervals", "over 4 chips", "confirm it on"):
        assert text in page
    none = sensitivity_page(replace(record, suggestion=None))
    assert "No suggestion was asked for: <code>--max-drop .01</code> makes one." in none
    mse = replace(record.subject, model="runs/first/samson-seed0.safetensors", metric="mse", higher_is_better=False)
    page = sensitivity_page(replace(record, subject=mse))
    assert "<h1>samson-seed0: which layers make the mse worse</h1>" in page


def test_the_table_marks_what_is_shown() -> None:
    record = made()
    first, second = record.rows
    clear, open_ = Interval(0.1, 0.05, 0.15), Interval(0.02, -0.01, 0.05)
    rows = (replace(first, name="<b>", drop=clear, gain=open_), replace(second, drop=open_, gain=clear))
    suggestion = replace(record.suggestion, digital=("<b>",), confirmed=Interval(0.1, 0, 0.6))
    record = replace(record, rows=rows, suggestion=suggestion)
    lines = sensitivity_table(record).split("<tr>")[2:]
    assert "<th scope='row'>1. &lt;b&gt;</th>" in lines[0]
    assert "<td class='down'>+10.0 [+5.0, +15.0]</td>" in lines[0]
    assert "<td class=''>+2.0 [-1.0, +5.0]</td>" in lines[0]
    assert "<td class='up'>+10.0" in lines[1]
    assert ("digital" in lines[0], "digital" in lines[1]) == (True, False)
    assert "not shown to be within" in sensitivity_page(record)
    assert "for 1 of them, most for <b>&lt;b&gt;</b>: by 10.0 points" in sensitivity_page(record)
    record = replace(record, rows=tuple(replace(row, drop=open_) for row in rows))
    assert "no layer alone is shown to make it worse" in sensitivity_page(record)


def test_a_layer_on_which_noise_helps_has_the_colours_of_that() -> None:
    """A drop below zero is good, a gain below zero is not."""
    record, below = made(), Interval(-0.1, -0.15, -0.05)
    page = sensitivity_page(replace(record, rows=(replace(record.rows[0], drop=below, gain=below), record.rows[1])))
    marked = re.findall(r"<td class='(up|down)'>-10.0 \[-15.0, -5.0\]</td>", page)
    assert marked == ["up", "down"]


def test_what_was_asked_for_is_shown_as_it_was_given() -> None:
    record = made()
    rows = (replace(record.rows[0], weights=9999), replace(record.rows[1], weights=1))
    suggestion = replace(record.suggestion, max_drop=0.0004, share=0.9999, digital=("0",), confirmed=Interval(0, 0, 1))
    page = sensitivity_page(replace(record, rows=rows, suggestion=suggestion))
    assert "<b>not shown to be within</b> the 0.04 points allowed" in page
    assert "which hold 99.9 % of the chip's weights" in page  # not all: there is a chip
    assert "9,999 (99.9 %)" in page
    iou = sensitivity_page(replace(record, subject=replace(record.subject, metric="mIoU", is_fraction=False)))
    assert "MIoU 1 without noise" in iou
