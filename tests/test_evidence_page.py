"""The page of evidence is what the committed records say: its figures are derived again here, by other code."""

import dataclasses
import gzip
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import evidence, evidence_answers, evidence_page, recipe
from benchmarks.evidence_found import Found, finished
from benchmarks.evidence_page import PAGE, README, REPORT
from samson.records import load_comparison
from samson.statistics import mean_interval
from tests.builders import unpacked

TEXT = PAGE.read_text(encoding="utf-8")
DONE = [task for task in evidence.TASKS if finished(task)]
AGES = {3600.0: "1 h", 86_400.0: "1 day", 31_536_000.0: "1 year", 315_360_000.0: "10 years"}
Networks = dict[str, dict[str, np.ndarray]]


@cache
def networks(task: str, part: str = "whole") -> Networks:
    """By method and kind of chip: each network's mean over chips, in the order of seeds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records_of(task, part), key=lambda record: record["seed"]):
        if record["clean"] is None:
            continue  # it diverged
        own = found[record["method"]]
        own["without noise"].append(record["clean"])
        for family, kinds in zip(record["families"], record["measured"], strict=True):
            for kind, chips in zip(family["kinds"], kinds, strict=True):
                age = kind["level"] if family["unit"] == "s" else None
                label = kind["label"].rpartition(":")[2] if age is None else AGES[age]
                own[f"{family['name']} {label}"].append(sum(chips) / len(chips))
    trained_once = evidence.twins(task) if task in evidence.TASKS else {}
    also = {label: found[twin] for label, twin in trained_once.items() if label not in found and twin in found}
    every = {**found, **also}
    return {method: {kind: np.array(values) for kind, values in own.items()} for method, own in every.items()}


def kinds_of(some: Networks) -> list[str]:
    return list(next(iter(some.values())))


def gaussian(some: Networks) -> list[str]:
    return [kind for kind in kinds_of(some) if kind.startswith("gaussian ")]


def mean(some: Networks, method: str, kinds: Iterable[str]) -> np.ndarray:
    """Over kinds of chips, for each network."""
    return np.mean([some[method][kind] for kind in kinds], axis=0)


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Holm's correction, by hand."""
    given = np.array(list(p_values))
    order = np.argsort(given)
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return adjusted


SMALLEST = min(DONE, key=lambda task: len(evidence_page.packed(task)))


def sign_of(task: str) -> int:
    return 1 if first_record(task)["problem"]["higher_is_better"] else -1


def resolution_of(task: str) -> float:
    record = first_record(task)
    return 1 / record["examples"] if record["problem"]["is_fraction"] else 0.0


def shown_in(task: str) -> tuple[int, int]:
    """By what a value is multiplied, and its digits."""
    return (100, 1) if first_record(task)["problem"]["is_fraction"] else (1, 3)


def own_page(task: str) -> str:
    return (PAGE.parent / "evidence" / f"{task}.md").read_text(encoding="utf-8")


def labels_of(name: str) -> list[str]:
    """The winners that a line of a table stands for."""
    method, _, criteria = name.partition(", ")
    return [f"{method}-{criterion}" for criterion in criteria.split(" and ")] if criteria else [method]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table of a text."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
    return [lines[0], *lines[2:]]


@cache
def records_of(task: str, part: str | None = None) -> list[dict[str, Any]]:
    """All of them, or those of one length of the training."""
    if part is None:
        return json.loads(gzip.decompress((evidence.RESULTS / f"{task}.json.gz").read_bytes()))
    longest = max(epochs_of(record) for record in records_of(task))
    return [record for record in records_of(task) if (epochs_of(record) == longest) == (part == "whole")]


def epochs_of(record: dict[str, Any]) -> float:
    return record["problem"]["recipe"]["epochs"]


def first_record(task: str) -> dict[str, Any]:
    return records_of(task)[0]


def families_of(task: str) -> list[str]:
    return [family["name"] for family in first_record(task)["families"]]


def in_family(some: Networks, family: str) -> list[str]:
    """The kinds of a family of chips, or without noise the one that there is."""
    return [kind for kind in kinds_of(some) if kind == family or kind.startswith(f"{family} ")]


def check_spread(cell: str, values: np.ndarray, task: str) -> None:
    """Whether a cell shows the mean over seeds, and half of its interval."""
    scale, digits = shown_in(task)
    expected = [scale * values.mean(), scale * half_width(values, task)]
    assert [float(text) for text in cell.split(" ± ")] == pytest.approx(expected, abs=0.5001 * 10**-digits)


def half_width(values: np.ndarray, task: str) -> float:
    """Of Student's interval, with no less deviation than rounding alone gives."""
    deviation = max(values.std(ddof=1), resolution_of(task) / np.sqrt(12))
    return float(stats.t.ppf(0.975, len(values) - 1) * deviation / np.sqrt(len(values)))


def p_value(gains: np.ndarray, resolution: float) -> float:
    """Student's t-test of a mean of 0, with no less deviation than rounding alone gives."""
    deviation = max(gains.std(ddof=1), resolution / np.sqrt(12))
    if not deviation:
        return float(gains.mean() == 0)
    return float(2 * stats.t.sf(abs(gains.mean()) / deviation * np.sqrt(len(gains)), len(gains) - 1))


def test_every_file_is_made_from_the_records() -> None:
    assert DONE
    for path, text in evidence_page.files().items():
        assert path.read_text(encoding="utf-8") == text, path


@cache
def shown_means(page: str) -> dict[tuple[str, str, str], list[float]]:
    """The means in the report's curves by problem, family and method: without noise, and on each kind of chip."""
    found = {}
    looks = re.split(r'<div class="view" data-problem="(.*?)" data-family="(.*?)"', unpacked(page))[1:]
    for problem, family, content in zip(looks[::3], looks[1::3], looks[2::3], strict=True):
        curves = re.search(r"data-plot='robustness-\d+'>(.*?)</script>", content)
        assert curves is not None
        for trace in json.loads(curves[1])["data"]:
            if "name" in trace:
                found[problem, family, trace["name"]] = trace["y"]
    return found


@pytest.mark.parametrize("task", DONE)
def test_the_reports_curves_are_the_records_means(task: str) -> None:
    scale, _ = shown_in(task)
    shown = shown_means(REPORT.read_text(encoding="utf-8"))
    problem, some = first_record(task)["problem"]["name"], networks(task)
    families, methods = families_of(task), evidence.TASKS[task].methods
    assert {key[1:] for key in shown if key[0] == problem} == {(f, m) for f in families for m in methods}
    for family in families:
        for method in methods:
            own = some[evidence.label_of(method, "informed")]
            means = [scale * own[kind].mean() for kind in ("without noise", *in_family(some, family))]
            assert shown[problem, family, method] == pytest.approx(means, rel=1e-6)


def test_another_record_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    task = DONE[0]
    first, *others = evidence_page.read(task)["whole"].records
    changed = {"whole": Found(task, [{**first, "clean": first["clean"] + 0.3}, *others])}
    before = evidence_page.results(task, "whole")
    monkeypatch.setattr(evidence_page, "read", lambda _: changed)
    assert before in own_page(task)
    assert evidence_page.results(task, "whole") not in own_page(task)


def test_a_method_that_diverged_is_left_out_and_named() -> None:
    task = DONE[0]
    first, *others = evidence_page.read(task)["whole"].records
    found = Found(task, [{**first, "clean": None}, *others])
    assert found.diverged == [first["method"]]
    assert first["method"] not in found.table
    assert len(found.table) == len(evidence_page.read(task)["whole"].table) - 1


@pytest.mark.parametrize("task", DONE)
def test_the_picture_shows_gains_over_plain_training(task: str) -> None:
    """Its dots are where the means are, on the scale of its ticks."""
    text = (PAGE.parent / "evidence" / f"{task}.svg").read_text(encoding="utf-8")
    some, scale = networks(task), shown_in(task)[0] * sign_of(task)
    panel = text.partition(">Gaussian chips, ")[2].partition(">other chips, ")[0]
    labels = re.findall(r'text-anchor="end">([^<]*)<', text)
    ticks = [
        (float(x), float(value))
        for x, value in re.findall(r'x="([\d.]+)" y="\d+" text-anchor="middle">([^<]*)<', panel)
    ]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    shown = [v0 + (float(x) - x0) * (v1 - v0) / (x1 - x0) for x in re.findall(r'<circle cx="([\d.]+)"', panel)]
    for label, gain in zip(labels, shown, strict=True):
        ours, plain = (mean(some, name, gaussian(some)).mean() for name in (f"{label}-informed", "plain"))
        expected = scale * (ours - plain)
        assert gain == pytest.approx(expected, abs=0.1 * abs(v1 - v0) / (x1 - x0))


@pytest.mark.parametrize("task", DONE)
def test_the_curves_end_where_the_means_are(task: str) -> None:
    text = (PAGE.parent / "evidence" / f"{task}-levels.svg").read_text(encoding="utf-8")
    some, scale = networks(task), shown_in(task)[0]
    ticks = [(float(y), float(value)) for y, value in re.findall(r' y="([\d.]+)" text-anchor="end">([^<]*)<', text)]
    (y0, v0), (y1, v1) = ticks[0], ticks[-1]
    found = re.findall(r'points="([^"]*)".*?fill="#\w+">([^<]*)</text>', text, re.DOTALL)
    trained = {label.removesuffix("-informed") for label in some}
    assert {method for _, method in found} == trained & set(evidence.LARGE)
    for points, method in found:
        label = method if method == "plain" else f"{method}-informed"
        shown = [v0 + (float(p.split(",")[1]) + 4 - y0) * (v1 - v0) / (y1 - y0) for p in points.split()]
        expected = [scale * some[label][kind].mean() for kind in ("without noise", *gaussian(some))]
        assert shown == pytest.approx(expected, abs=0.15 * abs(v1 - v0) / abs(y1 - y0))
    looks = re.findall(r'stroke="(#\w+)" stroke-width="2" stroke-dasharray="([^"]*)"', text)
    assert len(set(looks)) == len(looks) == len(found)  # no two look alike


Cells = Iterator[tuple[str, str, Networks, list[str], str]]


def by_task(text: str, of: str = "") -> Cells:
    """Of a table on Gaussian chips and one without noise: the name of a line, task, networks, kinds and the cell."""
    for what in ("Gaussian chips", "without noise"):
        [_, *tasks], *lines = rows(text[text.index(f"| **{of}{what}** |") :])
        assert tasks == [task for task in DONE if task in tasks]
        for name, *cells in lines:
            for task, cell in zip(tasks, cells, strict=True):
                some = networks(task)
                yield name, task, some, gaussian(some) if what == "Gaussian chips" else [what], cell


def first_screen() -> str:
    return README.read_text(encoding="utf-8").partition("<!-- made by benchmarks/evidence_page.py -->\n")[2]


def informed(method: str) -> str:
    return method if method == "plain" else f"{method}-informed"


def test_the_first_screen_of_the_readme() -> None:
    shown = set()
    for method, task, some, kinds, cell in by_task(first_screen()):
        shown.add((method, task))
        if informed(method) in some:
            check_spread(cell, mean(some, informed(method), kinds), task)
        else:
            assert cell == "–"
    assert shown == {(method, task) for method in evidence.LARGE for task in DONE}
    few = {task for task in DONE if len({record["seed"] for record in records_of(task)}) == 3}
    assert all(len({record["seed"] for record in records_of(task)}) == 5 for task in DONE if task not in few)
    said = re.search(r"five training seeds \(three on (.*?)\)", first_screen())
    assert said
    assert {*said[1].split(" and ")} == few == {t for t in DONE if evidence.TASKS[t].winners_of == "fashion-mnist"}


@pytest.mark.parametrize("criterion", ["blind", "informed"])
def test_the_differences_of_pairs(criterion: str) -> None:
    shown = set()
    for pair, task, some, kinds, cell in by_task(TEXT, f"{criterion}, "):
        labels = [f"{name}-{criterion}" if name != "plain" else name for name in pair.split(" − ")]
        if not {*labels} <= {*some}:
            assert cell == "–"
            continue
        shown.add((pair, task))
        one, other = (mean(some, label, kinds) for label in labels)
        check_spread(cell, sign_of(task) * (one - other), task)
    assert shown == {
        (f"{one} − {other}", task)
        for one, other in evidence_page.PAIRS
        for task in DONE
        if {f"{one}-{criterion}", f"{other}-{criterion}"} <= {*networks(task)}
    }


def test_the_example_of_the_error_bars() -> None:
    """Of three networks with ten chips each."""
    text = (PAGE.parent / "error-bars.md").read_text(encoding="utf-8")
    own = [r for r in records_of("digits", "whole") if r["method"] == "noise-informed" and r["seed"] < 3]
    assert own[0]["families"][0]["kinds"][3]["level"] == 0.2
    chips = np.array([r["measured"][0][3] for r in sorted(own, key=lambda r: r["seed"])])
    means = [f"{mean:.3f}".removeprefix("0") for mean in chips.mean(axis=1)]
    assert "their means were {}, {} and {}".format(*means) in text
    pooled, seeds = mean_interval(chips.flatten().tolist()), mean_interval(chips.mean(axis=1).tolist())
    half = [f"± {(one.high - one.low) / 2:.3f}".replace("0.", ".") for one in (pooled, seeds)]
    assert f"from all {chips.size} would be {half[0]}" in text
    assert f"# {half[1]}" in text


@pytest.mark.parametrize("task", DONE)
def test_the_best_in_short(task: str) -> None:
    """With one gradient a step and with two, on Gaussian chips, among informed settings."""
    line = next(line for line in TEXT.splitlines() if line.startswith(f"- **{task}**"))
    some = networks(task)
    cost = {record["method"]: record["training"]["gradients"] for record in records_of(task, "whole")}
    means = {label: sign_of(task) * mean(some, label, gaussian(some)) for label in some if not label.endswith("-blind")}
    of_twin = evidence.twins(task)
    once, twice = (
        max((label for label in means if (cost[of_twin[label]] > cost["plain"]) == dear), key=lambda m: means[m].mean())
        for dear in (False, True)
    )
    found = re.search(r"one gradient a step is `([^`]+)`.*two is `([^`]+)`.*: (-?[\d.]+ ± [\d.]+) \w+ better", line)
    assert found is not None
    gain = means[twice] - means[once]
    assert (found[1], found[2]) == (once.removesuffix("-informed"), twice.removesuffix("-informed"))
    check_spread(found[3], gain, task)
    assert ("(significant" in line) == (p_value(gain, resolution_of(task)) < 0.05)


@pytest.mark.parametrize("task", [task for task in evidence.TASKS if recipe.logged(task).exists()])
def test_the_log_of_recipes_shows_all_that_was_tried(task: str) -> None:
    found = evidence.lines(recipe.logged(task))
    text = (PAGE.parent / "evidence" / "recipe.md").read_text(encoding="utf-8")
    shown = rows(text[text.index(f"| {task} | 0.5 x radius") :])
    assert [line[0] for line in shown[1:]] == list(recipe.variations(task))
    scale, digits = shown_in(task)
    for variation, *cells, _ in shown[1:]:
        for cell, settings in zip(cells, recipe.candidates(task, variation), strict=True):
            own = [one for one in found if (one["variation"], one["settings"]) == (variation, settings)]
            assert len(own) == evidence.TASKS[task].seeds
            if any("diverged" in one for one in own):
                assert "nan" in cell
                continue
            expected = [np.mean([np.mean(one["chips"]) for one in own]), np.mean([one["clean"] for one in own])]
            values = [float(text) for text in cell.split(" / ")]
            assert values == pytest.approx([scale * value for value in expected], abs=0.5001 * 10**-digits)


@pytest.mark.parametrize("task", [task for task in evidence.TASKS if evidence_page.packed(f"{task}-recipe")])
def test_the_confirmed_recipes_are_what_their_records_say(task: str) -> None:
    some = networks(f"{task}-recipe")
    clean, *noisy = kinds_of(some)
    groups = [[clean], gaussian(some), [kind for kind in noisy if kind not in gaussian(some)]]

    def means(variation: str, group: list[str]) -> np.ndarray:
        return mean(some, recipe.plain(variation), group)

    _, *lines = rows(TEXT[TEXT.index(f"| {task}, confirmed |") :])
    assert [line[0] for line in lines] == list(recipe.finalists(task))
    gains = {
        line[0]: sign_of(task) * (means(line[0], groups[1]) - means(recipe.BEST_RADIUS, groups[1]))
        for line in lines
        if line[0] != recipe.BEST_RADIUS
    }
    p_values = holm(p_value(gain, resolution_of(f"{task}-recipe")) for gain in gains.values())
    corrected = dict(zip(gains, p_values, strict=True))
    for name, _, _, *cells in lines:
        expected = [means(name, group) for group in groups] + ([gains[name]] if name in gains else [])
        for cell, values in zip(cells, expected, strict=False):
            check_spread(cell, values, f"{task}-recipe")
        assert cells[4] == (f"{corrected[name]:.2g}" if name in gains else "")


def test_a_large_task_tries_variations_of_both_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from its own radius; the recipe is confirmed once where its own radius is the best."""
    task = "tiny-shakespeare"
    own = {
        "rangesam+clip-informed": ("rangesam+clip", {"rho": 0.25, "alpha": 2.5}),
        f"{evidence.LEARNED}-informed": (evidence.LEARNED, {"rho": 1.0, "penalty": 1.0}),
    }
    monkeypatch.setattr(recipe, "winners", lambda _: own)
    monkeypatch.setattr(recipe, "RESULTS", tmp_path)
    tried = {variation: recipe.candidates(task, variation) for variation in recipe.variations(task)}
    assert {len(every) for every in tried.values()} == {3}
    assert tried["half of the clean gradient"][0] == {"rho": 0.125, "alpha": 2.5, "mix": 0.5}
    assert tried["a learned range, every second step"][2] == {"rho": 2.0, "penalty": 1.0, "every": 2}
    rows = [
        {"variation": variation, "settings": settings, "seed": 100, "chips": [3.0 + abs(settings["rho"] - best)]}
        for best in (0.25, 0.5)
        for variation, every in tried.items()
        for settings in every
    ]
    for best, is_own in ((0.25, True), (0.5, False)):
        some = rows[: len(rows) // 2] if is_own else rows[len(rows) // 2 :]
        recipe.logged(task).write_text("".join(json.dumps(row) + "\n" for row in some))
        found = recipe.finalists(task)
        assert (recipe.AS_IT_IS not in found) == is_own
        assert found[recipe.BEST_RADIUS] == {"rho": best, "alpha": 2.5}
        assert len(found) == 4 + (not is_own)


def test_equal_winners_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are then those of both; a name with records of its own keeps them."""
    twins = evidence.twins(DONE[0])
    label, twin = next((label, twin) for label, twin in twins.items() if label != twin and label.startswith("samson"))
    once = [record for record in records_of(DONE[0]) if record["method"] != label]
    (tmp_path / f"{DONE[0]}.json.gz").write_bytes(gzip.compress(json.dumps(once).encode()))
    before = evidence_page.read(DONE[0])
    monkeypatch.setattr("benchmarks.evidence.RESULTS", tmp_path)
    for part, found in evidence_page.read(DONE[0]).items():
        assert set(found.table) == set(before[part].table)
        for kind in found.kinds:
            own, other, known = found.table[label][kind], found.table[twin][kind], before[part].table[twin][kind]
            assert list(own) == list(other) == list(known)


def test_a_task_is_finished_when_every_winner_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, wanted = records_of(SMALLEST), evidence.parts(SMALLEST)
    monkeypatch.setattr("benchmarks.evidence.RESULTS", tmp_path)
    for number, some in enumerate((records, records[:-1], records[1:])):
        name = f"{SMALLEST}-{number}"
        monkeypatch.setitem(evidence.TASKS, name, evidence.TASKS[SMALLEST])
        monkeypatch.setattr("benchmarks.evidence_found.parts", lambda _: wanted)
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(some).encode()))
        assert finished(name) == (number == 0)


def test_packed_records_can_be_unpacked_for_a_report(tmp_path: Path) -> None:
    evidence.unpack(SMALLEST, tmp_path)
    found = [record for part in ("whole", "half") for record in load_comparison(tmp_path / SMALLEST / part).records]
    assert sorted((r.method, r.seed, r.clean) for r in found) == sorted(
        (r["method"], r["seed"], r["clean"]) for r in records_of(SMALLEST)
    )
    path = next(tmp_path.rglob("*.json"))
    path.write_text("kept")
    evidence.unpack(SMALLEST, tmp_path)
    assert path.read_text() == "kept"


@pytest.mark.parametrize("task", DONE)
@pytest.mark.parametrize("part", ["whole", "half"])
def test_the_committed_suites_are_those_that_were_confirmed(task: str, part: str) -> None:
    """Each run of a suite has a record with its settings and chips."""
    tables = tomllib.loads((evidence.RESULTS / f"{task}-{part}.toml").read_text(encoding="utf-8"))
    assert tables == evidence.suite(task, part)
    assert {epochs_of(record) for record in records_of(task, part)} == {tables["recipe"]["epochs"]}
    known = {(record["method"], record["seed"]): record for record in records_of(task, part)}
    for given in tables["methods"]:
        settings = {name: value for name, value in given.items() if name not in ("method", "name")}
        for seed in range(tables["seeds"]):
            record = known[given["name"], seed]
            assert settings.items() <= record["settings"].items()
            assert (record["trials"], record["problem"]["data"]) == (tables["trials"], tables["data"])
            assert record["problem"]["network"] == tables["network"]
            assert record["examples"] == tables.get("examples", record["examples"])
            first, *_ = record["families"]
            assert [kind["level"] for kind in first["kinds"]] == tables["chips"][0]["levels"]
            assert len(record["families"]) == len(tables["chips"])


@pytest.mark.parametrize("task", DONE)
@pytest.mark.parametrize(
    ("part", "begin", "each"),
    [
        ("whole", "# As many epochs", False),
        ("half", "# As many gradients", False),
        ("whole", "# Each kind of chip", True),
        ("half", "With half the epochs:", True),
    ],
)
def test_each_figure_of_the_tables(task: str, part: str, begin: str, each: bool) -> None:
    some = networks(task, part)
    head, *lines = rows(own_page(task).partition(begin)[2])
    if each:
        assert head[4:] == kinds_of(some)
    assert {label for line in lines for label in labels_of(line[0])} == {*some}
    cost, of_plain = (
        {record["method"]: record["training"]["gradients"] for record in records_of(task, of)} for of in (part, "whole")
    )
    for name, _, gradients, _, *cells in lines:
        for label in labels_of(name):
            assert gradients == f"{cost[evidence.twins(task)[label]] / of_plain['plain']:.2g}"
            for column, cell in zip(head[4:], cells, strict=True):
                values = mean(some, label, in_family(some, column))
                assert len(values) == evidence.TASKS[task].confirming
                check_spread(cell, values, task)


Kinds = Callable[[Networks], list[str]]


def and_clean(some: Networks) -> list[str]:
    return ["without noise", *gaussian(some)]


ALIKE, RADII = "tiny-shakespeare", "cifar10-resnet20-published"
PUBLISHED = [name for name in evidence.METHODS if "rangesam" not in name]
LATER = [task for task in DONE if task not in ("digits", "japanese-vowels")]
HYPOTHESES: dict[int, tuple[list[str], list[str], Kinds, list[str]]] = {
    1: (["samson-blind", "samson-p2-blind"], ["sam-blind", "asam-blind"], and_clean, DONE),
    2: (["samson+clip-blind"], ["sam+clip-blind", "asam+clip-blind"], and_clean, DONE),
    3: (["rangesam+clip-informed"], ["plain", *(f"{name}-informed" for name in PUBLISHED)], gaussian, DONE),
    4: (
        ["clip-informed"],
        ["noise-informed", "sam-informed", "asam-informed", "samson-informed"],
        lambda some: gaussian(some)[-2:],
        DONE,
    ),
    6: (["rangesam+learned-range-informed"], ["rangesam+clip-informed"], gaussian, LATER),
    7: (["samson-informed"], ["sam-informed", "asam-informed"], and_clean, LATER),
    11: (["samson-published"], ["sam-published", "asam-published"], and_clean, [RADII]),
    12: (["rangesam+clip-informed"], ["noise+clip-informed"], gaussian, LATER),
    13: (["noise+clip-informed"], ["clip-informed"], gaussian, LATER),
    9: ([f"{name}+clip-alike" for name in ("sam", "asam", "samson", "rangesam")], ["clip-alike"], gaussian, [ALIKE]),
}
NO_LEAD = {
    8: (["asam+clip-alike"], ["clip-alike", "samson+clip-alike"]),
    10: (["sam-informed", "asam-informed", "samson-informed"], ["plain-half"]),
}


@cache
def beside() -> Networks:
    """That task's own networks, those at one clipping, and the shorter plain ones, by the names on the page."""
    own, new, short = networks(ALIKE), networks(f"{ALIKE}-alike"), networks(f"{ALIKE}-alike", "half")
    return {**own, **new, "asam+clip-alike": own["asam+clip-informed"], "plain-half": short["plain"]}


@pytest.mark.parametrize("number", HYPOTHESES)
def test_the_answer_to_a_hypothesis(number: int) -> None:
    ours, theirs, which, tasks = HYPOTHESES[number]
    found = []
    for task in tasks:
        some = beside() if number == 9 else networks(task)
        for one, other in ((one, other) for one in ours for other in theirs if {one, other} <= {*some}):
            for kind in which(some):
                gain = sign_of(task) * (some[one][kind] - some[other][kind])
                found.append((task, gain.mean(), p_value(gain, resolution_of(task))))
    text = TEXT.partition("## The hypotheses")[2].partition(f"\n{number}. ")[2].partition("\n")[0]
    deciding = [one for one in found if len({record["seed"] for record in records_of(one[0])}) >= 5]
    if not deciding:
        assert "Not measured yet." in text
        return
    clear = holm(p for _, _, p in deciding) < 0.05
    gains = np.array([gain for _, gain, _ in deciding])
    said = []
    for chosen in (clear & (gains > 0), clear & (gains < 0)):
        own = [(task, sum(chosen[i] for i, one in enumerate(deciding) if one[0] == task)) for task in tasks]
        of_task = [f"{count} on {task.removesuffix('-published')}" for task, count in own if count]
        said.append(f"{chosen.sum()} ({', '.join(of_task)})" if of_task else "0")
    assert (
        f"{(gains > 0).sum()} of {len(gains)} comparisons point its way; significant {said[0]}, significant the other "
        f"way {said[1]}."
    ) in text
    shown = {task for (task, _, _), sure, gain in zip(deciding, clear, gains, strict=True) if sure and gain > 0}
    holds = shown == {task for task, _, _ in deciding} and bool((gains > 0).all())
    if number == 3:  # which also asks for what is lost without noise
        fails = [
            (task, gain < -(0.005 if resolution_of(task) else 0.02))
            for task in tasks
            for some in [networks(task)]
            for other in theirs
            if other in some
            for gain in [sign_of(task) * (some[ours[0]]["without noise"] - some[other]["without noise"]).mean()]
        ]
        counts = {task: sum(lost for of, lost in fails if of == task) for task in tasks}
        of_task = ", ".join(f"{count} on {task}" for task, count in counts.items() if count)
        assert f"Of {len(fails)} comparisons without noise, " in text
        assert f"more is lost in {sum(counts.values())} ({of_task})." in text
        holds &= not any(counts[task] for task, _, _ in deciding)
    assert ("**Confirmed**" in text) == holds
    for task in {task for task, _, _ in found} - {task for task, _, _ in deciding}:
        own = [gain for name, gain, _ in found if name == task]
        assert f"On {task} {sum(gain > 0 for gain in own)} of {len(own)} point its way." in text


def test_the_readme_says_what_the_twelfth_hypothesis_found() -> None:
    said = re.search(
        r"`rangesam\+clip` is ahead of `noise\+clip`.*?nowhere significantly", README.read_text(), re.DOTALL
    )
    assert said
    assert [task for task in DONE if task in said[0]] == ["fashion-mnist", "tiny-shakespeare"]
    answer = TEXT.partition("\n12. ")[2].partition("\n")[0]
    assert "on fashion-mnist, tiny-shakespeare: 10 of 10 comparisons point its way; significant 0, " in answer


def leads(number: int) -> dict[tuple[str, str, str], tuple[float, bool]]:
    """By how much the first method is better than the second at a level, and whether that is significant."""
    gains = {
        (one, other, kind): sign_of(ALIKE) * (beside()[one][kind] - beside()[other][kind])
        for one in NO_LEAD[number][0]
        for other in NO_LEAD[number][1]
        for kind in gaussian(beside())
    }
    clear = holm(p_value(gain, 0.0) for gain in gains.values()) < 0.05
    return {key: (gain.mean(), sure) for (key, gain), sure in zip(gains.items(), clear, strict=True)}


@pytest.mark.parametrize("number", NO_LEAD)
def test_the_answer_to_a_hypothesis_that_none_leads(number: int) -> None:
    gains = leads(number).values()
    better, worse = (sum(sure and sign * gain > 0 for gain, sure in gains) for sign in (1, -1))
    pointing = sum(gain > 0 for gain, _ in gains)
    text = TEXT.partition("## The hypotheses")[2].partition(f"\n{number}. ")[2].partition("\n")[0]
    assert f"of {len(gains)} comparisons {better} are significant for " in text
    assert f", {worse} against; {pointing} point for, {len(gains) - pointing} against." in text
    first, _, both_half = text.partition("Where these three have half of the epochs too: ")
    assert ("**Confirmed**" in first) == (better == 0)
    assert bool(both_half) == (number == 10)


def test_the_tenth_hypothesis_with_half_of_the_epochs_for_all() -> None:
    half = {**networks(ALIKE, "half"), **networks(f"{ALIKE}-alike", "half")}
    gains = [
        half["plain"][kind] - half[f"{name}-informed"][kind]
        for name in ("sam", "asam", "samson")
        for kind in gaussian(half)
    ]
    assert all(gain.mean() > 0 for gain in gains)
    assert all(holm(p_value(gain, 0.0) for gain in gains) >= 0.05)
    said = TEXT.partition("Where these three have half of the epochs too: ")[2].partition("\n")[0]
    assert "0 are significant for sam or asam or samson, 0 against; 15 point for, 0 against." in said


def chips_of(record: dict[str, Any]) -> list[Any]:
    kinds = [(kind["label"], kind["level"], kind["noise"]) for family in record["families"] for kind in family["kinds"]]
    return [kinds, record["chip_seed"], record["trials"], record["examples"], record["split"]]


def test_runs_at_one_clipping_are_those_of_the_task_but_for_it() -> None:
    """The same seeds and chips; of what the search tried with this clipping, the best on noisy validation chips."""
    own, new = records_of(ALIKE, "whole"), records_of(f"{ALIKE}-alike", "whole")
    assert {r["method"] for r in new} == {name for name in beside() if name.endswith("-alike")} - {"asam+clip-alike"}
    for record in [*new, *(record for record in own if record["method"].startswith("asam+clip"))]:
        assert record["settings"]["alpha"] == 1.5
        assert chips_of(record) == chips_of(own[0])
        tried = [
            (-np.mean(line["chips"]), line["settings"])
            for line in evidence.lines(evidence.searched(ALIKE))
            if line["method"] == record["settings"]["method"] and line["settings"]["alpha"] == 1.5
        ]
        best = max(tried, key=lambda one: one[0])[1]
        assert best.items() <= record["settings"].items()
    for of in (new, records_of(f"{ALIKE}-alike", "half")):
        assert {r["seed"] for r in of} == {r["seed"] for r in own}


def test_what_a_step_costs() -> None:
    """The medians and quartiles of the record, and the sentence below them."""
    costs = json.loads((evidence.RESULTS.parent / "records" / "evidence-costs.json").read_text())["costs"]
    [_, *tasks], *lines = rows(TEXT.partition("## What a step costs")[2])
    assert tasks == DONE
    assert [method for method, *_ in lines] == list(evidence.LARGE[1:])
    for method, *cells in lines:
        for task, cell in zip(tasks, cells, strict=True):
            shown = [float(text) for text in re.findall(r"[\d.]+", cell)]
            assert shown == pytest.approx(costs[task].get(method, []), abs=0.00501)
    most: dict[bool, list[float]] = {False: [], True: []}
    for task in tasks:
        two = [median for name, (median, *_) in costs[task].items() if "sam" in name or "rwp" in name]
        alone = [costs[task][name][0] for name in ("noise", "clip", "channel-clip") if name in costs[task]]
        assert 1.9 < min(two) <= max(two) < 2.4
        most[evidence.TASKS[task].large].append(max(alone))
    said = re.search(r"at most (\d+) % more on the large tasks, and (\d+) % on\s+digits and japanese-vowels", TEXT)
    assert said
    assert said.groups() == tuple(f"{100 * max(most[large]) - 100:.0f}" for large in (True, False))


def test_the_table_of_one_clipping() -> None:
    _head, *lines = rows(TEXT.partition("## At one clipping")[2])
    assert [line[0] for line in lines] == ["clip", "sam+clip", "asam+clip", "samson+clip", "rangesam+clip"]
    for method, _, *cells in lines:
        ours, clip = f"{method}-alike", "clip-alike"
        kinds = [["without noise"], gaussian(beside())]
        expected = [mean(beside(), ours, of) for of in kinds]
        expected += [mean(beside(), clip, of) - mean(beside(), ours, of) for of in kinds if ours != clip]
        for cell, values in zip(filter(None, cells), expected, strict=True):
            check_spread(cell, values, ALIKE)


def test_what_is_said_of_one_clipping_and_of_shorter_plain_training() -> None:
    """The sentences beside the tables, and in the README."""
    some, levels = beside(), gaussian(beside())
    gain = {
        (name, kind): mean(some, "clip-alike", [kind]) - mean(some, f"{name}+clip-alike", [kind])
        for name in ("sam", "asam", "samson", "rangesam")
        for kind in ["without noise", *levels]
    }
    family = [(name, kind) for name, kind in gain if kind in levels]
    clear = dict(zip(family, holm(p_value(gain[one], 0.0) for one in family) < 0.05, strict=True))
    assert not any(clear["asam", kind] for kind in levels)
    for name in ("sam", "samson", "rangesam"):
        assert all(clear[name, kind] and gain[name, kind].mean() > 0 for kind in levels[-2:])
    for name in ("sam", "samson"):
        assert clear[name, levels[0]]
        assert gain[name, levels[0]].mean() < 0
        assert gain[name, "without noise"].mean() < -0.1
    means = {name: mean(some, name, levels).mean() for name in some if name.endswith("-alike")}
    assert min(means, key=lambda name: means[name]) == "rangesam+clip-alike"
    of_half = mean(some, "plain-half", levels).mean()
    assert of_half < min(mean(some, f"{name}-informed", levels).mean() for name in ("sam", "asam", "samson"))
    longer, short = networks(ALIKE), shorter(ALIKE)
    gained = {(name, kind): (longer[name][kind] - of[kind]).mean() for name, of in short.items() for kind in of}
    assert {name for name in short if gained[name, levels[-1]] <= 0} == {"rangesam+learned-range-informed"}
    for family in ("without noise", "pcm", "few bits"):
        kinds = in_family(some, family)
        assert all(sum(gained[name, kind] for kind in kinds) < 0 for name in short)


def test_the_table_of_published_radii_and_what_is_said_of_it() -> None:
    own, new = networks("cifar10-resnet20"), networks(RADII)
    some = {"plain": own["plain"], **{name.removesuffix("-published"): of for name, of in new.items()}}
    part = TEXT.partition("## At published radii")[2].partition("\n## ")[0]
    [_, _, *columns], *lines = rows(part)
    assert [name for name, *_ in lines] == ["plain", "sam", "asam", "samson"]
    for name, _, *cells in lines:
        for column, cell in zip(columns, cells, strict=True):
            kinds = gaussian(some) if column == "Gaussian chips" else [column]
            check_spread(cell, mean(some, name, kinds), RADII)
    of_record = {r["method"]: r["settings"]["rho"] for r in records_of(RADII)}
    assert of_record == {"sam-published": 0.05, "asam-published": 0.5, "samson-published": 0.2}

    def lost(networks: Networks, name: str) -> float:
        return 100 * (some["plain"]["without noise"].mean() - networks[name]["without noise"].mean())

    here = [lost(some, name) for name in ("sam", "asam", "samson")]
    other = [lost(own, f"{name}-informed") for name in ("sam", "samson")]
    assert re.findall(r"(\d+\.\d)\b", part.rpartition("|")[2]) == [
        f"{value:.1f}"
        for value in (min(here), max(here), *other, 100 * mean(own, "clip-informed", gaussian(own)).mean())
    ]
    assert all(
        mean(some, name, gaussian(some)).mean() < mean(some, "plain", gaussian(some)).mean()
        for name in some
        if name != "plain"
    )


@pytest.mark.parametrize(
    ("number", "ours", "theirs"),
    [(14, ["clip"], "plain"), (15, ["samson+clip", "rangesam+clip"], "clip-informed")],
)
def test_the_answer_to_a_hypothesis_that_was_given_up(number: int, ours: list[str], theirs: str) -> None:
    some = networks("fashion-mnist-longer")
    gains = [(some[f"{one}-informed"][kind] - some[theirs][kind]).mean() for one in ours for kind in gaussian(some)]
    text = TEXT.partition("## The hypotheses")[2].partition(f"\n{number}. ")[2].partition("\n")[0]
    assert "**Not confirmed** on fashion-mnist, and given up after the first seed" in text
    assert f"{sum(gain > 0 for gain in gains)} of {len(gains)} comparisons point its way." in text
    for name in (*ours, theirs.removesuffix("-informed")):
        values = some[f"{name}-informed" if "clip" in name else name]["without noise"]
        assert len(values) == 1
        assert f"`{name}` {100 * values.item():.1f}" in text
    epochs = {r["problem"]["recipe"]["epochs"] for r in records_of("fashion-mnist-longer")}
    assert epochs == {4 * evidence.TASKS["fashion-mnist"].epochs}


def test_the_table_of_longer_training() -> None:
    lines = evidence.lines(evidence.RESULTS / "fashion-mnist-longer.jsonl")
    part = TEXT.partition("## Longer training")[2].partition("\n## ")[0]
    [head, *shown] = rows(part)
    assert head[-4:] == ["without noise", "gaussian 0.05", "gaussian 0.1", "gaussian 0.2"]
    expected = sorted(
        [
            line["method"],
            ", ".join(f"{key} {value:g}" for key, value in line["settings"].items()),
            *(f"{100 * value:.1f}" for value in (line["clean"], *line["chips"])),
        ]
        for line in lines
    )
    assert sorted(shown) == expected
    assert {line["gradients"] // (2 if "sam" in line["method"] else 1) for line in lines} == {6864}  # 16 epochs of 429
    of = {(line["method"], *line["settings"].items()): line for line in lines}
    plain, kept = of["plain",], of["clip", ("alpha", 1.5), ("keep_norm", 1.0)]
    free = [line for line in lines if line["method"] == "clip" and "keep_norm" not in line["settings"]]
    assert all(line["clean"] < plain["clean"] for line in free)
    said = (plain["clean"], plain["clean"] - kept["clean"], kept["chips"][-1], plain["chips"][-1])
    assert re.findall(r"\d*\.\d", part.rpartition("|")[2].replace("at 1.5", "")) == [
        f"{100 * value:.1f}".removeprefix("0") for value in said
    ]


def test_the_mean_over_levels_owes_most_to_the_strongest() -> None:
    """On cifar10-resnet20 another method is the best in the mean than at the three weakest levels."""
    some = networks("cifar10-resnet20")
    each = [[kind] for kind in gaussian(some)[:3]]
    best = [max(some, key=lambda name, of=kinds: mean(some, name, of).mean()) for kinds in [*each, gaussian(some)]]
    assert best == ["clip-informed"] * 3 + ["rangesam+learned-range-informed"]


@pytest.mark.parametrize("task", DONE)
def test_clipping_alone_brings_most_on_gaussian_chips(task: str) -> None:
    """More than on any other; only on the vowels another of the five methods without addition brings more there."""
    some, sign = networks(task), sign_of(task)
    gains = {
        family: sign * (mean(some, "clip-informed", kinds) - mean(some, "plain", kinds)).mean()
        for family in families_of(task)
        for kinds in [in_family(some, family)]
    }
    assert max(gains, key=lambda family: gains[family]) == "gaussian"
    single = [f"{name}-informed" for name in ("noise", "clip", "sam", "asam", "samson")]
    means = {name: sign * mean(some, name, gaussian(some)).mean() for name in single if name in some}
    assert (max(means, key=lambda name: means[name]) == "clip-informed") == (task != "japanese-vowels")


def test_what_is_significant_in_the_second_hypothesis_is_between_two_clippings() -> None:
    gains = {
        (task, other, kind): sign_of(task) * (some["samson+clip-blind"][kind] - some[other][kind])
        for task in DONE
        for some in [networks(task)]
        for other in ("sam+clip-blind", "asam+clip-blind")
        if other in some
        for kind in and_clean(some)
    }
    clear = holm(p_value(gain, resolution_of(task)) for (task, *_), gain in gains.items()) < 0.05
    sure = {(task, other) for (task, other, _), is_clear in zip(gains, clear, strict=True) if is_clear}
    assert sure == {("fashion-mnist", "asam+clip-blind"), ("tiny-shakespeare", "asam+clip-blind")}
    for task, other in sure:
        alpha = {name: evidence.winners(task)[name][1]["alpha"] for name in ("samson+clip-blind", other)}
        assert alpha == {"samson+clip-blind": 2.5, other: 1.5}


@pytest.mark.parametrize("task", DONE)
def test_the_base_optimizer_is_at_an_end_of_what_was_tried(task: str) -> None:
    tried = [line["settings"] for line in evidence.lines(evidence.searched(task)) if "lr" in line["settings"]]
    rates, decays = ({settings[name] for settings in tried} for name in ("lr", "weight_decay"))
    adam = evidence.base_of(task)["lr"] == 0.01
    assert first_record(task)["problem"]["base"] == ("AdamW" if adam else "SGD")
    assert evidence.base_of(task)["weight_decay"] == (min(decays) if adam else max(decays)) == (0.01 if adam else 0.002)
    assert (evidence.base_of(task)["lr"] == max(rates)) == adam


def test_no_hypothesis_would_be_answered_otherwise_with_three_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hypotheses.md` says of the rule that five seeds decide."""
    monkeypatch.setattr(evidence_answers, "DECIDING", 3)
    again = evidence_answers.hypotheses({task: evidence_page.read(task)["whole"] for task in DONE})
    verdicts, others = (re.findall(r"^\d+\. .*?(\*\*.*?\*\*)", text, re.MULTILINE) for text in (TEXT, again))
    assert verdicts[:7] == others[:7]
    assert "6 on cifar10-resnet20" in again
    assert "6 on cifar10-resnet20" not in TEXT


def test_the_answer_to_the_fifth_hypothesis() -> None:
    text = TEXT.partition("\n5. ")[2].partition("\n")[0]
    every = []
    for task in DONE:
        some = networks(task)
        methods = [label for label in some if not label.endswith("-blind")]
        means = {
            family: [mean(some, method, in_family(some, family)).mean().round(9) for method in methods]
            for family in families_of(task)
        }
        taus = {family: stats.kendalltau(means["gaussian"], own).statistic for family, own in means.items()}
        del taus["gaussian"]
        assert f"{task}: " + ", ".join(f"{family} {tau:.2f}" for family, tau in taus.items()) in text
        every += list(taus.values()) if evidence.TASKS[task].confirming >= 5 else []
    assert ("**Confirmed**" in text) == (min(every) > 0.5)


@pytest.mark.parametrize("task", [task for task in DONE if (evidence.RESULTS / f"{task}-sharpness.json").exists()])
def test_the_correlations_of_sharpness(task: str) -> None:
    found = json.loads((evidence.RESULTS / f"{task}-sharpness.json").read_text())["networks"]
    some = networks(task)
    head, *lines = rows(own_page(task).partition("## Sharpness")[2])
    assert head[1:] == ["without noise", *families_of(task)]
    assert [line[0] for line in lines] == list(found[0]["measures"])
    networks_of = [one for one in found if one["method"] in some]
    for measure, *cells in lines:
        for family, cell in zip(head[1:], cells, strict=True):
            values = [
                sign_of(task) * mean(some, one["method"], in_family(some, family))[one["seed"]].round(9)
                for one in networks_of
            ]
            tau = stats.kendalltau([one["measures"][measure] for one in networks_of], values).statistic
            middle, low, high = (float(text) for text in re.findall(r"[+-][\d.]+", cell))
            assert middle == pytest.approx(tau, abs=0.00501)
            assert low <= middle <= high


def test_what_the_page_on_sharpness_says_of_methods_with_and_without_clipping() -> None:
    """The intervals of the pooled tables that are on one side of zero."""
    text = TEXT.partition("## Sharpness and robustness")[2]
    sure = {}
    for name in ("All methods", "Without clipping"):
        [_, *families], *lines = rows(text[text.index(f"| {name} |") :])
        for measure, *cells in lines:
            ends = [[float(end) for end in re.findall(r"[+-][\d.]+", cell)[1:]] for cell in cells]
            found = zip(families, ends, strict=True)
            sure[name, measure] = {family: high < 0 for family, (low, high) in found if low * high > 0}
    assert sure["All methods", "samson worst"] == {"gaussian": False, "bit-errors": False}
    assert all(sure["All methods", "rangesam worst"].values())
    for measure in ("samson worst", "rangesam worst"):
        assert sure["Without clipping", measure] == {"gaussian": True, "lognormal": True}


@pytest.mark.parametrize("criterion", ["blind", "informed"])
def test_wins_and_losses(criterion: str) -> None:
    shown = {line[0]: [int(cell) for cell in line[1:]] for line in rows(TEXT[TEXT.index("| method | better |") :])[1:]}
    names = [f"{name}-{criterion}" if evidence.METHODS[name][1] else name for name in evidence.METHODS]
    for ours in names:
        gains, p_values = [], []
        for task in DONE:
            some = networks(task)
            for other in (other for other in names if other != ours and {ours, other} <= {*some}):
                for family in ("without noise", *families_of(task)):
                    own, against = (mean(some, method, in_family(some, family)) for method in (ours, other))
                    gains.append(sign_of(task) * (own - against))
                    p_values.append(p_value(gains[-1], resolution_of(task)))
        if not gains or (criterion == "informed" and ours == "plain"):
            continue
        clear, means = holm(p_values) < 0.05, np.array([gain.mean() for gain in gains])
        won, lost = int((clear & (means > 0)).sum()), int((clear & (means < 0)).sum())
        assert shown[ours] == [won, len(gains) - won - lost, lost]


def shorter(task: str) -> Networks:
    """The networks with half of the epochs."""
    return {**networks(task, "half"), **(networks(f"{ALIKE}-alike", "half") if task == ALIKE else {})}


def test_what_shorter_training_brings() -> None:
    """Half of the epochs against all of them, by the same seeds."""
    shown = set()
    for method, task, whole, kinds, cell in by_task(TEXT.partition("## Shorter training")[2]):
        half, label = shorter(task), informed(method)
        if label not in half:
            assert cell == "–"
            continue
        shown.add((label, task))
        check_spread(cell, sign_of(task) * (mean(half, label, kinds) - mean(whole, label, kinds)), task)
    assert shown == {(label, task) for task in DONE for label in shorter(task) if not label.endswith("-blind")}


@pytest.mark.parametrize("task", [task for task in DONE if not evidence.TASKS[task].winners_of])
def test_winners_at_an_end_of_what_was_tried_are_counted(task: str) -> None:
    """Of those trained to the end or in the last search: nothing weaker or nothing stronger, all else the same."""
    shown = {
        label: line[1]
        for line in rows(own_page(task).partition("# As many epochs")[2])[1:]
        for label in labels_of(line[0])
    }
    tried: dict[str, list[dict[str, float]]] = defaultdict(list)
    for line in evidence.lines(evidence.searched(task)):
        if line["round"] == 1 and line["settings"] in evidence.candidates(task, line["method"]):
            tried[line["method"]].append(line["settings"])
    at_end, every = 0, [label for label in shown if label.endswith("-informed")]
    for label in every:
        own = {key: float(value) for key, value in (word.split(" ") for word in shown[label].split(", "))}
        strength, *others = own
        alike = [
            one[strength]
            for one in tried[label.removesuffix("-informed")]
            if all(one[key] == own[key] for key in others)
        ]
        at_end += min(alike) == own[strength] or max(alike) == own[strength]
    assert f"{at_end} of {len(every)} on {task}" in TEXT.partition("the largest that was tried:")[2]


def test_the_readme_says_which_way_the_first_hypothesis_points() -> None:
    there = re.search(r"1\. SAMSON beats SAM and ASAM.*?(\d+) of (\d+) comparisons point its way", TEXT)
    said = re.search(r"(\d+) of (\d+) comparisons point against\s+SAMSON", README.read_text(encoding="utf-8"))
    assert there
    assert said
    assert [int(said[1]), int(said[2])] == [int(there[2]) - int(there[1]), int(there[2])]
    for number in ("2", "7"):
        assert re.search(rf"\n{number}\. .*; significant 0, significant the other way [1-9]", TEXT)


def test_the_readme_says_where_samson_is_significantly_ahead() -> None:
    """At one clipping alone, at the two largest levels; there it is behind at the smallest."""
    found, levels = leads(8), gaussian(beside())
    for_others = [key for key, (gain, sure) in found.items() if sure and gain < 0]
    assert for_others == [("asam+clip-alike", "samson+clip-alike", level) for level in levels[-2:]]
    behind, sure = found["asam+clip-alike", "samson+clip-alike", levels[0]]
    assert sure
    assert behind > 0


@pytest.mark.parametrize("task", DONE)
def test_confirming_seeds_took_no_part_in_the_search(task: str) -> None:
    searched = {line["seed"] for line in evidence.lines(evidence.searched(task))}
    confirming = {record["seed"] for record in records_of(task)}
    assert searched
    assert not searched & confirming
    assert first_record(task)["split"] == "test"


@pytest.mark.parametrize("task", DONE)
def test_winners_are_the_best_of_the_search(task: str) -> None:
    """By the criterion, among the candidates that were trained to the end."""
    shown = {
        label: line[1]
        for line in rows(own_page(task).partition("# As many epochs")[2])[1:]
        for label in labels_of(line[0])
    }
    source = evidence.TASKS[task].winners_of or task
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in evidence.lines(evidence.searched(source)):
        if line["settings"] in evidence.candidates(source, line["method"]) and line["round"] == last_round(source):
            settings = ", ".join(f"{key} {value:g}" for key, value in line["settings"].items())
            for criterion in ("blind", "informed"):
                value = line.get("clean") if criterion == "blind" else np.mean(line.get("chips", np.nan))
                lost = value is None or np.isnan(value)
                scores[line["method"], criterion][settings].append(-np.inf if lost else sign_of(task) * value)
    for (method, criterion), by_settings in scores.items():
        label = f"{method}-{criterion}" if evidence.METHODS[method][1] else method
        if label not in shown:
            assert evidence.TASKS[task].large  # blind ones of few methods alone
            continue
        means = {settings: np.mean(values) for settings, values in by_settings.items()}
        assert means[shown[label]] == pytest.approx(max(means.values()), abs=1e-12)


def last_round(task: str) -> int:
    return 1 if evidence.TASKS[task].large else 2


def test_a_large_search_goes_on_beyond_the_end_of_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the best is the smallest or the largest; two steps by either criterion, and not before the grid is done."""
    table: list[dict[str, Any]] = []
    monkeypatch.setattr(evidence, "of", lambda _: table)

    def add(clean: float, chips: float) -> list[float]:
        """Lines for the candidates that have none; gives those."""
        new = [
            c["rho"] for c in evidence.candidates("fashion-mnist", "sam") if c not in [one["settings"] for one in table]
        ]
        for rho in new:
            line = {"round": 1, "method": "sam", "settings": {"rho": rho}, "clean": clean * rho, "chips": [chips * rho]}
            table.append(line)
        return new

    assert add(clean=-1, chips=1) == [0.02, 0.05, 0.1, 0.2, 0.4]
    rest = table.pop()
    assert add(clean=-1, chips=1) == [rest["settings"]["rho"]]
    assert [add(clean=-1, chips=1) for _ in range(5)] == [[0.01], [0.005], [0.8], [1.6], []]
    table[:] = table[:5]
    for line, value in zip(table, (0.1, 0.2, 0.3, 0.2, 0.1), strict=True):
        line |= {"clean": value, "chips": [value]}
    assert add(clean=1, chips=1) == []  # the best is in the middle


def test_a_task_may_take_over_the_informed_winners_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    task, own = DONE[0], evidence.winners(DONE[0])
    other = dataclasses.replace(evidence.TASKS[task], large=True, winners_of=task)
    monkeypatch.setitem(evidence.TASKS, "other", other)
    monkeypatch.setattr(evidence, "LARGEST", ("plain", "clip", "sam"))
    labels = ["plain", "clip-informed", "sam-informed"]
    assert evidence.winners("other") == {label: own[label] for label in labels}
    assert evidence.parts("other") == {"whole": (other.epochs, labels), "half": (other.epochs // 2, labels[2:])}


CARRIED = [task for task in DONE if evidence.TASKS[task].winners_of]


def cost_of(task: str) -> dict[str, np.ndarray]:
    """By how much each method is worse than plain training without noise, for each seed."""
    some = {name.removesuffix("-informed"): of["without noise"] for name, of in networks(task).items()}
    return {name: -sign_of(task) * (own - some["plain"]) for name, own in some.items()}


@pytest.mark.parametrize("task", CARRIED)
def test_what_the_settings_of_another_task_cost_without_noise(task: str) -> None:
    said = re.search(rf"(?:[^;:]*) on {task}", TEXT.partition("more than chance: ")[2])
    assert said
    cells, lost = dict(re.findall(r"`(\S+)` (\S+ ± \S+?),? ", said[0])), cost_of(task)
    assert set(cells) == {name for name, values in lost.items() if values.mean() > half_width(values, task)}
    for name, cell in cells.items():
        check_spread(cell, lost[name], task)


def test_the_readme_says_what_the_settings_of_another_task_cost() -> None:
    said = re.search(r"those of Fashion-MNIST cost (.+?)\s+(\d+) to (\d+)\s+points", README.read_text(encoding="utf-8"))
    assert said
    clear = [
        (name, 100 * values.mean())
        for task in CARRIED
        for name, values in cost_of(task).items()
        if values.mean() > half_width(values, task)
    ]
    assert set(re.findall(r"`(\S+?)`", said[1])) == {name for name, _ in clear}
    assert said.group(2, 3) == tuple(f"{end([points for _, points in clear]):.0f}" for end in (min, max))


def test_schedules_are_the_lines_of_their_trainings() -> None:
    """The best of the rates, its mean and Student's interval, from the file; every task in it is complete."""
    text = TEXT[TEXT.index("The schedule is a cosine") :]
    head, *found = rows(text)
    lines = [json.loads(line) for line in (evidence.RESULTS / "schedules.jsonl").read_text().splitlines()]
    assert {row[0] for row in found} == {line["task"] for line in lines}
    for task, *cells in found:
        sign, scale = evidence.TASKS[task].sign, 100 if evidence.TASKS[task].sign > 0 else 1
        for schedule, cell in zip(head[1:], cells, strict=True):
            values = defaultdict[float, list[float]](list)
            for line in lines:
                if (line["task"], line["schedule"]) == (task, schedule):
                    values[line["factor"]].append(scale * line["clean"])
            factor = max(values, key=lambda one, values=values: sign * np.mean(values[one]))
            numbers = [float(number) for number in re.findall(r"[\d.]+", cell)]
            assert numbers[0] == pytest.approx(np.mean(values[factor]), abs=0.051 if sign > 0 else 0.00051)
            seeds = 1 if evidence.TASKS[task].large else 5
            assert {len(own) for own in values.values()} == {seeds}
            if seeds > 1:
                step = scale / (54 if task == "japanese-vowels" else 360)
                half = mean_interval(values[factor], resolution=step).half_width
                assert numbers[1] == pytest.approx(half, abs=0.051)
            assert numbers[2 if seeds > 1 else 1 :] == ([] if factor == 1 else [factor])
