"""The pages of modes and methods are what their scripts make; the mode to take is the best of the record."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import modes_digits

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "which-mode.md").read_text(encoding="utf-8")
MODES = json.loads((ROOT / "benchmarks" / "records" / "modes-digits.json").read_text(encoding="utf-8"))["modes"]
ADVICE = re.findall(r"- \*\*(.+?)\*\*(, with clipping)?: (.+?)(?: alone)?, (\S+) %\.", PAGE)


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(("script", "name"), [("modes_page", "which-mode"), ("methods_page", "which-method")])
def test_a_page_is_what_its_script_makes(script: str, name: str) -> None:
    page = import_module(f"benchmarks.{script}").page()
    assert page == (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def test_the_record_is_of_the_modes_of_its_script() -> None:
    made = {name: list(mode.grid) for name, mode in modes_digits.MODES.items()}
    assert {name: mode["grid"] for name, mode in MODES.items()} == made


def test_every_mode_has_the_figures_of_the_record() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert {row[0] for row in rows} == set(MODES)
    for name, *_, cost, accuracy in (row[:4] for row in rows):
        low, middle, high = MODES[name]["cost"]
        assert cost == f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        assert accuracy == f"{100 * max(MODES[name]['scores']):.1f}"


@pytest.mark.parametrize(("words", "clips", "name", "accuracy"), ADVICE)
def test_the_advice_is_the_best_within_its_cost(words: str, clips: str, name: str, accuracy: str) -> None:
    """With clipping also clipping alone."""
    most = float(match[1]) if (match := re.search(r"up to (\S+) x", words)) else float("inf")
    kinds = {n: m for n, m in MODES.items() if ("clip" in n) == bool(clips)}
    best = max((n for n, m in kinds.items() if m["cost"][1] <= most), key=lambda n: max(kinds[n]["scores"]))
    assert (name, accuracy) == (best, f"{100 * max(kinds[best]['scores']):.1f}")


def test_the_advice_is_for_two_costs_with_clipping_and_without() -> None:
    assert [bool(clips) for _, clips, _, _ in ADVICE] == [False, True] * 2
