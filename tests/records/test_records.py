"""Records survive the file bit for bit, and a bad file says what is wrong with it."""

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from samson._decoding import TableError, decode
from samson.records import PLAN as PLAN_FILE
from samson.records import (
    BudgetRecord,
    ChipKind,
    Configuration,
    EvaluationRecord,
    Interval,
    LayerRecord,
    Measured,
    RecordError,
    RunRecord,
    SensitivityRecord,
    checksum,
    load_comparison,
    load_records,
    on_common_chips,
    read_json,
    record_path,
    replace_file,
    run_name,
    write_json,
)
from samson.report import summary_rows, views
from tests.builders import PLAN, SUBJECT, records


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "run.json"
    write_json(path, records()[2])
    assert read_json(path, RunRecord) == records()[2]
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]  # nothing partial is left
    write_json(str(path), PLAN)
    assert read_json(str(path), Configuration) == PLAN
    replace_file(str(path), b"{}")
    assert path.read_bytes() == b"{}"


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    path, run = tmp_path / "run.json", records()[2]
    write_json(path, replace(run, seed=np.int64(3), clean=np.float32(0.25)))
    found = read_json(path, RunRecord)
    assert (found.seed, found.clean) == (3, 0.25)
    with pytest.raises(TypeError, match=r"must hold data alone, got \{1\} of type set"):
        checksum({"seed": {1}})


def test_a_folder_may_be_named_by_a_text(tmp_path: Path) -> None:
    for run in records():
        write_json(record_path(tmp_path, run_name(run.problem.name, run.method, run.seed)), run)
    write_json(tmp_path / PLAN_FILE, PLAN)
    found = load_comparison(str(tmp_path))
    assert (len(found.records), found.planned) == (4, 4)
    assert found == load_comparison(tmp_path)
    assert load_records(str(tmp_path)) == load_records(tmp_path)
    (tmp_path / "records" / PLAN.problems[0].problem.name).rename(tmp_path / "records" / "other")
    with pytest.raises(RecordError, match="belongs to another comparison or run"):
        load_records(tmp_path)


def test_kinds_of_a_family_in_another_unit_are_not_in_common() -> None:
    one, other = records()[:2]
    aged = replace(other, families=tuple(replace(family, unit="s") for family in other.families))
    with pytest.raises(ValueError, match="`records` must belong to one comparison, got several configurations"):
        on_common_chips([one, aged])


def test_of_more_chips_the_first_are_in_common() -> None:
    """Chip 0 of one network is chip 0 of another."""
    one, other = records()[:2]
    more = replace(other, trials=5, measured=tuple(tuple((*of, 0.1, 0.2) for of in kinds) for kinds in other.measured))
    assert on_common_chips([one, more]) == [one, other]


def test_small_values_print_with_their_digits() -> None:
    """Losses of some 1e-8; four decimals would be zeros."""
    measured = (Measured(ChipKind("0.1", "Gaussian(0.1)", 0.1), (1e-8, 2e-8), Interval(1.5e-8, 1e-8, 2e-8), 2e-8),)
    subject = replace(SUBJECT, metric="mse", higher_is_better=False, is_fraction=False)
    loss = EvaluationRecord(subject, 2.5e-9, measured)
    assert str(loss).splitlines()[0].endswith("mse 2.5e-09 without noise")
    assert str(loss).splitlines()[1] == "0.1: 1.5e-08 [1e-08, 2e-08], worst 2e-08, 2 chips"
    run = records()[0]
    run = replace(run, problem=replace(run.problem, is_fraction=False), clean=2.5e-9, measured=(((1e-8,) * 3,) * 2,))
    assert "2.5e-09 without noise" in str(run)
    assert "0.1 1e-08, 0.2 1e-08" in str(run)
    assert "accuracy 0.9800 without noise" in str(records()[0])
    assert f"{Interval(0.5, 0.25, 1.0):+.2f}" == "+0.50 [+0.25, +1.00]"


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Processes in containers have equal numbers, as threads of one process have."""
    contents = [bytes([letter]) * 100_000 for letter in b"abcd"]

    def write(content: bytes) -> set[bytes]:
        seen = set()
        for _ in range(40):
            replace_file(tmp_path / "file", content)
            seen.add((tmp_path / "file").read_bytes())
        return seen

    replace_file(tmp_path / "deep" / "down" / "file", b"a")  # also into folders that are not there
    assert (tmp_path / "deep" / "down" / "file").read_bytes() == b"a"
    with ThreadPoolExecutor(len(contents)) as pool:
        assert set().union(*pool.map(write, contents)) <= set(contents)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "deep"}


def test_a_record_of_one_model_comes_back_and_a_file_may_lack_what_has_a_default(tmp_path: Path) -> None:
    kind = ChipKind("pcm at 1d", "PCM()", time_s=86_400.0, periphery="Periphery()")
    record = EvaluationRecord(SUBJECT, 1.0, (Measured(kind, (0.85, 0.95), Interval(0.9, 0.8, 1.0), 0.85),))
    write_json(tmp_path / "new.json", record)
    assert read_json(tmp_path / "new.json", EvaluationRecord) == record
    data = json.loads(json.dumps(asdict(record)))
    (tmp_path / "old.json").write_text(text(damage(data, "precision", value=KeyError)))
    assert read_json(tmp_path / "old.json", EvaluationRecord) == record
    for keys, value, message in (
        (("subject", "channels_last"), KeyError, r"\[record.subject\]: `channels_last` is missing"),
        (("version",), 1, "is not a valid EvaluationRecord: `version` must be 2"),
    ):
        data = json.loads(json.dumps(asdict(record)))
        (tmp_path / "bad.json").write_text(text(damage(data, *keys, value=value)))
        with pytest.raises(RecordError, match=message):
            read_json(tmp_path / "bad.json", EvaluationRecord)


def test_a_table_has_the_numbers_of_the_record_by_the_names_of_a_comparison() -> None:
    """Those of `summary.csv`, where it has them, and what a kind of chip has more."""
    kinds = ChipKind("0.1", "Gaussian(0.1)", 0.1), ChipKind("1 day", "PCM()", time_s=86_400.0)
    about = {"clean": 0.95, "metric": "accuracy", "higher_is_better": True}
    measured = tuple(Measured(kind, (0.85, 0.95), Interval(0.9, 0.8, 1.0), 0.85) for kind in kinds)
    found = {"mean": 0.9, "low": 0.8, "high": 1.0, "worst": 0.85, "trials": 2} | about
    rows = [
        {"kind": "0.1", "level": 0.1, "time_s": None} | found,
        {"kind": "1 day", "level": None, "time_s": 86_400.0} | found,
    ]
    asked = "gaussian", "level", 0.1, 0.2, 0.01, False, "mean", 0.9, 0.95
    assert EvaluationRecord(SUBJECT, 0.95, measured).table() == rows
    assert BudgetRecord(SUBJECT, *asked, measured, None, (0.1, 0.1, 0.1), None, None).table() == rows
    layer = LayerRecord("head", 30, (0.8, 0.9), (0.9, 0.7), Interval(0.1, 0.0, 0.2), Interval(0.3, 0.1, 0.4))
    ranked = SensitivityRecord(SUBJECT, kinds[0], 0.95, (0.5, 0.6), Interval(0.4, 0.3, 0.5), (layer,), None).table()
    ends = {"drop": 0.1, "drop_low": 0.0, "drop_high": 0.2, "gain": 0.3, "gain_low": 0.1, "gain_high": 0.4}
    own = {"layer": "head", "weights": 30, "trials": 2} | ends
    assert ranked == [{"kind": "0.1", "level": 0.1, "time_s": None} | own | about]
    more = {"level", "time_s", "clean", "layer", "weights", "drop", "drop_low", "drop_high"}
    assert {*rows[0], *ranked[0]} - more <= summary_rows(views(records()))[0].keys()


def test_the_checksum_of_files_that_are_there_stays_what_it_is() -> None:
    """The first 16 digits of `sha256sum` of the JSON text with sorted keys."""
    assert checksum({"b": "x", "a": [2, 0.5]}) == "e74f851be779dc23"


def text(data: dict) -> str:
    """The file of these data."""
    return json.dumps(data | {"checksum": checksum(data)})


def damage(data: dict, *keys: object, value: object) -> dict:
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return data


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("method",), KeyError, r"\[record\]: `method` is missing"),
        (("extra",), 1, r"\[record\]: `extra` is unknown"),
        (("seed",), "0", "`seed` must be a whole number, got '0'"),
        (("seed",), True, "`seed` must be a whole number, got True"),
        (("seed",), 7, "changed after it was written"),
        (("seed",), -1, "`seed` must be ≥ 0, got -1"),
        (("version",), 1, "`version` must be 2"),
        (("measured", 0, 1, 0), 1.5, r"`measured` must be between 0 and 1, got \[1.5\]"),
        (("measured", 0, 1, 0), "0.5", r"`measured\[0\]\[1\]\[0\]` must be a number, got '0.5'"),
        (("clean",), -0.1, r"`measured` must be between 0 and 1, got \[-0.1\]"),
        (("clean",), None, "`clean` must be there unless the training diverged"),
        (("measured", 0, 1), [0.5], r"`measured` must be of \[\[3, 3\]\] chips"),
        (("measured",), [], r"`measured` must be of \[\[3, 3\]\] chips"),
        (("measured",), {}, "`measured` must be a list"),
        (("families", 0, "kinds"), [], "`kinds` must be at least one"),
        (("families", 0, "kinds", 1, "label"), "0.1", r"`kinds` must have labels that differ, .*\['0.1', '0.1'\]"),
        (("families", 0, "kinds", 1, "label"), "clean", r"`kinds` must have labels that differ, none 'clean'"),
        (("method",), "=1+1", "`method` must be letters, digits and any of -_.+, got '=1\\+1'"),
        (("method",), "<a href='x'>", "`method` must be letters"),
        (("examples",), 0, "`examples` must be at least 1, got 0"),
        (("trials",), 0, "`trials` must be at least 1, got 0"),
        (("training", "loss", 0), -1e200, r"`training` must have numbers of at most 1e\+150, got \[-1e\+200\]"),
        (("training", "seconds"), 1e200, "`training` must have numbers of at most"),
        (("environment", "git"), 3, r"\[record.environment\]: `git` must be a text"),
        (("settings", "lr"), None, r"\[record.settings\]: `lr` must be"),
        (("training", "seconds"), 10**400, r"\[record.training\]: `seconds` must be a number, got 1000"),
        (("training", "seconds"), 1e999, "Infinity is not JSON"),
        (("split",), "\ud800", "`split` must be a text"),
        (("finished",), "today", "changed after it was written"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, keys: tuple, value: object, message: str) -> None:
    path = tmp_path / "run.json"
    data = json.loads(json.dumps(asdict(records()[0])))
    path.write_text(text(data))
    read_json(path, RunRecord)
    changed = damage(json.loads(path.read_text()), *keys, value=value)
    path.write_text(json.dumps(changed))
    with pytest.raises(RecordError, match=message) as caught:
        read_json(path, RunRecord)
    assert str(path) in str(caught.value)


def test_families_of_one_name_are_refused() -> None:
    """Their columns would overwrite each other."""
    run = records()[0]
    with pytest.raises(ValueError, match=r"`families` must have names that differ, got \['gaussian', 'gaussian'\]"):
        replace(run, families=run.families * 2, measured=run.measured * 2)


@pytest.mark.parametrize("change", [{"clean": 1e200}, {"measured": (((0.5,) * 3, (0.5, 0.5, -1e200)),)}])
def test_values_whose_sums_of_squares_are_infinite_are_refused(change: dict) -> None:
    run = records()[0]
    run = replace(run, problem=replace(run.problem, is_fraction=False))
    assert replace(run, clean=1e100).clean == 1e100
    with pytest.raises(ValueError, match=r"`measured` must be between -1e\+150 and 1e\+150, got"):
        replace(run, **change)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nobody ever writes into this pipe."""
    make(path := tmp_path / "run.json")
    with pytest.raises(RecordError, match=r"run\.json` is not readable as a record: it is no file"):
        read_json(path, RunRecord)


def test_a_number_beyond_the_largest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(text(json.loads(json.dumps(asdict(records()[0])))).replace('"lr": 0.1', '"lr": 1e999'))
    with pytest.raises(RecordError, match=r"run\.json` is not a valid RunRecord: Out of range float"):
        read_json(path, RunRecord)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "{}", '{"a": NaN}', "\x00", "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"run\.json"):
        read_json(path, RunRecord)


def test_numbers_that_json_does_not_have_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "level.json"
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, Interval(math.inf, 0.5, 0.5))
    assert not path.exists()


def test_a_list_of_numbers_holds_numbers_alone() -> None:
    """Also where all are floats, which are looked at together; a file of TOML can hold NaN."""

    @dataclass(frozen=True)
    class Row:
        values: tuple[float, ...]

    assert decode({"values": [0.5, 1, math.inf]}, Row, "row") == Row((0.5, 1.0, math.inf))
    for wrong in (math.nan, True, "1"):
        with pytest.raises(TableError, match=rf"\[row\]: `values\[1\]` must be a number, got {wrong!r}"):
            decode({"values": [0.5, wrong, 0.5]}, Row, "row")


def test_a_folder_that_is_not_there_is_no_empty_comparison(tmp_path: Path) -> None:
    assert load_comparison(tmp_path).records == ()
    for load in (load_records, load_comparison):
        with pytest.raises(FileNotFoundError, match="`folder` must be that of a comparison, got '.*nowhere'"):
            load(tmp_path / "nowhere")
