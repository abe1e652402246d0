"""The page of evidence is what the committed records say: every figure of its tables is derived again here."""

import gzip
import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import evidence, evidence_page, recipe
from benchmarks.evidence_page import PAGE, finished, page

TEXT = PAGE.read_text(encoding="utf-8")
DONE = [task for task in evidence.TASKS if finished(task)]
AGES = {3600.0: "1 h", 86_400.0: "1 day", 31_536_000.0: "1 year", 315_360_000.0: "10 years"}
Networks = dict[tuple[str, int], dict[str, float]]


@cache
def networks(task: str) -> dict[str, Networks]:
    """By part of the training, method and seed: each network's mean on each kind of chip."""
    records = records_of(task)
    longest = max(record["problem"]["recipe"]["epochs"] for record in records)
    found: dict[str, Networks] = {"whole": {}, "half": {}}
    for record in records:
        own = {"without noise": record["clean"]}
        for family, kinds in zip(record["families"], record["measured"], strict=True):
            for kind, chips in zip(family["kinds"], kinds, strict=True):
                age = kind["level"] if family["unit"] == "s" else None
                label = kind["label"].rpartition(":")[2] if age is None else AGES[age]
                own[f"{family['name']} {label}"] = sum(chips) / len(chips)
        part = "whole" if record["problem"]["recipe"]["epochs"] == longest else "half"
        found[part][record["method"], record["seed"]] = own
    trained_once = {} if task.endswith("-recipe") else evidence.twins(task)
    for some in found.values():
        alone = {method for method, _ in some}
        for label, twin in trained_once.items():
            if label not in alone:
                some |= {(label, seed): own for (method, seed), own in some.items() if method == twin}
    return found


def of_method(some: Networks, method: str, kind: str) -> np.ndarray:
    return np.array([own[kind] for (name, _), own in sorted(some.items()) if name == method])


def rows(text: str) -> list[list[str]]:
    """The cells of the first table of a text."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
    return [lines[0], *lines[2:]]


@cache
def records_of(task: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress((evidence.RESULTS / f"{task}.json.gz").read_bytes()))
    return found


def first_record(task: str) -> dict[str, Any]:
    return records_of(task)[0]


def half_width(values: np.ndarray, task: str) -> float:
    """Of Student's interval, with no less deviation than rounding alone gives."""
    record = first_record(task)
    resolution = 1 / record["examples"] if record["problem"]["is_fraction"] else 0.0
    deviation = max(values.std(ddof=1), resolution / np.sqrt(12))
    return float(stats.t.ppf(0.975, len(values) - 1) * deviation / np.sqrt(len(values)))


def p_value(gains: np.ndarray, resolution: float) -> float:
    """Student's t-test of a mean of 0, with no less deviation than rounding alone gives."""
    deviation = max(gains.std(ddof=1), resolution / np.sqrt(12))
    if not deviation:
        return float(gains.mean() == 0)
    return float(2 * stats.t.sf(abs(gains.mean()) / deviation * np.sqrt(len(gains)), len(gains) - 1))


def test_the_page_is_made_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DONE
    assert page() == TEXT
    whole, _ = evidence_page.read(DONE[0]).values()
    assert evidence_page.results(DONE[0], whole, whole.families) in TEXT
    first, *others = whole.records
    other = evidence_page.Found([{**first, "clean": first["clean"] + 0.3}, *others])
    assert evidence_page.results(DONE[0], other, other.families) not in TEXT  # the check can fail


@pytest.mark.parametrize("task", DONE)
def test_the_picture_shows_gains_over_plain_training(task: str) -> None:
    """It is made from the records; its dots are where the means are, on the scale of its ticks."""
    text = (PAGE.parent / "evidence" / f"{task}.svg").read_text(encoding="utf-8")
    assert text == evidence_page.drawn(task)
    record, some = first_record(task), networks(task)["whole"]
    scale = (100 if record["problem"]["is_fraction"] else 1) * (1 if record["problem"]["higher_is_better"] else -1)
    panel = text.partition(">Gaussian, ")[2].partition(">other chips, ")[0]
    labels = re.findall(r'text-anchor="end">([^<]*)<', text)
    ticks = [
        (float(x), float(value))
        for x, value in re.findall(r'x="([\d.]+)" y="\d+" text-anchor="middle">([^<]*)<', panel)
    ]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    shown = [v0 + (float(x) - x0) * (v1 - v0) / (x1 - x0) for x in re.findall(r'<circle cx="([\d.]+)"', panel)]
    kinds = [kind for kind in next(iter(some.values())) if kind.startswith("gaussian ")]
    for label, gain in zip(labels, shown, strict=True):
        means = [of_method(some, name, kind).mean() for kind in kinds for name in (label, "plain")]
        expected = scale * (np.mean(means[::2]) - np.mean(means[1::2]))
        assert gain == pytest.approx(expected, abs=0.1 * abs(v1 - v0) / (x1 - x0))


def test_the_first_screen_of_the_readme() -> None:
    head, *lines = rows(evidence_page.README.read_text(encoding="utf-8").partition(evidence_page.MARKS[0])[2])
    assert [line[0] for line in lines] == list(evidence_page.FIRST)
    for line in lines:
        label = line[0] if line[0] == "plain" else f"{line[0]}-informed"
        for place, cell in zip(head[1:], line[1:], strict=True):
            task, _, kind = place.partition(", ")
            some = networks(task)["whole"]
            kinds = [
                one
                for one in next(iter(some.values()))
                if kind
                == ("without noise" if one == "without noise" else "Gaussian" if "gaussian " in one else "other chips")
            ]
            values = np.mean([of_method(some, label, one) for one in kinds], axis=0)
            half = half_width(values, task)
            digits, scale = (3, 1) if task == "tiny-shakespeare" else (1, 100)
            shown = [float(text) for text in cell.split(" ± ")]
            assert shown == pytest.approx([scale * values.mean(), scale * half], abs=0.5001 * 10**-digits)


@pytest.mark.parametrize("task", [task for task in evidence.TASKS if recipe.logged(task).exists()])
def test_the_log_of_recipes_shows_all_that_was_tried(task: str) -> None:
    found = evidence.lines(recipe.logged(task))
    shown = rows(TEXT[TEXT.index(f"| {task} | 0.5 x radius") :])
    assert [line[0] for line in shown[1:]] == list(recipe.VARIATIONS)
    digits = 3 if task == "tiny-shakespeare" else 1
    for variation, *cells, _ in shown[1:]:
        for cell, settings in zip(cells, recipe.candidates(task, variation), strict=True):
            own = [one for one in found if (one["variation"], one["settings"]) == (variation, settings)]
            assert len(own) == evidence.TASKS[task].seeds
            if any("diverged" in one for one in own):
                assert "nan" in cell
                continue
            expected = [np.mean([np.mean(one["chips"]) for one in own]), np.mean([one["clean"] for one in own])]
            scale = 1 if digits == 3 else 100
            values = [float(text) for text in cell.split(" / ")]
            assert values == pytest.approx([scale * value for value in expected], abs=0.5001 * 10**-digits)


@pytest.mark.parametrize("task", [task for task in evidence.TASKS if evidence_page.packed(f"{task}-recipe")])
def test_the_confirmed_recipes_are_what_their_records_say(task: str) -> None:
    some = networks(f"{task}-recipe")["whole"]
    kinds = list(next(iter(some.values())))
    groups = [kinds[:1], [k for k in kinds if k.startswith("gaussian")], [k for k in kinds[1:] if "gaussian" not in k]]
    digits, scale = (3, 1) if task == "tiny-shakespeare" else (1, 100)
    sign = -1 if task == "tiny-shakespeare" else 1

    def means(variation: str, group: list[str]) -> np.ndarray:
        return np.mean([of_method(some, recipe.plain(variation), kind) for kind in group], axis=0)

    _, *lines = rows(TEXT[TEXT.index(f"| {task}, confirmed |") :])
    assert [line[0] for line in lines] == list(recipe.finalists(task))
    gains = {line[0]: sign * (means(line[0], groups[1]) - means(recipe.AS_IT_IS, groups[1])) for line in lines[1:]}
    record = first_record(f"{task}-recipe")
    resolution = 1 / record["examples"] if record["problem"]["is_fraction"] else 0.0
    plain = {name: p_value(gain, resolution) for name, gain in gains.items()}
    p_values, last = {}, 0.0  # Holm's, by hand
    for number, name in enumerate(sorted(plain, key=lambda one: plain[one])):
        last = p_values[name] = min(1.0, max(last, (len(plain) - number) * plain[name]))
    for name, _, _, *cells in lines:
        expected = [means(name, group) for group in groups] + ([gains[name]] if name in gains else [])
        for cell, values in zip(cells, expected, strict=False):
            half = half_width(values, f"{task}-recipe")
            found = [float(text) for text in cell.split(" ± ")]
            assert found == pytest.approx([scale * values.mean(), scale * half], abs=0.5001 * 10**-digits)
        assert cells[4] == (f"{p_values[name]:.2g}" if name in gains else "")


def test_equal_winners_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are then those of both; a name with records of its own keeps them."""
    twins = evidence.twins(DONE[0])
    label, twin = next((label, twin) for label, twin in twins.items() if label != twin and label.startswith("samson"))
    records = json.loads(gzip.decompress((evidence.RESULTS / f"{DONE[0]}.json.gz").read_bytes()))
    once = [record for record in records if record["method"] != label]
    (tmp_path / f"{DONE[0]}.json.gz").write_bytes(gzip.compress(json.dumps(once).encode()))
    before = evidence_page.read(DONE[0])
    monkeypatch.setattr(evidence_page, "RESULTS", tmp_path)
    for epochs, found in evidence_page.read(DONE[0]).items():
        assert label in found.methods
        assert set(found.methods) == set(before[epochs].methods)
        for kind in found.kinds:
            assert (
                list(found.values(label, kind))
                == list(found.values(twin, kind))
                == list(before[epochs].values(twin, kind))
            )


@pytest.mark.parametrize("task", DONE)
@pytest.mark.parametrize("part", ["whole", "half"])
@pytest.mark.parametrize("each", [False, True])
def test_each_figure_of_the_tables(task: str, part: str, each: bool) -> None:
    record = first_record(task)
    scale, digits = (100, 1) if record["problem"]["is_fraction"] else (1, 3)
    some = networks(task)[part]
    every = list(next(iter(some.values())))
    if each:
        own = (PAGE.parent / "evidence" / f"{task}.md").read_text(encoding="utf-8")
        assert own == evidence_page.everything(task)
    else:
        own = TEXT.partition(f"\n## {task}\n")[2].partition("\n## ")[0]
    head, *lines = rows(own if part == "whole" else own.partition("# As many gradients")[2])
    if each:
        assert head[3:] == every
    assert {line[0] for line in lines} == {method for method, _ in some}
    for line in lines:
        for column, cell in zip(head[3:], line[3:], strict=True):
            kinds = [kind for kind in every if kind == column or kind.startswith(f"{column} ")]
            values = np.mean([of_method(some, line[0], kind) for kind in kinds], axis=0)
            assert len(values) == evidence.TASKS[task].confirming
            half = half_width(values, task)
            shown = [float(text) for text in cell.split(" ± ")]
            assert shown == pytest.approx([scale * values.mean(), scale * half], abs=0.5001 * 10**-digits)


def test_the_answer_to_the_first_hypothesis() -> None:
    gains, p_values = [], []
    for task in DONE:
        record, some = first_record(task), networks(task)["whole"]
        sign = 1 if record["problem"]["higher_is_better"] else -1
        resolution = 1 / record["examples"] if record["problem"]["is_fraction"] else 0.0
        kinds = [kind for kind in next(iter(some.values())) if kind == "without noise" or kind.startswith("gaussian ")]
        assert len(kinds) == 6
        for ours in ("samson-blind", "samson-p2-blind"):
            for theirs in ("sam-blind", "asam-blind"):
                for kind in kinds:
                    gain = sign * (of_method(some, ours, kind) - of_method(some, theirs, kind))
                    gains.append(gain.mean())
                    p_values.append(p_value(gain, resolution))
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.sort(p_values) * np.arange(len(p_values), 0, -1)))
    better = sum((adjusted < 0.05) & (np.array(gains) > 0))
    worse = sum((adjusted < 0.05) & (np.array(gains) < 0))
    assert (
        f"of {len(gains)} comparisons {sum(g > 0 for g in gains)} point its way, {better} are significant, {worse} are "
        "significant the other way" in TEXT.partition("1. SAMSON beats SAM and ASAM")[2].partition("\n2. ")[0]
    )


@pytest.mark.parametrize("task", DONE)
def test_confirming_seeds_took_no_part_in_the_search(task: str) -> None:
    searched = {line["seed"] for line in evidence.lines(evidence.searched(task))}
    confirming = {seed for part in networks(task).values() for _, seed in part}
    assert searched
    assert not searched & confirming
    assert first_record(task)["split"] == "test"


@pytest.mark.parametrize("task", DONE)
def test_winners_are_the_best_of_the_search(task: str) -> None:
    """By the criterion, among the candidates that were trained to the end."""
    own = TEXT.partition(f"\n## {task}\n")[2].partition("\n## ")[0]
    shown = {line[0]: line[1] for line in rows(own)[1:]}
    sign = 1 if first_record(task)["problem"]["higher_is_better"] else -1
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in evidence.lines(evidence.searched(task)):
        if line["round"] == evidence.TASKS[task].last_round:
            settings = ", ".join(f"{key} {value:g}" for key, value in line["settings"].items())
            for criterion in ("blind", "informed"):
                value = line.get("clean", -np.inf) if criterion == "blind" else np.mean(line.get("chips", -np.inf))
                scores[line["method"], criterion][settings].append(sign * value)
    for (method, criterion), by_settings in scores.items():
        label = f"{method}-{criterion}" if evidence.METHODS[method][1] else method
        means = {settings: np.mean(values) for settings, values in by_settings.items()}
        assert means[shown[label]] == pytest.approx(max(means.values()), abs=1e-12)
