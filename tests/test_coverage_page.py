"""The page of intervals shows the record of their coverage, and the record keeps what was promised."""

import json
from pathlib import Path

from benchmarks.coverage import page

ROOT = Path(__file__).parent.parent
RECORD = json.loads((ROOT / "benchmarks" / "records" / "coverage.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")


def rows(interval: str) -> list[dict]:
    return [row for row in RECORD["rows"] if row["interval"] == interval]


def test_the_page_shows_the_record() -> None:
    assert page(PAGE, RECORD) == PAGE
    other = json.loads(json.dumps(RECORD))
    other["rows"][0]["coverage"] = 0.5
    assert page(PAGE, other) != PAGE  # the check can fail


def test_the_record_keeps_what_is_promised() -> None:
    means = [row for row in rows("mean_interval") if "dead" not in row["simulated"]]
    assert len(means) == 11
    assert all(0.93 <= row["coverage"] <= 0.97 and row["repetitions"] >= 4000 for row in means)
    assert all(row["coverage"] >= 0.95 for row in rows("share_interval") + rows("betting_interval"))
    gaussian = [row for row in rows("looks") if row["simulated"].startswith("Gaussian")]
    assert len(gaussian) == 4
    assert all(row["coverage"] >= 0.95 for row in gaussian)
    assert all(row["chips_to_fixed"] <= 3.5 for row in rows("looks"))
    assert all(0.93 <= row["coverage"] <= 0.97 for row in rows("crossed_interval"))
    assert all(row["holds_up_to_is_below_the_truth"] >= 0.95 for row in rows("noise_budget"))
