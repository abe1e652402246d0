"""Make `docs/which-method.md` and its picture from records, and measure what a step costs.

pip install -c constraints.txt ".[docs]"
python -m benchmarks.methods_page costs       # measures what a step costs, about a minute
python -m benchmarks.methods_page
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.markdown import table
from benchmarks.modes_page import BUDGET, DOCS, axes_of, save
from benchmarks.search_digits import GRIDS, NETWORK
from benchmarks.search_digits import RECORD as SEARCHED
from benchmarks.timing import Step, in_turn, ratio, step_of
from benchmarks.writing import write
from samson._times import age_text, seconds_of
from samson.experiments import Method, make_network, one_thread, parse_methods

COSTS = Path(__file__).parent / "records" / "method-costs.json"
OTHERS = Path(__file__).parent / "records" / "methods-digits.json"
ROUNDS = 30

TEXT = """# Which method

Which training method to take when the chip is unknown, when its kind is known, and when it is known exactly; and what
it costs in training time. The figures are of one small task, the digits. [Your own problem](comparing.md) decides.

## In short

**For your own task** take `clip`, at about the cost of SGD, or `rangesam+clip`, at twice that. Try several values of
`alpha`: how tightly one clips may count for more than which method one takes ([the
evidence](evidence.md#at-one-clipping)).

On the digits alone:

{advice}

Three warnings:

- With two seeds, differences below a point say nothing. Under "unknown", too, the method was picked by its result on
  Gaussian chips; only its settings were chosen without noise.
- On other tasks `rangesam+learned-range` was about as good as `rangesam+clip` (Fashion-MNIST, CIFAR-10 with ResNet-20),
  or much worse without noise (text, CIFAR-10 with MobileNetV2).
- `fixed-clip` clips every layer at one size, `w_max`. The right size depends on the network: search it on yours. The
  evidence has no other task for it.

![Accuracy on chips against the cost of a step](which-method.svg)

## What the figures are

They are of a small residual network on the **{split}** split of the digits: mean accuracy in percent over {seeds}
training seeds and {chips} chips for each level of Gaussian noise, which is relative to the largest weight of each layer
([the record](../benchmarks/records/search-digits.json)). Every method had twelve candidates for its own settings. A row
shows the best of the twelve. That is good for choosing, and a little too good as a forecast. With {seeds} seeds, a
difference of a point says nothing.

`sgd` has the learning rate and weight decay of all methods ({best_sgd}). `sgd`, `noise`, `clip`, `sam`, `asam`,
`samson` and their forms with `+clip` were searched at an earlier commit, with another order of the examples.

## The chip is unknown: settings chosen without any chip

"Blind" settings had the best accuracy without noise. Of equal candidates the later counts: mostly the larger
perturbation, or the wider clipping.

{blind}

## Its kind is known: settings chosen on noisy chips

"Informed" settings had the best mean accuracy over all levels, on validation chips.

{informed}

## Other kinds of chips

The settings above, trained again with three other seeds and put on {other_trials} chips of each kind
([the record](../benchmarks/records/methods-digits.json)), on the validation split: mean accuracy in percent over seeds,
and its standard error. Only `noise`, `rwp` and `hwa`, alone and with others, saw Gaussian noise in training. `hwa` also
saw converters with the steps of the last column's, but a bound of 14 in place of 10, and without noise of outputs or IR
drop. First the informed settings, then the blind ones; the order is that of the mean over kinds.

{other_informed}

{other_blind}

## The chip is known exactly

You can train through it: [noise, converters and bounds](known-chips.md). On the digits, with informed
settings, this brought nothing beyond clipping that these seeds could show, not even on the chips of the last column.
In the first two tables `noise` and `rwp` inject the very noise that is measured, which is the most that can be known of
it. `hwa` adds converters; of these chips only those of the last column have any. Elsewhere it can only lose by them.

## How to read the cost

Cost is the time of a step over that of plain SGD in the same round (median; in brackets the quartiles), on one CPU
thread, for a small network ([the record](../benchmarks/records/method-costs.json)). `hwa` and `distil` also train a
teacher first: one more plain training, which is not in the cost of a step. The names are those of
`samson compare --methods`; `samson list methods` says what each is.
"""


class Entry:
    """A method with one of its candidates."""

    def __init__(self, candidate: dict[str, Any]) -> None:
        self.settings: dict[str, float] = candidate["settings"]
        self.levels = 100 * np.mean(candidate["by_seed_and_level"], axis=0)
        """Accuracy at each level, the mean over seeds."""

    @property
    def noisy(self) -> float:
        """The mean over the levels above 0."""
        return float(np.mean(self.levels[1:]))


def chosen(record: dict[str, Any], criterion: str) -> dict[str, Entry]:
    """The candidate of each method by a criterion, best on noisy chips first; plain SGD has none of its own."""
    found = {}
    for name, search in record["methods"].items():
        entries = [Entry(candidate) for candidate in search["candidates"]]
        if name == "sgd":  # with the settings that all others have
            entries = [e for e in entries if e.settings == {key: record["base"][key] for key in e.settings}]
        scores = [round(e.levels[0] if criterion == "blind" else float(np.mean(e.levels)), 6) for e in entries]
        found[name] = entries[max(index for index, score in enumerate(scores) if score == max(scores))]
    return dict(sorted(found.items(), key=lambda item: -item[1].noisy))


def accuracies(record: dict[str, Any], prices: dict[str, list[float]], criterion: str) -> str:
    """One line for each method."""
    levels = record["levels"]
    heads = ["method", "settings", "cost", "without noise", *(f"{level:g}" for level in levels[1:])]
    lines = []
    for name, entry in chosen(record, criterion).items():
        settings = "" if name == "sgd" else ", ".join(f"{key} {value:g}" for key, value in entry.settings.items())
        cost = "{:.2f} [{:.2f}, {:.2f}]".format(*prices[name])
        lines.append([name, settings, cost, *(f"{value:.1f}" for value in entry.levels)])
    return table(heads, lines)


def others(record: dict[str, Any], criterion: str) -> str:
    """One line for each method, on each kind of chip."""
    found = {}
    for label, entry in record["methods"].items():
        name, _, own = label.partition(" ")
        if own in ("", criterion):
            found[name] = 100 * np.array([[run["clean"], *run["chips"].values()] for run in entry["runs"]])
    kinds = ["without noise", *map(heading, record["methods"]["sgd"]["runs"][0]["chips"])]
    lines = []
    for name, values in sorted(found.items(), key=lambda item: -item[1][:, 1:].mean()):
        errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        cells = [f"{mean:.1f} ± {error:.1f}" for mean, error in zip(values.mean(axis=0), errors, strict=True)]
        lines.append([name, *cells])
    return table(["method", *kinds], lines)


def heading(label: str) -> str:
    """A kind of chip as all pages name it: its age in words, and a chip without levels by its name alone."""
    family, _, level = label.partition(" ")
    if level == family:
        return family
    return f"{family} {age_text(seconds_of(level.replace(' ', '')))}" if level[-1].isalpha() else label


def advice(record: dict[str, Any], prices: dict[str, list[float]]) -> str:
    """What to take, in a few lines."""
    plain = chosen(record, "blind")["sgd"]
    lines = [
        f"- Plain SGD, for comparison: {plain.noisy:.1f} % on noisy chips, in the mean over the levels, and "
        f"{plain.levels[0]:.1f} % without noise."
    ]
    for criterion, words in (("blind", "The chip is unknown"), ("informed", "Its kind is known")):
        for limit, cost in ((BUDGET, f"at about the cost of SGD (up to {BUDGET} times)"), (99.0, "whatever it costs")):
            name, entry = next((n, e) for n, e in chosen(record, criterion).items() if prices[n][0] <= limit)
            lines.append(
                f"- **{words}**, {cost}: `{name}`, {entry.noisy:.1f} % on noisy chips, {entry.levels[0]:.1f} % without."
            )
    return "\n".join(lines)


def picture(record: dict[str, Any], prices: dict[str, list[float]]) -> None:
    """Cost against accuracy on noisy chips; blind settings hollow, informed ones filled."""
    axes = axes_of(6.5)
    for criterion, fill in (("blind", "none"), ("informed", "full")):
        for name, entry in chosen(record, criterion).items():
            bounded = any(word in name for word in ("clip", "learned", "hwa"))
            colour = "#6b7280" if name == "sgd" else "#d55e00" if bounded else "#0072b2"
            axes.plot(prices[name][0], entry.noisy, "o", color=colour, ms=6, fillstyle=fill)
            if criterion == "informed":
                axes.annotate(name, (prices[name][0], entry.noisy), (6, -3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("time of a step, as a ratio to plain SGD's")
    axes.set_ylabel("accuracy on chips (%), mean over noisy levels; hollow: settings chosen blind")
    axes.margins(x=0.18)
    save(axes, "which-method.svg")


def found() -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The record of the search, and what a step of each method costs."""
    return json.loads(SEARCHED.read_text(encoding="utf-8")), json.loads(COSTS.read_text(encoding="utf-8"))["costs"]


def page() -> str:
    """The page's text."""
    (record, prices), other = found(), json.loads(OTHERS.read_text(encoding="utf-8"))
    return TEXT.format(
        split=record["split"],
        seeds=len(record["seeds"]),
        chips=record["chips"],
        advice=advice(record, prices),
        blind=accuracies(record, prices, "blind"),
        informed=accuracies(record, prices, "informed"),
        best_sgd=best_sgd(record),
        other_trials=other["trials"],
        other_informed=others(other, "informed"),
        other_blind=others(other, "blind"),
    )


def best_sgd(record: dict[str, Any]) -> str:
    """What plain SGD reaches with a learning rate and a weight decay of its own."""
    entries = map(Entry, record["methods"]["sgd"]["candidates"])
    best = max(entries, key=lambda entry: float(np.mean(entry.levels)))
    settings = " and ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in best.settings.items())
    return f"its own best, {settings}, have {best.noisy:.1f} % over the noisy levels"


def step(method: Method, images: Tensor, targets: Tensor) -> Step:
    """A step on one mini-batch, without a teacher."""
    model = make_network(NETWORK, (1, 8, 8), 10, 0).train()
    return step_of(model, method.build(model, 0, 10_000, [images]).optimizer, images, targets)


def costs() -> dict[str, list[float]]:
    """Median and quartiles of each method's step over the plain step of the same round."""
    torch.manual_seed(0)
    images, targets = torch.rand(64, 1, 8, 8), torch.randint(10, (64,))
    with one_thread():
        steps = {name: step(parse_methods([name], data="digits")[0], images, targets) for name in GRIDS}
        seconds = in_turn(steps, ROUNDS, uncounted=3)
    return {name: ratio(values, seconds["sgd"]) for name, values in seconds.items()}


def main() -> None:
    """Measure costs if asked, else write the page and its picture."""
    if sys.argv[1:] == ["costs"]:
        write(COSTS, {"costs": costs()})
        return
    picture(*found())
    (DOCS / "which-method.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
