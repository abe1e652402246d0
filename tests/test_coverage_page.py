"""The page of intervals shows the record of their coverage, and the record keeps what was promised."""

import json
import re
from pathlib import Path

from benchmarks.coverage import INTERVALS, of, page, renewed
from samson.statistics import mean_interval

ROOT = Path(__file__).parent.parent
RECORD = json.loads((ROOT / "benchmarks" / "records" / "coverage.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


EVALUATING, ERROR_BARS = (
    " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split()) for name in ("evaluating.md", "error-bars.md")
)


def shares(pattern: str, text: str = EVALUATING) -> list[float]:
    """The numbers that a page says."""
    found = re.search(pattern, text, re.IGNORECASE)
    assert found is not None, pattern
    return [float(number) for number in found.groups()]


def ends(values: list[float]) -> list[int]:
    """The least and the largest, in percent."""
    return [round(100 * end) for end in (min(values), max(values))]


def rows(interval: str) -> list[dict]:
    return of(RECORD, interval)


def test_the_page_shows_the_record() -> None:
    assert page(RECORD) == PAGE
    other = json.loads(json.dumps(RECORD))
    other["rows"][0]["coverage"] = 0.5
    assert page(other) != PAGE  # the check can fail


def test_the_docstring_says_how_rare_dead_chips_are_missed() -> None:
    dead = [(row["coverage"], *row["beside"].values()) for row in rows("mean_interval") if "dead" in row["simulated"]]
    ours, plain = (", ".join(f"{share:.2f}"[1:] for share in shares) for shares in zip(*dead, strict=True))
    assert f"one chip in 50 dead                   | {ours} | {plain} |" in mean_interval.__doc__


def test_every_row_is_on_the_page() -> None:
    assert {row["interval"] for row in RECORD["rows"]} == set(INTERVALS)
    assert all(f"| {row['simulated']} |" in PAGE for row in RECORD["rows"])


def test_one_part_again_leaves_the_others_and_says_what_it_ran_on() -> None:
    new = [{"interval": "noise_budget", "simulated": "anew", "coverage": 0.5, "beside": {}}]
    record = {"environment": {"git": "a"}, "rows": [{"interval": name} for name in ("looks", "noise_budget", "pairs")]}
    found = renewed(record, "budget", new, {"environment": {"git": "b"}})
    assert found["rows"] == [{"interval": "looks"}, *new, {"interval": "pairs"}]
    assert (found["environment"], found["again"]) == ({"git": "a"}, {"budget": {"environment": {"git": "b"}}})


def test_the_record_keeps_what_is_promised() -> None:
    means = [row for row in rows("mean_interval") if "dead" not in row["simulated"]]
    few = [row["coverage"] for row in means if row["simulated"].startswith("5 chips")]
    [far_off] = [row["coverage"] for row in means if row["simulated"] == "10 chips, Beta .99, factor .3"]
    assert shares(r"with ten chips or more.*?holds it in (\d+) to (\d+) %") == ends(
        [row["coverage"] for row in means if row["coverage"] not in (*few, far_off)]
    )
    assert shares(r"five chips are too few \((\d+) to (\d+) %\).*?ten are too few \((\d+) %") == [
        *ends(few),
        round(100 * far_off),
    ]
    means = [row for row in means if row["coverage"] not in (*few, far_off) and "lognormal" not in row["simulated"]]
    assert len(means) == 13
    assert all(0.93 <= row["coverage"] <= 0.97 and row["repetitions"] >= 4000 for row in means)
    assert all(row["coverage"] >= 0.95 for row in rows("share_interval") + rows("betting_interval"))
    gaussian = [row for row in rows("looks") if row["simulated"].startswith("Gaussian")]
    assert len(gaussian) == 4
    assert all(row["coverage"] >= 0.95 for row in gaussian)
    usual = [row["chips_to_fixed"] for row in rows("looks") if not re.search(r"factor \.3|dead", row["simulated"])]
    assert shares(r"`precision` takes ([\d.]+) to ([\d.]+) times the chips") == [
        round(x, 1) for x in (min(usual), max(usual))
    ]
    far = [row["coverage"] for row in rows("looks") if "factor .3" in row["simulated"]]
    assert shares(r"it holds in (\d+) to (\d+) % of cases; `stopping", ERROR_BARS) == ends(far)
    assert all(row["coverage"] >= 0.95 for row in rows("equal methods"))
    one, four = (
        [row for row in rows("mean_ranks") if f", {text}," in row["simulated"]] for text in ("1 problem", "4 problems")
    )
    pair = [row["coverage"] for row in one if "2 seeds" in row["simulated"]]
    more = [row["coverage"] for row in one if "2 seeds" not in row["simulated"]]
    assert shares(r"with one problem and two seeds.*?(\d+) to (\d+) %.*?(\d+) to (\d+) %.*?(\d+) to (\d+) %") == [
        *ends(pair),
        *ends(more),
        *ends([row["coverage"] for row in four]),
    ]
    changed = {row["simulated"].split(", ")[1].split()[0]: row["coverage"] for row in rows("few changed examples")}
    said = shares(r"of few changed examples.*?of five in (\d+) % of cases, of one in less than (\d+) %")
    assert said[0] == round(100 * changed["5"])
    assert 100 * changed["1"] < said[1]
    assert all(0.93 <= row["coverage"] <= 0.97 for row in rows("crossed_interval"))
    assert all(row["coverage"] >= 0.9 for row in rows("noise_budget"))
    enough = [row for row in rows("fixed_sequence") if row["simulated"].startswith(("20 chips", "50 chips"))]
    assert len(enough) == 6
    assert all(row["coverage"] >= 0.95 for row in enough)
    plain = [row["beside"]["Student's t alone"] for row in rows("fixed_sequence")]
    assert min(plain) < 0.9  # a limit that does not allow for skewed drops is told apart
