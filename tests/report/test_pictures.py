"""Pictures of a view, and what is said where the package that draws them is missing."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from samson.cli._reporting import write_report
from samson.experiments import SetupError, open_folder, plan_suite
from samson.records import Interval, load_records, record_path, run_name, write_json
from samson.report import picture, view
from tests.builders import records
from tests.programs import samson


def report(folder: Path, *options: str) -> tuple[int, str, str]:
    """Write the records; gives the status of `samson report` and what it wrote to both streams."""
    for run in records():
        write_json(record_path(folder, run_name(run.problem.name, run.method, run.seed)), run)
    return samson("report", folder, *options)


@pytest.mark.needs("matplotlib")
def test_a_picture_shows_every_method_and_kind() -> None:
    found = view(records())
    drawn = picture(found, "svg").decode()
    for text in ("sgd", "samson", "without", "0.1", "0.2", "Test accuracy (%)", "Points over sgd"):
        assert f"<!-- {text} -->" in drawn
    assert picture(found, "svg").decode() == drawn
    less = replace(found, rows=tuple(r for r in found.rows if r.method == "sgd"))
    assert "<!-- samson -->" not in picture(less, "svg").decode()
    assert picture(found, "png").startswith(b"\x89PNG")
    assert picture(found, "pdf").startswith(b"%PDF")
    assert b"CreationDate" not in picture(found, "pdf"), "the same bytes another day"


@pytest.mark.needs("matplotlib")
def test_bands_are_over_training_seeds_where_there_are_several() -> None:
    found = view(records())
    far = Interval(0.5, 0.01, 0.99)
    assert all(row.over_seeds is not None for row in found.rows)
    drawn = picture(found, "svg")
    of_chips = replace(found, rows=tuple(replace(row, value=replace(row.value, low=0.01)) for row in found.rows))
    of_seeds = replace(found, rows=tuple(replace(row, over_seeds=far) for row in found.rows))
    assert picture(of_chips, "svg") == drawn != picture(of_seeds, "svg")
    assert b"<!-- Bands: 95 % over training seeds -->" in drawn
    one = replace(found, rows=tuple(replace(row, over_seeds=None, gain_over_seeds=None) for row in found.rows))
    assert b"<!-- Bands: 95 % over chips, of these networks -->" in picture(one, "svg")


@pytest.mark.needs("matplotlib")
def test_a_picture_of_many_methods_has_more_than_colours() -> None:
    found = view(records())
    many = [f"m{number}" for number in range(20)]
    crowd = view([*records(), *(replace(r, method=m) for m in many for r in records() if r.method == "samson")])
    drawn = picture(crowd, "svg").decode()
    assert all(f"<!-- {name} -->" in drawn for name in many)
    assert drawn.count("stroke-dasharray") > picture(found, "svg").decode().count("stroke-dasharray") + len(many)


@pytest.mark.needs("matplotlib")
def test_the_command_writes_a_picture_of_each_view(tmp_path: Path) -> None:
    assert report(tmp_path, "--format", "png")[0] == 0
    assert (tmp_path / "digits-small-resnet-gaussian.png").read_bytes() == picture(view(load_records(tmp_path)), "png")


def test_pictures_of_names_that_differ_by_a_sign_do_not_meet_nor_close_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is there may hold more than what a comparison writes."""
    [first] = records()[0].families
    families = tuple(replace(first, name=name) for name in ("a b", "a-b"))
    for run in records():
        both = replace(run, families=families, measured=run.measured * 2)
        write_json(record_path(tmp_path, run_name(run.problem.name, run.method, run.seed)), both)
    monkeypatch.setattr("samson.report.picture", lambda view, form: view.family.name.encode())
    monkeypatch.setattr("samson.cli._reporting.find_spec", lambda name: name)
    write_report(tmp_path, form="svg")
    assert {path.name: path.read_text() for path in tmp_path.glob("*.svg")} == {
        "digits-small-resnet-a-b.svg": "a b",
        "digits-small-resnet-a-b-2.svg": "a-b",
    }
    plan = plan_suite({"data": "digits", "methods": ["sgd"]})
    shutil.rmtree(tmp_path / "records")
    with pytest.raises(SetupError, match="a new folder"):
        open_folder(plan, tmp_path)
    write_json(tmp_path / "configuration.json", plan.record())
    open_folder(plan, tmp_path)


@pytest.mark.parametrize(
    ("form", "words"),
    [("svg", '".[docs]"'), ("pdf", '".[docs]"'), ("eps", "--format: 'eps' is unknown"), ("svgg", "svg")],
)
def test_what_is_missing_or_unknown_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = report(tmp_path, "--format", form)
    assert status != 0
    assert words in re.sub(r"\s+", " ", err)
    assert {one.name for one in tmp_path.iterdir()} == {"records"}
