"""Make `docs/which-method.md` and its picture from the record of `methods_digits.py`.

pip install -c constraints.txt ".[docs]"
python -m benchmarks.methods_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("svg")
from matplotlib import pyplot as plt

RECORD = Path(__file__).parent / "records" / "methods-digits.json"
DOCS = Path(__file__).parent.parent / "docs"

PER_LAYER = "gaussian 0.2"
"""The chips by which methods are ordered: the largest noise that the search has seen."""

TEXT = """# Which method

What to take when the chip is unknown, when its kind is known, and when it is known exactly, with the price in training
time. The figures are of the digits, a small residual network and the **validation** split: {seeds} training seeds that
took no part in the search of the settings, {trials} chips of each kind, mean accuracy in percent with the 95 % interval
over seeds (Student's t). `benchmarks/search_digits.py` chose the settings, twelve candidates for every method;
`benchmarks/methods_digits.py` measured; `benchmarks/methods_page.py` made this page. One small task: [your own
problem](comparing.md) is one file away, and decides.

![Accuracy on chips against the price of a step](which-method.svg)

## In short

{advice}

## The chip is unknown: settings chosen without any chip

"Blind" settings had the best accuracy without noise; of equal ones the strongest perturbation or the tightest bound.

{blind}

## Its kind is known: settings chosen on noisy chips

"Informed" settings had the best mean accuracy over Gaussian noise of 0 to 0.3 of each layer's largest weight, on
validation chips. The other kinds of chips took no part, so their columns say how far the choice carries.

{informed}

## It is known exactly

Train through it: [noise, converters and bounds](known-chips.md). In the table above `noise` and `rwp` inject the very
noise of the Gaussian columns, and `hwa` trains through converters such as those of the last column, whose static input
ranges are its own (for the others they are calibrated on training data).

## How to read the price

Price is the time of a step over that of plain SGD in the same round (median; in brackets the quartiles), on one CPU
thread, for a small network. `hwa` and `distil` also train a teacher first: one more plain training, which is not in the
price of a step. The names are those of `samson compare --methods`; `samson list methods` says what each is.
"""


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width over seeds, in percent."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return 100 * mean, 100 * half


def values(entry: dict[str, Any], kind: str) -> list[float]:
    """One value for each seed; chance where a training diverged."""
    return [
        0.1 if "diverged" in run else run["clean"] if kind == "clean" else run["chips"][kind] for run in entry["runs"]
    ]


def kinds(record: dict[str, Any]) -> list[str]:
    """The columns."""
    run = next(run for entry in record["methods"].values() for run in entry["runs"] if "chips" in run)
    return ["clean", *run["chips"]]


def of_criterion(record: dict[str, Any], criterion: str) -> dict[str, dict[str, Any]]:
    """The methods with the settings of a criterion, best first, and plain SGD."""
    found = {entry["method"]: entry for label, entry in record["methods"].items() if label.endswith(criterion)}
    found["sgd"] = record["methods"]["sgd"]
    return dict(sorted(found.items(), key=lambda item: -np.mean(values(item[1], PER_LAYER))))


def table(record: dict[str, Any], criterion: str) -> str:
    """One line for each method."""
    columns = kinds(record)
    lines = [
        "| method | settings | price | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for name, entry in of_criterion(record, criterion).items():
        settings = ", ".join(f"{key} {value:g}" for key, value in entry["settings"].items())
        middle, low, high = record["costs"][name]
        shown = ["{:.1f} ±{:.1f}".format(*interval(values(entry, kind))) for kind in columns]
        lines.append("| " + " | ".join([name, settings, f"{middle:.2f} [{low:.2f}, {high:.2f}]", *shown]) + " |")
    return "\n".join(lines)


def best(record: dict[str, Any], criterion: str, limit: float, without: str = "") -> str:
    """The best method at the largest noise within a price, in words."""
    within = {
        name: entry
        for name, entry in of_criterion(record, criterion).items()
        if record["costs"][name][0] <= limit and not (without and without in name)
    }
    name = next(iter(within))
    noisy, clean = (interval(values(within[name], kind)) for kind in (PER_LAYER, "clean"))
    return f"`{name}`: {noisy[0]:.1f} ±{noisy[1]:.1f} at {PER_LAYER}, {clean[0]:.1f} ±{clean[1]:.1f} without noise"


def advice(record: dict[str, Any]) -> str:
    """What to take, in a few lines; differences smaller than the intervals are none."""
    plain = interval(values(record["methods"]["sgd"], PER_LAYER))
    lines = [f"- Plain SGD, for comparison: {plain[0]:.1f} ±{plain[1]:.1f} at {PER_LAYER}."]
    for criterion, words in (("blind", "The chip is unknown"), ("informed", "Its kind is known")):
        lines += [
            f"- **{words}**, at about the price of SGD (up to 1.35 x): {best(record, criterion, 1.35)}.",
            f"- **{words}**, whatever the price: {best(record, criterion, 99)}.",
        ]
    lines.append("- Differences smaller than the intervals are none: take the cheaper one.")
    return "\n".join(lines)


def picture(record: dict[str, Any]) -> None:
    """Price against accuracy at the largest noise; blind settings hollow, informed ones filled."""
    plt.rcParams |= {"svg.hashsalt": "samson", "font.size": 9, "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(8.5, 6))
    for criterion, fill in (("blind", "none"), ("informed", "full")):
        for name, entry in of_criterion(record, criterion).items():
            bounded = any(word in name for word in ("clip", "range+", "learned", "hwa"))
            colour = "#6b7280" if name == "sgd" else "#d55e00" if bounded else "#0072b2"
            mean, half = interval(values(entry, PER_LAYER))
            price = record["costs"][name][0]
            axes.errorbar(price, mean, yerr=half, fmt="o", color=colour, ms=5, lw=0.8, fillstyle=fill)
            if criterion == "informed":
                axes.annotate(name, (price, mean), (6, -3), textcoords="offset points", color=colour, fontsize=7)
    axes.set_xlabel("time of a step, as a ratio to plain SGD's")
    axes.set_ylabel(f"validation accuracy at {PER_LAYER} (%); hollow: settings chosen blind")
    axes.set_ylim(0, 101)
    axes.margins(x=0.15)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(DOCS / "which-method.svg", metadata={"Date": None})


def page(record: dict[str, Any]) -> str:
    """The page's text."""
    return TEXT.format(
        seeds=len(record["seeds"]),
        trials=record["trials"],
        advice=advice(record),
        blind=table(record, "blind"),
        informed=table(record, "informed"),
    )


def main() -> None:
    """Write the page and its picture."""
    record = json.loads(RECORD.read_text())
    picture(record)
    (DOCS / "which-method.md").write_text(page(record))


if __name__ == "__main__":
    main()
