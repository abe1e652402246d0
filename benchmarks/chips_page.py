"""Make `docs/chips.md` and its pictures: every picture and figure comes from programming and reading with the library.

pip install -c constraints.txt ".[docs]"
python -m benchmarks.chips_page            # everything
python -m benchmarks.chips_page gaussian   # one picture

The text is `benchmarks/chips/page.md`, where `$name` stands for a figure or table of `benchmarks/chips/quoted.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from benchmarks.chips.around import converters, ir_drop
from benchmarks.chips.broken import faults, variation
from benchmarks.chips.digital import bit_errors, quantisation
from benchmarks.chips.generic import gaussian, lognormal
from benchmarks.chips.mapping import mapping, mapping_error
from benchmarks.chips.overview import overview
from benchmarks.chips.phase_change import hermes, pcm_drift, pcm_programming, pcm_read
from benchmarks.chips.quoted import quoted
from benchmarks.chips.resistive import cmo, reram
from benchmarks.chips.style import svg

DOCS = Path(__file__).parent.parent / "docs"
TEMPLATE = Path(__file__).parent / "chips" / "page.md"

PICTURES: dict[str, Callable[[], Figure]] = {
    "overview": overview,
    "gaussian": gaussian,
    "lognormal": lognormal,
    "mapping": mapping,
    "mapping-error": mapping_error,
    "pcm-programming": pcm_programming,
    "pcm-drift": pcm_drift,
    "pcm-read": pcm_read,
    "hermes": hermes,
    "reram": reram,
    "cmo": cmo,
    "quantisation": quantisation,
    "bit-errors": bit_errors,
    "faults": faults,
    "variation": variation,
    "converters": converters,
    "ir-drop": ir_drop,
}
"""By the name of the file in `docs/chips/`."""


def page() -> str:
    """The page's text, with its figures and tables."""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(quoted())


def main(names: list[str]) -> None:
    """Write the pictures of these names, or all of them and the page."""
    (DOCS / "chips").mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        (DOCS / "chips" / f"{name}.svg").write_bytes(svg(PICTURES[name]))
    if not names:
        (DOCS / "chips.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
