"""Make `docs/which-mode.md` and its picture from the record of `modes_digits.py`.

pip install -c constraints.txt ".[docs]"
python -m benchmarks.modes_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

RECORD = Path(__file__).parent / "records" / "modes-digits.json"
DOCS = Path(__file__).parent.parent / "docs"
SHOWN = 0.2
"""Noise level of the picture."""

TEXT = """# Which mode for which budget

Every mode of the optimizer, on the digits under Gaussian noise: what a training step costs, beside how accurate the
networks are on chips. The record is `benchmarks/records/modes-digits.json`, written by `benchmarks/modes_digits.py`;
this page is made from it by `benchmarks/modes_page.py`.

![Cost of a step against accuracy at noise {shown:g}](which-mode.svg)

- **Cost** is the time of a step as a ratio to plain SGD's in the same round (median; in brackets the quartiles), on
  one CPU thread. The network is small ({parameters}), so what a mode does beside its passes weighs more than on a
  large one.
- **Accuracy** is on {examples} test images, in percent, over {chips} chips a level and the networks of {seeds}
  training seeds, ± half the 95 % interval over chips. It speaks of these networks: at noise {shown:g} the means of
  single seeds lie up to {spread:.1f} points apart (largest spread within one mode).
- Each mode's setting (ρ, σ or α) is the best of four candidates on the validation split; the test split chose nothing.
  One data set, one network, one kind of noise: take the order with care.

{table}

## What to take

By mean validation accuracy over all levels, within each budget; the figure is then the test chips':

{advice}

## How to type it

`base` is your optimizer, made from `param_groups(model)`.

{typed}
"""


def table(record: dict[str, Any]) -> str:
    """One line for each mode."""
    levels = record["levels"]
    head = "| mode | setting | cost | " + " | ".join(f"{level:g}" for level in levels) + " |"
    lines = [head, "|---|---|---|" + "---|" * len(levels)]
    for name, mode in record["modes"].items():
        low, middle, high = mode["cost"]
        setting = ", ".join(f"{key} {value:g}" for key, value in mode["setting"].items())
        cells = [name, setting, f"{middle:.2f} [{low:.2f}, {high:.2f}]", *(percent(*a) for a in mode["accuracy"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def percent(mean: float, low: float, high: float) -> str:
    """A mean in percent with half its interval's width; no interval without noise."""
    return f"{100 * mean:.1f}" + (f" ±{50 * (high - low):.1f}" if high > low else "")


def advice(record: dict[str, Any]) -> str:
    """The mode with the best validation accuracy within each budget, and what the test chips say of it."""
    number = record["levels"].index(SHOWN)
    lines = []
    for budget, words in ((1.35, "About the cost of SGD"), (2.0, "Less than twice SGD"), (10.0, "Whatever it costs")):
        within = {n: m for n, m in record["modes"].items() if m["cost"][1] <= budget and not m["same_networks_as"]}
        best = max(within, key=lambda n: max(within[n]["validation_scores"]))
        mean, low, high = within[best]["accuracy"][number]
        lines.append(
            f"- **{words}** (up to {budget:g} x): {best}, {percent(mean, low, high)} % at noise {SHOWN:g}."
            if budget < 10
            else f"- **{words}**: {best}, {percent(mean, low, high)} % at noise {SHOWN:g}."
        )
    return "\n".join(lines)


def picture(record: dict[str, Any]) -> None:
    """Cost against accuracy, one dot with its interval for each mode."""
    number = record["levels"].index(SHOWN)
    plt.rcParams |= {"svg.hashsalt": "samson", "font.size": 9, "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    for name, mode in record["modes"].items():
        if mode["same_networks_as"]:
            continue
        mean, low, high = (100 * value for value in mode["accuracy"][number])
        colour = (
            "#6b7280"
            if name == "SGD"
            else "#d55e00"
            if "clip" in name
            else "#0072b2"
            if "SAMSON" in name
            else "#009e73"
        )
        axes.errorbar(mode["cost"][1], mean, [[mean - low], [high - mean]], fmt="o", color=colour, ms=5, lw=1)
        axes.annotate(name, (mode["cost"][1], mean), (5, 3), textcoords="offset points", color=colour, fontsize=8)
    axes.set_xlabel("time of a step, as a ratio to SGD's")
    axes.set_ylabel(f"test accuracy (%) at noise {SHOWN:g}")
    axes.margins(x=0.2)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(DOCS / "which-mode.svg", metadata={"Date": None})


def page(record: dict[str, Any]) -> str:
    """The page's text."""
    number = record["levels"].index(SHOWN)
    spread = max(
        max(seed[number] for seed in m["by_seed"]) - min(seed[number] for seed in m["by_seed"])
        for m in record["modes"].values()
    )
    return TEXT.format(
        shown=SHOWN,
        parameters="78,000 parameters",
        examples=360,
        chips=record["final"]["chips"],
        seeds=len(record["final"]["seeds"]),
        spread=100 * spread,
        table=table(record),
        advice=advice(record),
        typed="\n".join(f"- {name}: `{mode['typed']}`" for name, mode in record["modes"].items()),
    )


def main() -> None:
    """Write the page and its picture."""
    record = json.loads(RECORD.read_text())
    DOCS.mkdir(exist_ok=True)
    picture(record)
    (DOCS / "which-mode.md").write_text(page(record))


if __name__ == "__main__":
    main()
