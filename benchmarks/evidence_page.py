"""Make `docs/evidence.md`, its pages for each task and README's table from `benchmarks/results/`, and nothing else.

python -m benchmarks.evidence_page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks import alike, longer, published, schedules
from benchmarks.evidence import (
    CRITERIA,
    LARGE,
    LEARNED,
    METHODS,
    RESULTS,
    TASKS,
    bare,
    base_of,
    candidates,
    label_of,
    lines,
    packed,
    twins,
    unpack,
    winners,
)
from benchmarks.evidence_answers import LEVEL, RANGE_BALL, hypotheses, in_short, wins
from benchmarks.evidence_cost import RECORD as COSTS
from benchmarks.evidence_found import DIGITS, NO_NOISE, Found, finished, in_words, informed, read
from benchmarks.evidence_picture import curves, picture
from benchmarks.markdown import table, with_part
from benchmarks.recipe import BEST_RADIUS, FACTORS, finalists, logged, plain, variations
from samson.records import Comparison, Interval, RunRecord, load_records
from samson.report import render
from samson.statistics import holm, mean_interval, rank_correlation

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "evidence.md"
REPORT = DOCS / "evidence" / "report.html"
README = DOCS.parent / "README.md"
RESAMPLES = 400
KNOWN = {
    "digits": "a support-vector machine reaches 97 % on half of these images (scikit-learn's example)",
    "japanese-vowels": "an ensemble of eleven LSTMs reaches 98.9 % (github.com/postnubilaphoebus/Jap_Speak_Recog)",
    "fashion-mnist": "VGG-16 reaches 93.5 %, two convolutions 92.5 % (Fashion-MNIST's README, which verified neither)",
    "tiny-shakespeare": "a GPT of width 128 reaches 2.71 bits after 2,000 steps, one of 384 2.12 (nanoGPT's README)",
    "cifar10-resnet20": "91.25 % after 64,000 steps (He et al. 2016, table 6)",
    "cifar10-mobilenetv2": "92.9 % with 700,000 parameters (github.com/chenyaofo/pytorch-cifar-models)",
}
"""What is known to be reachable, with its source."""
CHARACTERS = {"tiny-shakespeare": 65}
"""How many kinds of tokens a text has."""
PAIRS = (
    *(("samson", "sam"), ("samson", "asam"), ("samson+clip", "sam+clip"), ("samson+clip", "asam+clip")),
    *((RANGE_BALL, "samson+clip"), (RANGE_BALL, "asam+clip"), (RANGE_BALL, "clip"), (LEARNED, RANGE_BALL)),
)
"""Methods whose differences are shown, a table for each criterion."""


def template(name: str) -> str:
    """A page before its figures are in it."""
    return (Path(__file__).parent / "evidence-pages" / f"{name}.md").read_text(encoding="utf-8")


def results(task: str, part: str, *, each: bool = False) -> str:
    """One line for each winner: settings, cost, and each family or kind of chips; equal winners are one line."""
    found, plain_one, own = read(task)[part], read(task)["whole"], winners(task)
    columns = {kind: [kind] for kind in found.kinds} if each else found.families
    rows = []
    for label in found.in_order([label for label in found.table if twins(task)[label] == label]):
        settings = in_words(own[label][1])
        cost = f"{found.gradients(label) / plain_one.gradients('plain'):.2g}"
        time = f"{step_times(task)[bare(label)][0]:.2f}"
        cells = [found.spread(found.mean(label, kinds)) for kinds in columns.values()]
        rows.append([name_of(task, label), settings, cost, time, *cells])
    return table(["method", "settings", "gradients", "time", *columns], rows)


@cache
def step_times(task: str) -> dict[str, list[float]]:
    """What a step of each method takes over a plain one on a task's network: median, lower and upper quartile."""
    found: dict[str, dict[str, list[float]]] = json.loads(COSTS.read_text(encoding="utf-8"))["costs"]
    return found[task]


def cost(tasks: Sequence[str]) -> str:
    """What a step of some methods takes over a plain one, with the quartiles."""
    rows = [
        [
            method,
            *("{:.2f} [{:.2f}, {:.2f}]".format(*of[method]) if method in of else "–" for of in map(step_times, tasks)),
        ]
        for method in LARGE[1:]
    ]
    return table(["", *tasks], rows)


def name_of(task: str, label: str) -> str:
    """A winner's name in tables, with the criteria that chose it."""
    criteria = [one.removeprefix(f"{bare(label)}-") for one, twin in twins(task).items() if twin == label]
    return bare(label) if criteria == [label] else f"{bare(label)}, {' and '.join(criteria)}"


def gains(found: Found, kinds: list[str]) -> dict[str, Interval]:
    """By how much each informed winner is better than plain training, in points or bits, in the order of chips."""
    methods = [label for label in informed(METHODS) if label in found.table and label != "plain"]
    return {bare(label): found.interval(found.gain(label, "plain", kinds)) for label in found.in_order(methods)}


def drawn(task: str) -> str:
    """The picture of a task: gains over plain training."""
    found = read(task)["whole"]
    panels = {f"{name}, {found.unit}": gains(found, kinds) for name, kinds in found.groups.items()}
    return picture(f"{task}: better than plain training by", panels)


def drawn_levels(task: str) -> str:
    """The curves of a task."""
    found = read(task)["whole"]
    kinds = [NO_NOISE, *found.gaussian]
    levels = [0.0, *(float(kind.rpartition(" ")[2]) for kind in found.gaussian)]
    of = {
        method: [found.interval(found.mean(label, [kind])) for kind in kinds]
        for method in LARGE
        for label in [label_of(method, "informed")]
        if label in found.table
    }
    return curves(
        f"{task}: {found.metric}, informed settings", "deviation of Gaussian noise, over the largest weight", levels, of
    )


def drawn_over_all(tasks: Sequence[str]) -> str:
    """The picture of the first page: gains on Gaussian chips, a panel for each task."""
    found = {task: read(task)["whole"] for task in tasks}
    panels = {f"{task}, {of.unit}": gains(of, of.gaussian) for task, of in found.items()}
    return picture("Gaussian chips: better than plain training by", panels)


def first_screen(tasks: Sequence[str]) -> str:
    """Some methods on every task, in the mean over Gaussian levels and without noise; and what that is."""

    def cell(of: Found, method: str, kinds: list[str]) -> str:
        label = label_of(method, "informed")
        return of.spread(of.mean(label, kinds)) if label in of.table else ""

    [(text, tokens)] = CHARACTERS.items()
    largest = " and ".join(task for task in tasks if TASKS[task].winners_of)
    caption = (
        f"Test accuracy in percent; for {text} bits per token, where less is better and guessing has "
        f"{np.log2(tokens):.2f}. Each is a mean over five training seeds (three on {largest}), ± half of the 95 % "
        "interval over them. On Gaussian chips it is over five levels, too, up to 30 % of a layer's largest weight. "
        "Learning rate and weight decay were chosen for plain training without noise, what else a method has on noisy "
        f"validation chips; {largest} have the settings of fashion-mnist."
    )
    return f"{by_task(tasks, LARGE, cell)}\n\n{caption}"


def differences(tasks: Sequence[str]) -> str:
    """By how much the first of each pair is better, in the mean over Gaussian levels and without noise."""

    def cell(of: Found, pair: str, kinds: list[str], criterion: str) -> str:
        one, other = (label_of(method, criterion) for method in pair.split(" − "))
        return of.spread(of.gain(one, other, kinds)) if {one, other} <= {*of.table} else ""

    pairs = [f"{one} − {other}" for one, other in PAIRS]
    return "\n\n".join(
        by_task(tasks, pairs, partial(cell, criterion=criterion), f"{criterion}, ") for criterion in CRITERIA
    )


def shorter(tasks: Sequence[str]) -> str:
    """By how much half of the epochs is better than all of them, for the informed winners that were trained so."""
    of_half = {task: alike.half() if task == alike.TASK else read(task)["half"] for task in tasks}

    def cell(whole: Found, method: str, kinds: list[str]) -> str:
        half, label = of_half[whole.task], label_of(method, "informed")
        if label not in half.table:
            return ""
        return whole.spread(TASKS[whole.task].sign * (half.mean(label, kinds) - whole.mean(label, kinds)))

    return by_task(tasks, list(METHODS), cell)


def by_task(
    tasks: Sequence[str], names: Sequence[str], cell: Callable[[Found, str, list[str]], str], of: str = ""
) -> str:
    """A table on Gaussian chips and one without noise, with a line for each name and a column for each task.

    `cell` says what stands there, of a task's whole trainings, a name and kinds of chips. Lines and columns in which
    nothing stands are left out.
    """
    parts = []
    for what in ("Gaussian chips", NO_NOISE):
        found = [read(task)["whole"] for task in tasks]
        cells = np.array([[cell(own, name, own.groups[what]) or "–" for own in found] for name in names])
        lines, columns = (np.any(cells != "–", axis=axis) for axis in (1, 0))
        rows = [[name, *line[columns]] for name, line, some in zip(names, cells, lines, strict=True) if some]
        parts.append(table([f"**{of}{what}**", *np.array(tasks)[columns]], rows))
    return "\n\n".join(parts)


def one_clipping() -> str:
    """The methods with the same clipping, and by how much each is better than clipping alone."""
    found = alike.whole()
    clip, *_ = labels = [f"{method}-{alike.SAME}" for method in alike.CLIPPED]
    rows = []
    for method, label in zip(alike.CLIPPED, labels, strict=True):
        own = alike.at_alpha(method)
        cells = [found.spread(found.mean(label, kinds)) for kinds in ([NO_NOISE], found.gaussian)]
        gains = [found.spread(found.gain(label, clip, kinds)) for kinds in ([NO_NOISE], found.gaussian)]
        rows.append([method, in_words(own), *cells, *(gains if label != clip else ["", ""])])
    head = [NO_NOISE, "Gaussian chips", f"{NO_NOISE}, − clip", "Gaussian chips, − clip"]
    return table([alike.TASK, "settings", *head], rows)


def at_published() -> str:
    """The methods with the radii of their authors beside plain training, without noise and at each Gaussian level."""
    own, new = read(published.TASK)["whole"], published.whole()
    columns = {kind: [kind] for kind in (NO_NOISE, *own.gaussian)} | {"Gaussian chips": own.gaussian}
    every = {"plain": (own, "plain", "")}
    every |= {name: (new, f"{name}-published", in_words(radius)) for name, radius in published.RADII.items()}
    rows = [
        [name, radius, *(found.spread(found.mean(label, kinds)) for kinds in columns.values())]
        for name, (found, label, radius) in every.items()
    ]
    return table([published.TASK, "radius", *columns], rows)


def at_length() -> str:
    """What was tried with four times as many epochs, on the validation split."""
    found = {json.dumps([line["method"], line["settings"]]): line for line in lines(longer.FILE)}
    levels = TASKS[longer.SEARCHED].levels
    rows = []
    for method, settings in longer.CANDIDATES:
        line = found.get(json.dumps([method, settings]))
        if line is not None:
            cells = [f"{100 * value:.1f}" for value in (line["clean"], *line["chips"])]
            rows.append([method, in_words(settings), *cells])
    return table([longer.SEARCHED, "settings", NO_NOISE, *(f"gaussian {level:g}" for level in levels)], rows)


def at_an_end(task: str, label: str) -> bool:
    """Whether no weaker, or no stronger, candidate was tried with a winner's other settings."""
    method, own = winners(task)[label]
    strength = next(iter(own))
    tried = [c[strength] for c in candidates(task, method) if {**c, strength: own[strength]} == own]
    return own[strength] in (min(tried), max(tried))


def ends(tasks: Sequence[str]) -> str:
    """How many informed winners are at an end of what was tried, task by task."""
    found = []
    for task in (task for task in tasks if not TASKS[task].winners_of):
        every = [at_an_end(task, label) for label in winners(task) if label.endswith("-informed")]
        found.append(f"{sum(every)} of {len(every)} on {task}")
    return ", ".join(found)


def carried(tasks: Sequence[str]) -> str:
    """What settings of another task cost without noise against plain training, where that is more than chance."""
    lines = []
    for task in (task for task in tasks if TASKS[task].winners_of):
        found = read(task)["whole"]
        lost = {label: found.gain("plain", label, [NO_NOISE]) for label in found.table}
        clear = sorted((-lost[label].mean(), label) for label in lost if found.interval(lost[label]).low > 0)
        said = [f"`{bare(label)}` {found.spread(lost[label])}" for _, label in clear]
        lines.append(f"{', '.join(said) or 'none'} on {task}")
    return "; ".join(lines)


def task_page(task: str) -> str:
    """All that was found on a task."""
    found, half = read(task)["whole"], read(task)["half"]
    first = found.records[0]
    problem = first["problem"]
    of_sharpness = sharpness_of(task)
    return template("task").format(
        name=task,
        network=problem["network"],
        base=problem["base"],
        epochs=TASKS[task].epochs,
        seeds=TASKS[task].confirming,
        examples=first["examples"],
        trials=first["trials"],
        metric=found.metric,
        plain=found.spread(found.mean("plain", [NO_NOISE])),
        known=KNOWN[task],
        settings=in_words(base_of(task)),
        diverged="".join(
            f"\nA training of {name} with {epochs} diverged; it is left out.\n"
            for epochs, part in (("all epochs", found), ("half the epochs", half))
            for name in part.diverged
        ),
        of_large="; the informed winners" if TASKS[task].large else "",
        whole=results(task, "whole"),
        half=results(task, "half"),
        each=results(task, "whole", each=True),
        each_half=results(task, "half", each=True),
        sharpness=tau_table(task, correlations(of_sharpness)) if of_sharpness else "Not measured yet.",
    )


Pair = tuple[dict[str, list[float]], dict[str, list[float]]]
"""For each method: a measure of sharpness of its networks, and their value on chips, larger is better."""
Taus = dict[tuple[str, str], Interval]
"""By measure and family of chips."""


def sharpness_of(task: str) -> dict[tuple[str, str], Pair]:
    """By measure and family of chips; nothing where it was not measured."""
    path = RESULTS / f"{task}-sharpness.json"
    if not path.exists():
        return {}
    found = read(task)["whole"]
    networks = json.loads(path.read_text(encoding="utf-8"))["networks"]
    methods = [m for m in dict.fromkeys(n["method"] for n in networks) if m in found.table]  # equal winners are one
    of_family = {
        family: {m: list(TASKS[task].sign * found.mean(m, kinds).round(DIGITS)) for m in methods}
        for family, kinds in found.families.items()
    }
    return {
        (measure, family): (
            {m: [n["measures"][measure] for n in networks if n["method"] == m] for m in methods},
            values,
        )
        for measure in networks[0]["measures"]
        for family, values in of_family.items()
    }


def correlations(pairs: Mapping[tuple[str, str], Pair]) -> Taus:
    """Of each measure with each family."""
    return {key: rank_correlation(*pair, resamples=RESAMPLES).kendall for key, pair in pairs.items()}


def sharpness(tasks: Sequence[str]) -> str:
    """Over the tasks where it was measured: all methods, those that clip and those that do not."""
    of_task = {task: found for task in tasks if (found := sharpness_of(task))}
    if not of_task:
        return "Not measured yet."
    shared = [key for key in next(iter(of_task.values())) if all(key in found for found in of_task.values())]
    networks = sum(len(of) for found in of_task.values() for of in next(iter(found.values()))[0].values())
    parts = [f"Measured on {', '.join(of_task)}: {networks} networks."]
    for name, wanted in (("All methods", (True, False)), ("With clipping", (True,)), ("Without clipping", (False,))):
        pooled: dict[tuple[str, str], Pair] = {key: ({}, {}) for key in shared}
        for key in shared:
            for task, found in of_task.items():
                for side, values in zip(pooled[key], found[key], strict=True):
                    own = {m: of for m, of in values.items() if clips(m) in wanted}
                    side |= {f"{task} {m}": of for m, of in ranks(own).items()}
        taus = correlations(pooled)
        parts += [*([] if len(parts) > 1 else [predictors(taus)]), tau_table(name, taus)]
    return "\n\n".join(parts)


def clips(label: str) -> bool:
    """Whether a method narrows the range of weights."""
    return "clip" in label or "learned-range" in label


def ranks(values: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Over all networks of a task, between 0 and 1."""
    every = rankdata([value for of in values.values() for value in of])
    ends = np.cumsum([len(of) for of in values.values()])[:-1]
    return {name: list(of) for name, of in zip(values, np.split(every / len(every), ends), strict=True)}


def tau_table(name: str, taus: Taus) -> str:
    """A table of measures by families."""
    measures, kinds = (list(dict.fromkeys(key[side] for key in taus)) for side in (0, 1))
    cells = {key: f"{tau:+.2f}" for key, tau in taus.items()}
    return table([name, *kinds], [[measure, *(cells[measure, kind] for kind in kinds)] for measure in measures])


def predictors(taus: Taus) -> str:
    """For each family of chips the measure that tells most, if any does."""
    told = []
    for kind in dict.fromkeys(kind for _, kind in taus if kind != NO_NOISE):
        balls = {measure: tau for (measure, k), tau in taus.items() if k == kind and measure != "loss"}
        best = min(balls, key=lambda measure: balls[measure].mean)
        loss = taus["loss", kind].mean
        more = f", the loss itself {loss:+.2f}" if loss < balls[best].mean else ""
        told.append(
            f"{kind}: {best} ({balls[best].mean:+.2f}{more})"
            if balls[best].high < 0
            else f"{kind}: none for sure{more}"
        )
    return (
        "Over all methods on these tasks, the measure (the loss itself aside) that goes most with a loss on each "
        f"family of chips: {'; '.join(told)}. Each is the best of nine, so that its own interval promises a little too "
        "much; and the rise under noise is on Gaussian chips nearly the same quantity, on the training split."
    )


def recipe_page() -> str:
    """The log of what was tried on each task; a training that diverged has no value."""
    logs = []
    for task in filter(lambda task: logged(task).exists(), TASKS):
        found, rows, whole = lines(logged(task)), [], read(task)["whole"]
        for variation in variations(task):
            own = [line for line in found if line["variation"] == variation]
            cells = []
            for settings in dict.fromkeys(json.dumps(line["settings"]) for line in own):
                of = [line for line in own if json.dumps(line["settings"]) == settings]
                means: list[Any] = [np.nan, np.nan]
                if all("clean" in line for line in of):
                    means = [np.mean([np.mean(line[key]) for line in of]) for key in ("chips", "clean")]
                cells.append(" / ".join(whole.shown(float(mean)) for mean in means))
            cost = max((line.get("gradients", 0) for line in own), default=0) / whole.gradients("plain")
            rows.append([variation, *cells, *[""] * (len(FACTORS) - len(cells)), f"{cost:.2g}"])
        logs.append(table([task, *(f"{factor:g} x radius" for factor in FACTORS), "gradients"], rows))
    return template("recipe").format(logs="\n\n".join(logs))


def confirmed(task: str) -> str:
    """The best variations and the recipe as it is, with new seeds."""
    found, every = Found(task, packed(f"{task}-recipe")), finalists(task)
    gain = {
        variation: found.gain(plain(variation), plain(BEST_RADIUS), found.gaussian)
        for variation in every
        if variation != BEST_RADIUS
    }
    p_values = dict(zip(gain, holm([found.p_value(own) for own in gain.values()]), strict=True))
    rows = []
    for variation, settings in every.items():
        cost = found.gradients(plain(variation)) / read(task)["whole"].gradients("plain")
        cells = [variation, ", ".join(f"{key} {value}" for key, value in settings.items()), f"{cost:.2g}"]
        cells += [found.spread(found.mean(plain(variation), kinds)) for kinds in found.groups.values()]
        better = [found.spread(gain[variation]), f"{p_values[variation]:.2g}"] if variation in gain else ["", ""]
        rows.append([*cells, *better])
    return table([f"{task}, confirmed", "settings", "gradients", *found.groups, "difference", "p"], rows)


def page() -> str:
    """The text of the first page."""
    done = [task for task in TASKS if finished(task)]
    left = [task for task in TASKS if task not in done]
    whole = {task: read(task)["whole"] for task in done}
    return template("first").format(
        state=f"Tasks: {', '.join(done)}."
        + (f" To come: {', '.join(left)}; an answer to a hypothesis is final when all are there." if left else ""),
        short="\n".join(in_short(found) for found in whole.values()),
        first=first_screen(done),
        level=LEVEL,
        hypotheses=hypotheses(whole),
        differences=differences(done),
        shorter=shorter(done),
        cost=cost(done),
        one_clipping=one_clipping(),
        at_published=at_published(),
        at_length=at_length(),
        ends=ends(done),
        carried=carried(done),
        schedules=of_schedules(),
        tasks="\n".join(f"- [{task}](evidence/{task}.md): {KNOWN[task]}." for task in done),
        wins=table(["method", "better", "not distinguishable", "worse"], wins(whole)),
        sharpness=sharpness(done),
        recipes="\n\n".join(confirmed(task) for task in TASKS if packed(f"{task}-recipe")),
    )


def of_schedules() -> str:
    """What plain training comes to with each schedule of the learning rate, task by task."""
    rows = []
    for task in filter(schedules.complete, TASKS):
        scale, digits = (100, 1) if TASKS[task].sign > 0 else (1, 3)
        cells = []
        for factor, values in schedules.best(task).values():
            shown = f"{scale * np.mean(values):.{digits}f}"
            if len(values) > 1:
                interval = mean_interval(values, resolution=1 / schedules.EXAMPLES[task])
                shown += f" ± {scale * interval.half_width:.{digits}f}"
            cells.append(shown if factor == 1 else f"{shown} ({factor:g} ×)")
        rows.append([task, *cells])
    return table(["", *schedules.SCHEDULES], rows)


def report() -> str:
    """The report of the confirmation: the informed winner of each method, on every finished task and all chips."""
    found = list[RunRecord]()
    with TemporaryDirectory() as folder:
        for task in filter(finished, TASKS):
            unpack(task, Path(folder))
            records = load_records(Path(folder) / task / "whole")
            for method in TASKS[task].methods:
                own = twins(task)[label_of(method, "informed")]
                found += [replace(record, method=method) for record in records if record.method == own]
    return render(Comparison(tuple(found), command="samson compare benchmarks/results/TASK-whole.toml"))


def files() -> dict[Path, str]:
    """Every file that is made, with its text; the report, which is not of this module's making, aside."""
    done = [task for task in TASKS if finished(task)]
    own = DOCS / "evidence"
    return {
        PAGE: page(),
        README: with_part(README.read_text(encoding="utf-8"), "evidence_page", first_screen(done)),
        own / "gaussian.svg": drawn_over_all(done),
        own / "recipe.md": recipe_page(),
        **{own / f"{task}.svg": drawn(task) for task in done},
        **{own / f"{task}-levels.svg": drawn_levels(task) for task in done},
        **{own / f"{task}.md": task_page(task) for task in done},
    }


if __name__ == "__main__":
    (DOCS / "evidence").mkdir(exist_ok=True)
    for path, text in {**files(), REPORT: report()}.items():
        path.write_text(text, encoding="utf-8")
