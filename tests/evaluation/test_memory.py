"""What an evaluation holds in memory beyond the model, counted where torch's allocator hands it out."""

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.evaluation_memory import CHIPS, EXAMPLES, RECORD, copies_of

PAGE = Path(__file__).parents[2] / "docs" / "evaluating.md"


@pytest.mark.parametrize("name", ["gaussian", "pcm"])
def test_a_chip_that_is_read_once_is_never_there_as_a_whole(name: str) -> None:
    """One copy is the model's own weights, beside the chip's; what comes on top is of one layer of 24."""
    noise = CHIPS[name]
    once = copies_of(noise, torch.bfloat16, width=128)
    assert 1.0 <= once < 3.0
    again = copies_of(noise, torch.bfloat16, width=128, read_block=EXAMPLES // 2)  # which the count tells apart
    assert again > once + 0.5
    assert (again > 9) == (name == "pcm")


def test_what_the_page_says_is_of_the_record() -> None:
    copies = json.loads(RECORD.read_text())["copies"]
    text = PAGE.read_text(encoding="utf-8").partition("## How much memory it takes")[2].partition("\n## ")[0]
    [_, _, *rows] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert [name for name, *_ in rows] == list(copies)
    for name, *cells in rows:
        assert cells == [f"{value:.1f}" for value in copies[name].values()]
    assert re.search(r"24 linear layers of 1,024 × 1,024 weights", " ".join(text.split()))
