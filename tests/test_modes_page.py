"""The page of modes: every figure is the record's, and what it says to take is the best of the record."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "which-mode.md").read_text(encoding="utf-8")
MODES = json.loads((ROOT / "benchmarks" / "records" / "modes-digits.json").read_text(encoding="utf-8"))["modes"]
ADVICE = re.findall(r"- \*\*(.+?)\*\*(, with clipping)?: (.+?)(?: alone)?, (\S+) %\.", PAGE)


@pytest.mark.needs("matplotlib")
def test_the_page_is_what_its_script_makes() -> None:
    from benchmarks.modes_page import page

    assert page() == PAGE


def test_every_mode_has_the_figures_of_the_record() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert {name for name in MODES if name.startswith("SAMSON")} | {"SGD", "clipping"} < {row[0] for row in rows}
    for name, *_, cost, accuracy in (row[:4] for row in rows):
        low, middle, high = MODES[name]["cost"]
        assert cost == f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        assert accuracy == f"{100 * max(MODES[name]['scores']):.1f}"


@pytest.mark.parametrize(("words", "clips", "name", "accuracy"), ADVICE)
def test_the_advice_is_the_best_within_its_cost(words: str, clips: str, name: str, accuracy: str) -> None:
    """With clipping also clipping alone; without it modes of SAMSON, as noise and other balls have another page."""
    most = float(match[1]) if (match := re.search(r"up to (\S+) x", words)) else float("inf")
    kinds = {
        n: m for n, m in MODES.items() if ("clip" in n if clips else re.match(r"SGD|Lookbehind|SAMSON(?!.*clip)", n))
    }
    best = max((n for n, m in kinds.items() if m["cost"][1] <= most), key=lambda n: max(kinds[n]["scores"]))
    assert (name, accuracy) == (best, f"{100 * max(kinds[best]['scores']):.1f}")


def test_the_advice_is_for_two_costs_with_clipping_and_without() -> None:
    assert [bool(clips) for _, clips, _, _ in ADVICE] == [False, True] * 2
