"""Make `docs/evidence.md` from the packed records and the searches in `benchmarks/results/`, and from nothing else.

python -m benchmarks.evidence_page
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from benchmarks.evidence import (
    CRITERIA,
    FOUND,
    METHODS,
    RESULTS,
    TASKS,
    base_of,
    gradients,
    lines,
    twins,
    winners,
)
from benchmarks.evidence_picture import picture
from benchmarks.recipe import AS_IT_IS, FACTORS, VARIATIONS, finalists, logged, plain
from samson._times import age_text
from samson.records import Interval
from samson.statistics import holm, mean_interval, mean_p_value, rank_correlation

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "evidence.md"
LEVEL = 0.05
RESAMPLES = 2000
README = DOCS.parent / "README.md"
MARKS = "<!-- made by benchmarks/evidence_page.py -->\n", "<!-- end -->\n"
KNOWN = {
    "digits": "a support-vector machine reaches 97 % on half of these images (scikit-learn's example)",
    "japanese-vowels": "an ensemble of eleven LSTMs reaches 98.9 % (github.com/postnubilaphoebus/Jap_Speak_Recog)",
    "fashion-mnist": "VGG-16 reaches 93.5 %, two convolutions 92.5 % (Fashion-MNIST's README, which verified neither)",
    "tiny-shakespeare": "a GPT of width 128 reaches 2.71 bits after 2,000 steps, one of 384 2.12 (nanoGPT's README)",
    "cifar10-resnet20": "91.25 % after 64,000 steps (He et al. 2016, table 6; reproduced with 91.27 %)",
}
"""What is known to be reachable, with its source."""
FIRST = ("plain", "noise", "clip", "sam", "asam", "samson", "samson+clip", "rangesam+clip")
"""The methods on README's first screen."""
GAUSSIAN = "gaussian"
NO_NOISE = "without noise"

TEXT = """# Evidence

Which training method holds on noisy chips? Several tasks, every method with equal effort, and the test split once at
the end. Everything here is derived from `benchmarks/results/` by `python -m benchmarks.evidence_page`.

**State: {state}.**
A hypothesis is answered on the tasks that are there; it counts once all are.

## How it was done

The base optimizer's learning rate and weight decay were chosen first, for plain training alone, and every method has
them. Each method had six candidates for its own settings on the validation split; the better half of short trainings
went on to whole ones. Tasks whose trainings take minutes have fewer methods, four candidates for each, and trainings of
half the length decide. On CIFAR-10 methods have their informed settings from Fashion-MNIST, without a search. "Blind"
settings were chosen without any chip; "informed" ones on Gaussian validation chips. The winners were trained anew, with
seeds that the search did not use, and put on the test split and on chips that no search saw. Intervals are 95 % over
training seeds; a network's value is its mean over chips.
[The hypotheses](../benchmarks/hypotheses.md) were written before.

## The hypotheses

Paired by seed, two-sided t-tests, corrected by Holm's method within a hypothesis at {level}.

{hypotheses}

## Wins, ties and losses

Each method against every other of the same criterion, on each task and kind of chip: how often it was better, not
distinguishable, worse (paired by seed, Holm's method over all comparisons of a method).

{wins}

## Sharpness and robustness

Kendall's correlation over networks between the rise of the training loss in a ball and the test value on chips, with
95 % intervals from resampling whole methods; negative: sharper is worse. "worst" is the largest rise that eight steps
of ascent find in the rule's ball, "noise" the mean rise under Gaussian noise; radii are the rules' defaults. "Pooled"
takes ranks within each task first.

{sharpness}

{tasks}
## Can the best recipe be made better?

Variations of the range ball with clipping on the validation split, each with half of the winner's radius, that itself,
twice and four times it: the mean over Gaussian levels / without noise, over the seeds of the search. This is the log of
all that was tried. The three that did best, each with its best radius, were then trained with new seeds and measured on
the test split and all chips, beside the recipe as it is. Means over the levels, and over the other kinds of chips; the
last columns are by how much a variation is better on Gaussian chips, paired by seed, and its p-value after Holm.

{recipes}

## What it does not show

- These are small networks and short trainings, as two CPU cores allow. Larger ones may order methods differently.
- Chips are simulations with published constants; none was measured for this.
- With few seeds only large differences can be told from chance, and Holm's correction asks for more the more is
  compared.
- Candidates are six a method, or four. A finer search may help a method with two settings more than one with one.
"""

TASK = """## {name}

`{network}` by {base}, {epochs} epochs, {seeds} seeds, {examples} test examples, {trials} chips of each kind; {metric}.
Settings of the base: {settings}. Without noise plain training reaches {plain}; known: {known}.

![How much better than plain training each method is on {name}](evidence/{name}.svg)

"Informed" settings, 95 % intervals over seeds, paired; on chips the mean over their kinds. In the tables a family of
chips is the mean over its levels, ages or widths; [each of them](evidence/{name}.md).

{whole}

### As many gradients as plain training

The methods with two gradients a step, with half the epochs.

{half}

"""


ALL = """# Evidence: {name}

Each method on each kind of chip; [what it means](../evidence.md).

## As many epochs as plain training

{whole}

## As many gradients as plain training

{half}
"""


def named(family: dict[str, Any], kind: dict[str, Any]) -> str:
    """A kind of chip by its family and label, without the module of a function."""
    aged = family["unit"] == "s"
    return f"{family['name']} {age_text(kind['level']) if aged else kind['label'].rpartition(':')[2]}"


@dataclass(frozen=True)
class Found:
    """The confirming runs of a task, of one length of training.

    Args:
        records: The run records.
    """

    records: list[dict[str, Any]]

    @property
    def sign(self) -> int:
        """1 where larger is better, else −1."""
        return 1 if self.records[0]["problem"]["higher_is_better"] else -1

    @property
    def resolution(self) -> float:
        """The step between possible values of a network."""
        first = self.records[0]
        return 1 / first["examples"] if first["problem"]["is_fraction"] else 0.0

    @property
    def methods(self) -> list[str]:
        """All names, in their order."""
        return [name for name in _labels() if name in self.table]

    @property
    def kinds(self) -> list[str]:
        """No noise, and every kind of chip."""
        return list(self.table[self.records[0]["method"]])

    @property
    def families(self) -> dict[str, list[str]]:
        """No noise, and the kinds of each family of chips, by its name."""
        found = {NO_NOISE: [NO_NOISE]}
        for family in self.records[0]["families"]:
            found[family["name"]] = [named(family, kind) for kind in family["kinds"]]
        return found

    @cached_property
    def table(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """By method and kind: each network's value without noise, or its mean over chips, in the order of seeds."""
        found: dict[str, dict[str, list[float]]] = {}
        for record in sorted(self.records, key=lambda record: int(record["seed"])):
            own = found.setdefault(record["method"], {})
            own.setdefault(NO_NOISE, []).append(float(record["clean"]))
            for family, measured in zip(record["families"], record["measured"], strict=True):
                for kind, chips in zip(family["kinds"], measured, strict=True):
                    own.setdefault(named(family, kind), []).append(float(np.mean(chips)))
        return {method: {kind: np.array(values) for kind, values in own.items()} for method, own in found.items()}

    def values(self, method: str, kind: str) -> NDArray[np.float64]:
        """A value for each training seed."""
        return self.table[method][kind]

    def gain(self, ours: str, theirs: str, kind: str) -> NDArray[np.float64]:
        """By how much the first is better, for each training seed."""
        return self.sign * (self.values(ours, kind) - self.values(theirs, kind))

    def p_value(self, ours: str, theirs: str, kind: str) -> float:
        """Of no difference."""
        return mean_p_value(self.gain(ours, theirs, kind).tolist(), resolution=self.resolution)

    @property
    def each(self) -> dict[str, list[str]]:
        """Every kind on its own."""
        return {kind: [kind] for kind in self.kinds}

    def gradients(self, method: str) -> int:
        """How many a training of a method took."""
        return int(next(r["training"]["gradients"] for r in self.records if r["method"] == method))

    def gaussian(self) -> list[str]:
        """The levels of Gaussian noise."""
        return self.families[GAUSSIAN]

    def groups(self) -> dict[str, list[str]]:
        """Kinds by what they have in common."""
        others = [kind for kind in self.kinds if kind != NO_NOISE and kind not in self.gaussian()]
        return {NO_NOISE: [NO_NOISE], "Gaussian": self.gaussian(), "other chips": others}

    def summary(self, task: str, method: str) -> list[str]:
        """The mean of each group."""
        return [
            spread(task, np.mean([self.values(method, kind) for kind in kinds], axis=0), self.resolution)
            for kinds in self.groups().values()
        ]


def _labels() -> list[str]:
    return [f"{m}-{c}" if METHODS[m][1] else m for c in CRITERIA for m in METHODS if METHODS[m][1] or c == "blind"]


def packed(name: str) -> list[dict[str, Any]]:
    """The run records in a file; none if it is not there."""
    path = RESULTS / f"{name}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else []


def read(task: str) -> dict[int, Found]:
    """What is there of a task, by epochs, the whole trainings first; of equal winners one was trained, and is both."""
    records = packed(task)
    trained = {record["method"] for record in records}
    also = [(label, twin) for label, twin in (twins(task) if records else {}).items() if label not in trained]
    found: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        labels = [record["method"], *(label for label, twin in also if twin == record["method"])]
        own = found.setdefault(int(record["problem"]["recipe"]["epochs"]), [])
        own += [{**record, "method": label} for label in labels]
    return {epochs: Found(found[epochs]) for epochs in sorted(found, reverse=True)}


def finished(task: str) -> bool:
    """Whether every winner was trained with every seed, at both lengths."""
    found, seeds = read(task), TASKS[task].confirming
    whole = found.get(TASKS[task].epochs)
    return (
        len(found) == 2
        and whole is not None
        and set(whole.methods) == set(winners(task))
        and all(len(part.values(label, NO_NOISE)) == seeds for part in found.values() for label in part.methods)
    )


@dataclass(frozen=True)
class Comparison:
    """One comparison of a hypothesis: by how much ours is better, and its p-value."""

    task: str
    words: str
    gain: float
    p_value: float


def compared(
    found: dict[str, Found], ours: str, theirs: Iterable[str], kinds: Callable[[Found], list[str]]
) -> list[Comparison]:
    """Ours against others on every task."""
    return [
        Comparison(
            task, f"{ours} − {other}, {kind}", float(f.gain(ours, other, kind).mean()), f.p_value(ours, other, kind)
        )
        for task, f in found.items()
        for other in theirs
        if other in f.table
        for kind in kinds(f)
    ]


def verdict(comparisons: Sequence[Comparison]) -> str:
    """A sentence on a family of comparisons, by the rule in `hypotheses.md`."""
    if not comparisons:
        return "Not measured yet."
    adjusted = holm([one.p_value for one in comparisons])
    tasks = list(dict.fromkeys(one.task for one in comparisons))
    better = [one.gain > 0 and p < LEVEL for one, p in zip(comparisons, adjusted, strict=True)]
    worse = [one.gain < 0 and p < LEVEL for one, p in zip(comparisons, adjusted, strict=True)]
    holds = {t: all(one.gain > 0 for one in comparisons if one.task == t) for t in tasks}
    shown = {t: any(b for one, b in zip(comparisons, better, strict=True) if one.task == t) for t in tasks}
    answer = "Confirmed" if all(holds.values()) and all(shown.values()) else "Not confirmed"
    least = min(comparisons, key=lambda one: one.gain)
    points = sum(one.gain > 0 for one in comparisons)
    return (
        f"**{answer}** on {', '.join(tasks)}: of {len(comparisons)} comparisons {points} point its way, {sum(better)} "
        f"are significant, {sum(worse)} are significant the other way. The furthest against it: {least.words} on "
        f"{least.task}, {least.gain:+.4f}."
    )


def noisy(found: Found) -> list[str]:
    """Without noise, and each Gaussian level."""
    return [NO_NOISE, *found.gaussian()]


def hypotheses(found: dict[str, Found]) -> str:
    """The answer to each hypothesis."""
    against = [name for name in METHODS if "rangesam" not in name]
    both = ("sam-blind", "asam-blind")
    clipped = ("sam+clip-blind", "asam+clip-blind")
    first = [one for ours in ("samson-blind", "samson-p2-blind") for one in compared(found, ours, both, noisy)]
    second = compared(found, "samson+clip-blind", clipped, noisy)
    third = compared(found, "rangesam+clip-informed", _informed(against), Found.gaussian)
    fourth = compared(
        found, "clip-informed", _informed(("noise", "sam", "asam", "samson")), lambda f: f.gaussian()[-2:]
    )
    sixth = compared(
        {task: f for task, f in found.items() if FOUND in TASKS[task].methods},
        f"{FOUND}-informed",
        _informed(["rangesam+clip"]),
        Found.gaussian,
    )
    return "\n".join(
        [
            f"1. SAMSON beats SAM and ASAM, without noise and with it. {verdict(first)}",
            f"2. So it does in composition with clipping. {verdict(second)}",
            "3. The range ball with clipping beats every published method at every level, at no loss of clean accuracy."
            f" {verdict(third)} {clean_loss(found, against)}",
            f"4. Clipping alone beats noise, SAM, ASAM and SAMSON at the two largest levels. {verdict(fourth)}",
            f"5. Orders carry over from Gaussian noise to other chips. {carried(found)}",
            f"6. A learned range in place of clipping makes the range ball better still. {verdict(sixth)}",
        ]
    )


def _informed(methods: Iterable[str]) -> list[str]:
    return [f"{name}-informed" if METHODS[name][1] else name for name in methods]


def clean_loss(found: dict[str, Found], against: Sequence[str]) -> str:
    """Without noise: the largest loss of the range ball with clipping."""
    losses = {
        (task, other): -float(f.gain("rangesam+clip-informed", other, NO_NOISE).mean())
        for task, f in found.items()
        for other in _informed(against)
        if other in f.table
    }
    (task, other), largest = max(losses.items(), key=lambda item: item[1])
    return f"Without noise its largest loss is {largest:.4f}, against {other} on {task} (allowed: .005, of bits .02)."


def carried(found: dict[str, Found]) -> str:
    """Kendall's correlation over methods between the mean over Gaussian levels and each other family."""
    words, smallest = [], np.inf
    for task, f in found.items():
        names = [name for name in _informed(METHODS) if name in f.table]
        mean = {
            family: [_of_family(f, name, family).mean() for name in names]
            for family in f.families
            if family != NO_NOISE
        }
        taus = {
            family: float(kendalltau(mean[GAUSSIAN], values).statistic)
            for family, values in mean.items()
            if family != GAUSSIAN
        }
        smallest = min(smallest, *taus.values())
        words.append(f"{task}: " + ", ".join(f"{family} {tau:.2f}" for family, tau in taus.items()))
    answer = "Confirmed" if smallest > 0.5 else "Not confirmed"
    return f"**{answer}**; Kendall's correlation over methods with the mean over Gaussian levels: {'; '.join(words)}."


def wins(found: dict[str, Found]) -> str:
    """One line for each method."""
    rows = []
    for label in _labels():
        criterion = label.rpartition("-")[2] if "-" in label else CRITERIA[0]
        others = [o for o in _of(criterion) if o != label]
        own = [
            (float(f.gain(label, other, kind).mean()), f.p_value(label, other, kind))
            for f in found.values()
            for other in others
            if {label, other} <= set(f.table)
            for kind in f.kinds
        ]
        if not own:
            continue
        better = [gain > 0 for gain, _ in own]
        clear = [p < LEVEL for p in holm([p for _, p in own])]
        won = sum(b and c for b, c in zip(better, clear, strict=True))
        lost = sum(not b and c for b, c in zip(better, clear, strict=True))
        rows.append((won - lost, [label, str(won), str(len(own) - won - lost), str(lost)]))
    rows.sort(key=lambda one: -one[0])
    return table(["method", "better", "not distinguishable", "worse"], [cells for _, cells in rows])


def _of(criterion: str) -> list[str]:
    return [f"{name}-{criterion}" if METHODS[name][1] else name for name in METHODS]


def sharpness(found: dict[str, Found]) -> str:
    """For each task and pooled: measures against families of chips."""
    pooled: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    found = {task: f for task, f in found.items() if (RESULTS / f"{task}-sharpness.json").exists()}
    if not found:
        return "Not measured yet."
    parts = []
    for task, f in found.items():
        networks = json.loads((RESULTS / f"{task}-sharpness.json").read_text())["networks"]
        methods = dict.fromkeys(n["method"] for n in networks)  # equal winners are one
        measures = {
            name: {m: [n["measures"][name] for n in networks if n["method"] == m] for m in methods}
            for name in networks[0]["measures"]
        }
        of_family = {family: {m: list(f.sign * _of_family(f, m, family)) for m in methods} for family in f.families}
        pairs = {(m, c): (measures[m], of_family[c]) for m in measures for c in of_family}
        parts.append(tau_table(task, correlations(pairs)))
        of_all = [family for family in of_family if all(family in other.families for other in found.values())]
        for key in (key for key in pairs if key[1] in of_all):
            own = pooled.setdefault(key, ({}, {}))
            for side, values in zip(own, pairs[key], strict=True):
                side |= {f"{task} {name}": of for name, of in _ranks(values).items()}
    if len(found) < 2:
        return "\n\n".join(parts)
    taus = correlations(pooled)
    return "\n\n".join([predictors(taus), tau_table("Pooled", taus), *parts])


Taus = dict[tuple[str, str], Interval]
"""By measure and family of chips."""


def correlations(pairs: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]) -> Taus:
    """Of each measure with each family."""
    return {key: rank_correlation(*pair, resamples=RESAMPLES).kendall for key, pair in pairs.items()}


def tau_table(name: str, taus: Taus) -> str:
    """A table of measures by families."""
    measures, kinds = (list(dict.fromkeys(key[side] for key in taus)) for side in (0, 1))
    cells = {key: f"{tau.mean:+.2f} [{tau.low:+.2f}, {tau.high:+.2f}]" for key, tau in taus.items()}
    return table([name, *kinds], [[measure, *(cells[measure, kind] for kind in kinds)] for measure in measures])


def predictors(taus: Taus) -> str:
    """For each family of chips the ball whose sharpness tells most, if any does."""
    told = []
    for kind in dict.fromkeys(kind for _, kind in taus if kind != NO_NOISE):
        balls = {m: tau for (m, k), tau in taus.items() if k == kind and m not in ("loss", "noise")}
        best = min(balls, key=lambda measure: balls[measure].mean)
        sure = balls[best].high < 0
        told.append(f"{kind} {best} ({balls[best].mean:+.2f})" if sure else f"{kind} none for sure")
    return f"Over all tasks, the ball in which sharpness goes most with a loss on chips: {', '.join(told)}."


def _ranks(values: dict[str, list[float]]) -> dict[str, list[float]]:
    every = rankdata([value for of in values.values() for value in of])
    ends = np.cumsum([len(of) for of in values.values()])[:-1]
    shares = np.split(every / len(every), ends)
    return {name: list(of) for name, of in zip(values, shares, strict=True)}


def _of_family(found: Found, method: str, family: str) -> NDArray[np.float64]:
    return np.mean([found.values(method, kind) for kind in found.families[family]], axis=0)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def results(task: str, found: Found, columns: Mapping[str, Sequence[str]]) -> str:
    """One line for each method: settings, cost, and for each column the mean over its kinds of chips."""
    own = winners(task)
    plain = read(task)[TASKS[task].epochs].gradients("plain")
    scale, digits = (100, 1) if found.records[0]["problem"]["is_fraction"] else (1, 3)
    rows = []
    for label in found.methods:
        settings = ", ".join(f"{key} {value:g}" for key, value in own[label][1].items())
        cells = [label, settings, f"{found.gradients(label) / plain:.2g}"]
        for kinds in columns.values():
            values = np.mean([found.values(label, kind) for kind in kinds], axis=0)
            mean, low, high = (
                scale * value for value in _ends(mean_interval(values.tolist(), resolution=found.resolution))
            )
            cells.append(f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}")
        rows.append((found.sign * -np.mean([found.values(label, kind).mean() for kind in found.kinds[1:]]), cells))
    rows.sort(key=lambda one: one[0])
    return table(["method", "settings", "gradients", *columns], [cells for _, cells in rows])


def _ends(interval: Any) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def drawn(task: str) -> str:
    """The picture of a task: gains over plain training, the method first that is best on all chips."""
    found = read(task)[TASKS[task].epochs]
    scale, unit = (100, "points") if found.records[0]["problem"]["is_fraction"] else (1, "bits")
    gains = {
        label: {
            name: scale * np.mean([found.gain(label, "plain", kind) for kind in kinds], axis=0)
            for name, kinds in found.groups().items()
        }
        for label in _informed(METHODS)
        if label in found.table and label != "plain"
    }
    order = sorted(
        gains, key=lambda label: -float(gains[label]["Gaussian"].mean() + gains[label]["other chips"].mean())
    )
    return picture(f"{task}: better than plain training by", unit, {label: gains[label] for label in order})


def first_screen(tasks: Sequence[str]) -> str:
    """The table of README: some methods on every task, without noise, and the mean over levels and kinds of chips."""
    found = {task: read(task)[TASKS[task].epochs] for task in tasks}
    rows = []
    for label in _informed(FIRST):
        cells = [label.removesuffix("-informed")]
        for task, f in found.items():
            cells += f.summary(task, label)
        rows.append(cells)
    head = [f"{task}, {group}" for task, f in found.items() for group in f.groups()]
    return table(["method", *head], rows)


def section(task: str) -> str:
    """What was found on a task."""
    whole, half = read(task).values()
    first = whole.records[0]
    problem = first["problem"]
    return TASK.format(
        name=task,
        network=problem["network"],
        base=problem["base"],
        epochs=TASKS[task].epochs,
        seeds=TASKS[task].confirming,
        examples=first["examples"],
        trials=first["trials"],
        metric=f"{problem['metric']} in percent" if problem["is_fraction"] else problem["metric"],
        plain=spread(task, whole.values("plain", NO_NOISE), whole.resolution),
        known=KNOWN[task],
        settings=", ".join(f"{key} {value:g}" for key, value in base_of(task).items()),
        whole=results(task, whole, whole.families),
        half=results(task, half, half.families),
    )


def everything(task: str) -> str:
    """The page with each kind of chip."""
    whole, half = read(task).values()
    return ALL.format(name=task, whole=results(task, whole, whole.each), half=results(task, half, half.each))


def recipes() -> str:
    """The log of what was tried on each task; a training that diverged has no value."""
    parts = []
    for task in TASKS:
        if not logged(task).exists():
            continue
        found = lines(logged(task))
        rows = []
        for variation in VARIATIONS:
            own = [line for line in found if line["variation"] == variation]
            cells = []
            for settings in dict.fromkeys(json.dumps(line["settings"]) for line in own):
                of = [line for line in own if json.dumps(line["settings"]) == settings]
                sound = all("clean" in line for line in of)
                noisy, clean = (
                    (np.mean([np.mean(line["chips"]) for line in of]), np.mean([line["clean"] for line in of]))
                    if sound
                    else (np.nan, np.nan)
                )
                cells.append(f"{shown(task, float(noisy))} / {shown(task, float(clean))}")
            cost = max((line.get("gradients", 0) for line in own), default=0) / gradients(task, "plain")
            rows.append([variation, *cells, *[""] * (len(FACTORS) - len(cells)), f"{cost:.2g}"])
        parts.append(table([task, *(f"{factor:g} x radius" for factor in FACTORS), "gradients"], rows))
        if packed(f"{task}-recipe"):
            parts.append(confirmed(task))
    return "\n\n".join(parts) or "Not tried yet."


def confirmed(task: str) -> str:
    """The best variations and the recipe as it is, with new seeds."""
    found = Found(packed(f"{task}-recipe"))
    every = finalists(task)
    gains = {
        variation: np.mean([found.gain(plain(variation), plain(AS_IT_IS), kind) for kind in found.gaussian()], axis=0)
        for variation in every
        if variation != AS_IT_IS
    }
    adjusted = holm([mean_p_value(gain.tolist(), resolution=found.resolution) for gain in gains.values()])
    p_values = dict(zip(gains, adjusted, strict=True))
    rows = []
    for variation, settings in every.items():
        cost = found.gradients(plain(variation)) / gradients(task, "plain")
        cells = [variation, ", ".join(f"{key} {value}" for key, value in settings.items()), f"{cost:.2g}"]
        cells += found.summary(task, plain(variation))
        if variation in gains:
            cells += [spread(task, gains[variation], found.resolution), f"{p_values[variation]:.2g}"]
        rows.append([*cells, *[""] * (8 - len(cells))])
    return table([f"{task}, confirmed", "settings", "gradients", *found.groups(), "better by", "p"], rows)


def spread(task: str, values: NDArray[np.float64], resolution: float) -> str:
    """A mean over seeds and half of its interval."""
    interval = mean_interval(values.tolist(), resolution=resolution)
    return f"{shown(task, interval.mean)} ± {shown(task, interval.half_width)}"


def shown(task: str, value: float) -> str:
    """A value of a task's metric: a fraction in percent."""
    return f"{value:.3f}" if task == "tiny-shakespeare" else f"{100 * value:.1f}"


def page() -> str:
    """The page's text."""
    done = [task for task in TASKS if finished(task)]
    left = [task for task in TASKS if task not in done]
    whole = {task: read(task)[TASKS[task].epochs] for task in done}
    return TEXT.format(
        state=f"{', '.join(done)} done" + (f"; {', '.join(left)} to come" if left else ""),
        level=LEVEL,
        hypotheses=hypotheses(whole),
        wins=wins(whole),
        sharpness=sharpness(whole),
        tasks="".join(section(task) for task in done),
        recipes=recipes(),
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    (DOCS / "evidence").mkdir(exist_ok=True)
    before, mark, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[1:]
    text = first_screen([task for task in TASKS if finished(task)])
    README.write_text("".join([before, mark, "\n", text, "\n\n", *after]), encoding="utf-8")
    for task in filter(finished, TASKS):
        (DOCS / "evidence" / f"{task}.svg").write_text(drawn(task), encoding="utf-8")
        (DOCS / "evidence" / f"{task}.md").write_text(everything(task), encoding="utf-8")
