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
from matplotlib.axes import Axes

from benchmarks.markdown import table
from benchmarks.modes_digits import MODES, RECORD

DOCS = Path(__file__).parent.parent / "docs"
BUDGET = 1.35
"""What costs about as much as plain SGD, in its steps."""

TEXT = """# Which mode for which budget

A mode says how the optimizer moves the weights: in every step or in some, along which gradient, by how much. Some modes
cost less time. This page measures, for every mode with SAMSON on the digits, what a training step costs and how
accurate the networks are on chips with Gaussian noise ([the record](../benchmarks/records/modes-digits.json)). [Which
method](which-method.md) compares methods.

## What to take

The highest accuracy within each budget:

{advice}

![Cost of a step against accuracy on chips](which-mode.svg)

## The measurements

- **Cost** is the time of a step as a ratio to plain SGD's in the same round (median; in brackets the quartiles), on
  one CPU thread. The network is small (78,000 parameters), so what a mode does beside its passes weighs more than on a
  large one.
- **Accuracy** is on the {split} split, in percent, averaged over the noise levels {levels}, over
  {chips} chips for each level and {seeds} training seeds. It is that of the best of four candidates for the mode's
  setting (all four are shown): good for choosing a mode, a little too good as a forecast.
  `samson compare` shows the test split, with intervals.
- There is one data set, one network, one kind of noise and {seeds} seeds: do not trust differences of a point or two.
- `clipping` moves no weights. It is there to compare with.

{table}

An accuracy near 10 % is that of guessing: the training failed.

## How to type it, and what it does

`base` is your optimizer, made from `param_groups(model)`. In a comparison modes are settings: `--set samson.every=5`,
`samson.ramp=quadratic` (or `linear`, `drawn`), `samson.ascent=previous` (or `momentum`), `samson.mix=0.7`. Reuse, the
compiled step, `Lookbehind` and norm layers alone need [a method of your own](comparing.md).

{typed}
"""


def modes() -> dict[str, Any]:
    """Those of SAMSON and Lookbehind, and SGD and clipping to compare with."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))["modes"]
    return found


def accuracies() -> str:
    """One line for each mode."""
    lines = []
    for name, mode in modes().items():
        setting = ", ".join(f"{key} {value:g}" for key, value in mode["setting"].items())
        others = ", ".join(
            f"{value:g}: {100 * score:.1f}" for value, score in zip(mode["grid"], mode["scores"], strict=True)
        )
        cost = "{1:.2f} [{0:.2f}, {2:.2f}]".format(*mode["cost"])
        lines.append([name, setting, cost, f"{best(mode):.1f}", others if setting else ""])
    return table(["mode", "setting", "cost", "accuracy", "its candidates"], lines)


def best(mode: dict[str, Any]) -> float:
    """The best candidate's accuracy in percent."""
    return 100 * max(mode["scores"])


def advice() -> str:
    """The most accurate mode within each budget, without clipping and with it."""
    lines = []
    for budget, words in ((BUDGET, f"About the cost of SGD (up to {BUDGET} x)"), (99.0, "Whatever it costs")):
        within = {n: m for n, m in modes().items() if m["cost"][1] <= budget and not m["same_networks_as"]}
        for kind, clipped in (("", False), (", with clipping", True)):
            name = max((n for n in within if ("clip" in n) == clipped), key=lambda n: best(within[n]))
            alone = " alone" if name == "clipping" else ""
            lines.append(f"- **{words}**{kind}: {name}{alone}, {best(within[name]):.1f} %.")
    return "\n".join(lines)


def picture() -> None:
    """Cost with its quartiles against accuracy, one dot for each mode."""
    axes = axes_of(5.5)
    for name, mode in modes().items():
        if mode["same_networks_as"]:
            continue
        colour = "#6b7280" if name == "SGD" else "#d55e00" if "clip" in name else "#0072b2"
        low, middle, high = mode["cost"]
        axes.errorbar(middle, best(mode), xerr=[[middle - low], [high - middle]], fmt="o", color=colour, ms=5, lw=1)
        left = middle < 1.6 or name == "SAMSON"  # else labels cover each other
        axes.annotate(
            name.removeprefix("SAMSON, "),
            (middle, best(mode)),
            (-5 if left else 5, 3),
            textcoords="offset points",
            ha="right" if left else "left",
            color=colour,
            fontsize=8,
        )
    axes.set_xlabel("time of a step, as a ratio to SGD's")
    axes.set_ylabel("accuracy on chips (%), mean over noise levels")
    axes.margins(x=0.2)
    save(axes, "which-mode.svg")


def axes_of(height: float) -> Axes:
    """Of a picture so many inches high."""
    plt.rcParams |= {"svg.hashsalt": "samson", "font.size": 9, "font.family": "sans-serif"}
    return plt.subplots(figsize=(8.5, height))[1]


def save(axes: Axes, name: str) -> None:
    """Put a picture beside the pages."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.tight_layout()
    axes.figure.savefig(DOCS / name, metadata={"Date": None})


def page() -> str:
    """The page's text."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return TEXT.format(
        split=record["split"],
        levels=", ".join(f"{level:g}" for level in record["levels"]),
        chips=record["chips"],
        seeds=len(record["seeds"]),
        table=accuracies(),
        advice=advice(),
        typed="\n".join(f"- **{name}**, `{MODES[name].typed}`: {MODES[name].does}." for name in modes()),
    )


def main() -> None:
    """Write the page and its picture."""
    picture()
    (DOCS / "which-mode.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
