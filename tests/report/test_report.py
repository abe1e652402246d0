"""Tables, figures and the page, from hand-made records."""

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from samson.records import Comparison, Interval, Problem, RunRecord, Search, SearchRecord, Settings, Tried
from samson.report import (
    Overview,
    View,
    accuracy_table,
    advice_in_short,
    against_baseline,
    chips_figure,
    estimate_text,
    gain_figure,
    gain_table,
    gain_text,
    headline,
    last_kind_within,
    notes,
    overview_headline,
    rank_figure,
    rank_table,
    render,
    robustness_figure,
    summary_csv,
    training_figure,
    view,
    views,
)
from tests.builders import ENVIRONMENT, PROBLEM, comparison, family, record, records, unpacked, with_plan
from tests.report.colours import contrast, rgb


def test_csv_has_the_promised_columns() -> None:
    table = list(csv.DictReader(io.StringIO(summary_csv(views(records())))))
    promised = (
        "problem family method kind mean low high trials seeds worst seeds_low seeds_high gain gain_low gain_high"
    )
    promised += " gain_seeds_low gain_seeds_high p_value p_value_seeds metric higher_is_better baseline"
    assert list(table[0]) == promised.split()
    assert len(table) == 6
    assert {row["baseline"] for row in table} == {"sgd"}
    last = table[2]
    assert (last["method"], last["kind"], last["trials"], last["seeds"]) == ("samson", "0.2", "3", "2")
    assert float(last["mean"]) == pytest.approx(0.8333333, abs=1e-6)
    assert float(last["low"]) < float(last["mean"]) < float(last["high"])
    assert (table[0]["low"], table[0]["high"]) == (table[0]["mean"], table[0]["mean"])
    both = views([*records(), *(in_bits(r) for r in records())])
    directions = {(row["metric"], row["higher_is_better"]) for row in csv.DictReader(io.StringIO(summary_csv(both)))}
    assert directions == {("accuracy", "True"), ("bits-per-token", "False")}


def test_csv_says_what_holds_over_seeds_and_what_is_gained() -> None:
    """Gains at .2 are .3, .3, .25 by chip and .267, .3 by seed; Student's t is 4.303 and 12.706."""
    by_name = {(row["method"], row["kind"]): row for row in csv.DictReader(io.StringIO(summary_csv(views(records()))))}
    row, found = by_name["samson", "0.2"], view(records()).table["samson"]["0.2"]
    assert float(row["gain"]) == pytest.approx(0.85 / 3)
    assert (float(row["seeds_low"]), float(row["seeds_high"])) == pytest.approx(
        (found.over_seeds.low, found.over_seeds.high)
    )
    assert float(row["gain_high"]) - float(row["gain_low"]) == pytest.approx(
        2 * 4.3026527 * np.std([0.3, 0.3, 0.25], ddof=1) / 3**0.5, rel=1e-6
    )
    half = 12.7062047 * (0.3 - 0.8 / 3) / 2  # seeds alone, since chips add nothing here
    assert float(row["gain_seeds_low"]) == pytest.approx(0.85 / 3 - half, rel=1e-6)
    assert float(row["gain_seeds_high"]) == pytest.approx(0.85 / 3 + half, rel=1e-6)
    assert float(row["p_value"]) == pytest.approx(found.p_value)
    t = 0.85 / 3 / ((0.3 - 0.8 / 3) / 2)  # the larger p of two, so that Holm leaves it
    assert float(row["p_value_seeds"]) == pytest.approx(2 / math.pi * math.atan(1 / t))
    baseline = by_name["sgd", "0.2"]
    assert {baseline[name] for name in baseline if "gain" in name or "p_value" in name} == {""}
    one = next(csv.DictReader(io.StringIO(summary_csv(views([r for r in records() if r.seed == 0])))))
    assert one["gain"] != ""
    assert one["seeds_low"] == one["seeds_high"] == one["gain_seeds_low"] == one["gain_seeds_high"] == ""
    assert (one["p_value_seeds"], by_name["samson", "clean"]["p_value_seeds"]) == ("", "")


def test_numbers_show_their_interval() -> None:
    found = view(records())
    assert estimate_text(Interval(0.9731, 0.9701, 0.9761), found) == "97.3 ±0.3"
    assert estimate_text(Interval(0.9731, 0.9731, 0.9731), found) == "97.3"
    assert gain_text(Interval(-0.021, -0.031, -0.011), found) == "−2.1 ±1.0"  # a minus, no hyphen
    assert gain_text(Interval(-0.0001, -0.0011, 0.0009), found) == "+0.0 ±0.1"  # no "-0.0"
    bits = view([in_bits(r) for r in records()])
    assert estimate_text(Interval(1.5, 1.25, 1.75), bits) == "1.500 ±0.250"
    small = view([in_bits(r, 1e-3) for r in records()])  # the smallest width is 2e-5
    assert estimate_text(Interval(0.00162, 0.00158, 0.00166), small) == "0.001620 ±0.000040"
    assert gain_text(Interval(0.00002, 0.00001, 0.00003), small) == "+0.000020 ±0.000010"
    [first, *_] = csv.DictReader(io.StringIO(summary_csv([small])))
    assert float(first["mean"]) == pytest.approx(small.rows[0].value.mean, rel=1e-8)


def test_numbers_have_the_digits_that_tell_them_apart() -> None:
    """Two digits of the smallest width, 20; of percent one at least, and one of gains that are all below .04 points."""
    large = view([in_bits(r, 1e6) for r in records()])
    assert estimate_text(Interval(1_031_234.4, 1_031_214.4, 1_031_254.4), large) == "1031234 ±20"
    assert advice_in_short([large], level=0.9).endswith("better by 166667 bits-per-token than sgd")

    def errors(run: RunRecord, scale: float) -> RunRecord:
        chips = tuple(tuple(tuple(1 - scale * (1 - x) for x in chips) for chips in kinds) for kinds in run.measured)
        return replace(run, examples=10**6, clean=1 - scale * (1 - run.clean), measured=chips)

    near = view([errors(r, 1e-3) for r in records()])
    assert estimate_text(near.table["samson"]["0.2"].value, near) == "99.98 ±0.01"
    assert gain_text(near.table["samson"]["0.2"].gain, near) == "+0.03 ±0.01"
    assert "better by 0.02 points" in advice_in_short([near], level=0.9)
    some = view([errors(r, 1e-3 if r.method == "sgd" else 1e-2) for r in records()])
    assert estimate_text(some.table["sgd"]["0.2"].value, some) == "100.0 ±0.0", "where others are points apart"


def test_a_lopsided_interval_shows_its_ends() -> None:
    """From a quarter on, ± would move an end by more than an eighth of the half-width."""
    found = view(records())
    assert estimate_text(Interval(0.956, 0.860, 0.973), found) == "95.6 [86.0, 97.3]"
    assert gain_text(Interval(0.108, -0.02, 0.15), found) == "+10.8 [−2.0, +15.0]"
    assert estimate_text(Interval(0.5, 0.46, 0.549), found) == "50.0 ±4.5"
    assert estimate_text(Interval(0.5, 0.46, 0.551), found) == "50.0 [46.0, 55.1]"
    rows = tuple(replace(r, over_seeds=Interval(0.956, 0.860, 0.973)) for r in found.rows)
    assert "seeds [86.0, 97.3]" in accuracy_table(replace(found, rows=rows))


@pytest.mark.parametrize(("show", "least"), [(estimate_text, 0.0), (gain_text, -1.0)])
def test_no_shown_end_is_beyond_what_a_fraction_can_be(show: Callable[[Interval, View], str], least: float) -> None:
    """Intervals near a bound, at which they are cut off."""
    found, shown = view(records()), 0
    for low, mean, high in combinations(np.linspace(0, 0.02, 21), 3):
        for one in (Interval(1 - mean, 1 - high, 1 - low), Interval(least + mean, least + low, least + high)):
            text = show(one, found).replace("−", "-")
            numbers = [float(number) for number in re.findall(r"[+-]?[\d.]+", text)]
            if "±" in text:
                shown += 1
                numbers = [numbers[0] - numbers[1], numbers[0] + numbers[1]]
            assert 100 * least <= min(numbers) <= max(numbers) <= 100
    assert shown > 100


def test_holding_needs_every_lower_level() -> None:
    found = view(records())
    lows = dict(zip(found.kinds, (0.9, 0.8, 0.9), strict=True))
    rows = tuple(replace(r, value=Interval(0.9, lows[r.kind], 1.0)) for r in found.rows)
    found = replace(found, rows=rows)
    assert last_kind_within(found, "sgd", 0.92) == "clean"  # level .2 would hold, but .1 does not
    assert last_kind_within(found, "sgd", 0.84) == "0.2"
    assert last_kind_within(found, "sgd", 0.99) is None


def test_figures_hold_the_numbers() -> None:
    found = view(records())
    lines = [t for t in robustness_figure(found)["data"] if "name" in t]
    assert [t["name"] for t in lines] == ["samson", "sgd"]
    assert lines[0]["y"] == pytest.approx([98.0, 96.0, 100 * 2.5 / 3])
    thin = [t for t in robustness_figure(found)["data"] if t["line"]["width"] == 0.8]
    assert len(thin) == 4  # one a method and seed
    [gain] = [t for t in gain_figure(found)["data"] if "name" in t]
    assert gain["y"] == pytest.approx([1.0, 5.0, 100 * (2.5 - 1.65) / 3])
    boxes = chips_figure(found)["data"]
    assert sum(len(box["y"]) for box in boxes) == 24  # every noisy trial
    assert [box["visible"] for box in boxes] == [True, True, False, False]
    other = family(name="other")
    two = [replace(r, families=(other, *r.families), measured=(((0.5,) * 3,) * 2, *r.measured)) for r in records()]
    for box in chips_figure(view(two, 1))["data"]:  # of the second family
        values = {
            f"seed {r.seed}, chip {chip}": 100 * value
            for r in records()
            if r.method == box["name"]
            for chip, value in enumerate(r.measured[0][found.kinds[1:].index(box["meta"])])
        }
        assert dict(zip(box["text"], box["y"], strict=True)) == pytest.approx(values)


def test_bands_end_where_a_fraction_ends() -> None:
    runs = [record(m, 0, [[1.0], [1.0, 0.99, 0.4], [0.0, 0.01, 0.7]]) for m in ("sgd", "samson")]
    found = view(runs)
    bands = [t for t in robustness_figure(found)["data"] if t.get("fill") == "toself"]
    assert {(max(t["y"]), min(t["y"])) for t in bands} == {(100.0, 0.0)}
    free = [t for t in robustness_figure(view([in_bits(r) for r in runs]))["data"] if t.get("fill") == "toself"]
    assert min(t["y"][3] for t in free) < 1  # without bounds the same interval goes on beyond 2 − 1


def trained(run: RunRecord, seconds: float, gradients: int | None, loss: tuple[float, ...] = (1.0,)) -> RunRecord:
    return replace(run, training=replace(run.training, seconds=seconds, gradients=gradients, loss=loss))


def diverged(run: RunRecord) -> RunRecord:
    """As where the training ended after two gradients."""
    training = replace(run.training, seconds=0.01, gradients=2, diverged_at=1, validation=None)
    return replace(run, training=training, clean=None, measured=())


def test_the_best_method_is_first_with_what_it_costs() -> None:
    costs = {"sgd": (2.0, 100), "samson": (5.0, 200)}
    table = accuracy_table(view([trained(r, *costs[r.method]) for r in records()]))
    assert re.findall(r"<th scope='row'>(.*?)</th>", table) == ["samson", "sgd"]
    assert re.findall(r"'>([^<]* s)<small>(.*?) × gradients", table) == [("5.0 s", "2"), ("2.0 s", "1")]
    assert "gradients" not in accuracy_table(view([trained(r, 2.0, None) for r in records()]))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.044, "0.0"), (1.05, "1.1"), (4.0, "4.0"), (9.96, "10"), (23.6, "24"), (3600.0, "3,600")]
)
def test_times_have_one_form(seconds: float, shown: str) -> None:
    """In the table of numbers, in that of settings, and where what was run is said."""
    runs = [trained(run, seconds, 100) for run in records()]
    page = render(comparison(runs))
    assert f"'>{shown} s<small>" in accuracy_table(view(runs))
    assert f"<td>{shown}</td><td>100</td></tr>" in page
    assert f"batch 64; {shown} s a run</td>" in page


def test_a_cell_of_numbers_has_the_mean_and_its_intervals_alone() -> None:
    """Samson at .2: the worst is .7; over the two seeds, chips are .8, .8 and .9. Without noise there is none."""
    found = view(records())
    table = accuracy_table(found)
    clean, *_, last = re.findall(r"title='(.*?)'.*?>(.*?)</td>", table.split("</tr>")[1])
    value, over_seeds = (
        estimate_text(getattr(found.table["samson"]["0.2"], of), found) for of in ("value", "over_seeds")
    )
    assert last[0] == f"worst chip 70.0, standard deviation between chips {100 * np.std([0.8, 0.8, 0.9], ddof=1):.1f}"
    assert last[1] == f"{value}<small>seeds {over_seeds.split(' ', 1)[1]}</small>"
    assert clean[0] == "worst network 97.0"


def test_a_training_that_diverged_costs_nothing_in_the_report() -> None:
    """It ended early: seed 0 of samson after 2 gradients, and clip with both seeds."""
    costs = {"sgd": (2.0, 100), "samson": (5.0, 200)}
    runs = [trained(r, *costs[r.method]) for r in records()]
    runs = [diverged(r) if (r.method, r.seed) == ("samson", 0) else r for r in runs]
    runs += [replace(diverged(r), method="clip") for r in runs if r.method == "sgd"]
    page = render(Comparison(tuple(runs)))
    assert ("5.0 s", "2") in re.findall(r"'>([^<]* s)<small>(.*?) × gradients", page)
    assert "2.0–5.0 s a run" in page
    settings = page.partition("<table class='settings'>")[2]
    rows = re.findall(r"<th scope='row'>(\w+)</th>.*?<td>([^<]*)</td><td>([^<]*)</td></tr>", settings)
    assert rows == [("sgd", "2.0", "100"), ("samson", "5.0", "200"), ("clip", "", "")]


def test_the_recipe_is_said_only_where_it_was_followed() -> None:
    """A trainer of one's own has epochs, batches and a schedule of its own, and may keep no losses."""
    recipe = {"epochs": 30.0, "batch_size": 128.0, "schedule": "cosine"}

    def by(trainer: str, loss: tuple[float, ...], recipe: Settings = recipe) -> str:
        runs = [trained(run, 2.0, 100, loss) for run in records()]
        return render(
            Comparison(tuple(replace(r, problem=replace(r.problem, trainer=trainer, recipe=recipe)) for r in runs))
        )

    own, samsons = by("mine:train", ()), by("samson", (1.0,))
    assert "<td>SGD; by mine:train; 2.0 s a run</td>" in own
    assert "<td>SGD, 30 epochs, batch 128; 2.0 s a run</td>" in samsons
    assert ["schedule cosine" in page for page in (own, samsons)] == [False, True]
    assert ["<h2>Training</h2>" in page for page in (own, samsons, by("mine:train", (1.0,)))] == [False, True, True]
    assert "training-0" not in own
    assert "<td>SGD, – epochs, batch –; 2.0 s a run</td>" in by("samson", (1.0,), {})


def searched(problem: Problem, tried: list[tuple[Settings, tuple[float | None, ...]]], chosen: Settings) -> str:
    """The table of one search, as the page has it."""
    choices = tuple(Tried(settings, values) for settings, values in tried)
    one = SearchRecord(problem, "clip", Search(len(tried)), {}, choices, chosen, ENVIRONMENT)
    page = render(replace(comparison(records()), searches=(one,)))
    return page.partition("How settings were chosen")[2].partition("</table>")[0]


def test_a_search_shows_each_choice_with_its_score() -> None:
    """Scores are means over seeds: .9 and .8 are 85 %."""
    alphas = [({"alpha": 1.5}, (0.7, 0.72)), ({"alpha": 2.5}, (0.9, 0.8)), ({"alpha": 2.0}, (0.9, None))]
    said = searched(PROBLEM, alphas, {"alpha": 2.5})
    assert "<td>alpha 2.5 (the largest tried)</td>" in said
    assert "<td>alpha 1.5: 71.0 %<br><b>alpha 2.5: 85.0 %</b><br>alpha 2: diverged</td>" in said
    mse = replace(PROBLEM, is_fraction=False)
    ways = [({"rho": rho, "p": p, "way": way}, (rho / 3,)) for rho, p, way in ((0.1, 2.0, "<a>"), (0.2, "inf", "b"))]
    said = searched(mse, [*ways, ({"rho": 0.3, "p": 2.0, "way": "c"}, (1.0,))], ways[1][0])
    assert "<td>rho 0.2, p ∞ (the largest tried), way b</td>" in said
    assert "<td>rho 0.1, p 2, way &lt;a&gt;: 0.03333<br><b>rho 0.2, p ∞, way b: 0.06667</b><br>" in said
    assert "the smallest tried" in searched(PROBLEM, alphas[:2], {"alpha": 1.5})
    assert "the largest" not in searched(PROBLEM, alphas[:1], {"alpha": 1.5}), "of one value there is no largest"


def test_a_mixture_of_versions_is_said_also_of_chips_that_were_added() -> None:
    later = replace(ENVIRONMENT, torch="2.14.0")
    runs = [replace(run, chips_added_on=(later,) * (run.seed == 1)) for run in records()]
    assert "Runs differ in torch: 2.13.0 and 2.14.0. Their numbers may differ by that too." in notes(comparison(runs))


def test_a_mixture_of_precisions_is_said() -> None:
    """Where the device chose it; an older record does not say."""

    def by(recipe: str, *precisions: str | None) -> str:
        runs = []
        for run, precision in zip(records(), precisions, strict=True):
            problem = replace(run.problem, recipe={**run.problem.recipe, "precision": recipe})
            runs.append(replace(run, problem=problem, training=replace(run.training, precision=precision)))
        return render(Comparison(tuple(runs)))

    words = "Runs differ in precision: bfloat16 and float32."
    assert words in by("auto", "float32", None, "bfloat16", "float32")
    assert words not in by("auto", "float32", None, "float32", "float32")


def test_training_curves_are_the_records_losses() -> None:
    runs = [trained(r, 2.0, 100, (1.0, 0.5 + r.seed / 10)) for r in records()]
    lines = [
        t for t in training_figure(view([*runs, replace(diverged(runs[0]), seed=2)]))["data"] if t["name"] == "sgd"
    ]
    assert [t["y"] for t in lines] == [[1.0, 0.55], [1.0, 0.5], [1.0, 0.6]]
    assert lines[0]["x"] == [1, 2]


@pytest.mark.parametrize(("epochs", "step"), [(4, 1), (30, None)])
def test_epochs_are_whole_numbers(epochs: int, step: int | None) -> None:
    """Of few, plotly's own ticks stand at halves."""
    found = view([trained(r, 2.0, 100, (1.0,) * epochs) for r in records()])
    assert training_figure(found)["layout"]["xaxis"].get("dtick") == step


def test_the_page_says_what_was_found_and_whether_all_runs_are_in_it() -> None:
    page = render(comparison(records()))
    for text in ("digits under gaussian noise", "83.3 ±", "+28.3 ±", "360", "samson compare"):
        assert text in page
    assert "runs are finished" not in page
    assert len(page.encode()) < 1_000_000
    assert "3 of 4 runs are finished" in render(comparison(records()[:3]))


def test_a_report_of_200_runs_is_small() -> None:
    """A sixth of it: 7 methods, 5 seeds and 4 families of 20 chips on one of 6 problems."""
    methods, generator = ("sgd", "noise", "clip", "sam", "asam", "samson", "samson+clip"), np.random.default_rng(0)
    plan = with_plan(methods={name: {} for name in methods}, seeds=5, trials=20)
    runs = []
    for name in methods:
        for seed in range(5):
            run = record(name, seed, [[0.9], *generator.uniform(0.5, 0.9, (2, 20)).tolist()], plan)
            run = trained(run, 60.0, 100, tuple(generator.uniform(0, 2, 60).tolist()))
            families = tuple(replace(family(), name=f"family {number}") for number in range(4))
            runs.append(replace(run, families=families, measured=run.measured * 4))
    small, page = (len(render(comparison(found)).encode()) for found in (records(), runs))
    assert small + 6 * (page - small) < 5_000_000


def test_a_gain_is_marked_where_it_is_sure() -> None:
    found = view([r for r in records() if r.method == "samson"] + records()[:2])
    apart, across, below = Interval(0.1, 0.05, 0.15), Interval(0.1, -0.1, 0.3), Interval(-0.1, -0.15, -0.05)

    def marks(over_seeds: Interval | None, p_value: float, p_value_seeds: float | None) -> list[str]:
        rows = tuple(
            replace(r, gain=apart, gain_over_seeds=over_seeds, p_value=p_value, p_value_seeds=p_value_seeds)
            for r in found.rows
            if r.method == "samson"
        )
        return re.findall(r"<td class='(\w*)'", gain_table(replace(found, rows=rows)))

    assert marks(apart, 0.04, 0.04) == ["up"] * 3
    assert marks(apart, 0.04, 0.06) == [""] * 3  # after Holm, whatever the interval of this one by itself
    assert marks(None, 0.04, None) == [""] * 3  # one seed says nothing of others
    assert marks(below, 0.04, 0.04) == ["down"] * 3
    one = replace(found.rows[-1], gain=apart, gain_over_seeds=across, p_value=0.04, p_value_seeds=0.3)
    table = gain_table(replace(found, rows=(one,)))
    said = "after Holm, p = 0.04 for these networks, 0.3 for others trained likewise"
    assert f"title='{said}'>+10.0 ±5.0<small>seeds ±20.0" in table
    alone = gain_table(replace(found, rows=(replace(one, gain_over_seeds=None, p_value_seeds=None),)))
    assert "title='after Holm, p = 0.04 for these networks'>" in alone


@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize("fraction", [False, True])
def test_the_best_value_has_the_darkest_cell(higher: bool, fraction: bool) -> None:
    found = view(
        [replace(r, problem=replace(r.problem, higher_is_better=higher, is_fraction=fraction)) for r in records()]
    )
    shades = [float(shade) for shade in re.findall(r"--shade:(-?[\d.]+)' title", accuracy_table(found))]
    means = [row.value.mean for row in found.rows]
    order = np.argsort(means if higher else np.negative(means))
    assert list(np.array(shades)[order]) == sorted(shades)
    assert len(set(shades)) > 3


def test_a_page_without_the_baseline_says_so() -> None:
    assert "no run of another method" in render(comparison(records()[2:]))
    with pytest.raises(ValueError, match="at least one run"):
        render(comparison([]))


def test_what_is_hidden_at_first_is_packed_and_complete() -> None:
    families = family(), family(name="other")
    runs = [replace(run, families=families, measured=run.measured * 2) for run in records()]
    page = render(comparison(runs))
    assert """data-family="other" hidden><script type='text/plain' data-packed>""" in page
    assert "training-1" not in page
    first, other = re.findall(
        r'<div class="view".*?(?=<div class="view"|<section>\n<h2>Over all)', unpacked(page), re.DOTALL
    )
    as_first = re.sub(r"(robustness|gain|chips|training|gains)-1", r"\1-0", other)
    assert as_first.replace("(other)", "(gaussian)").split(">", 1)[1] == first.split(">", 1)[1]


def test_gains_over_each_method_are_in_the_page() -> None:
    page = unpacked(render(comparison(records())))
    for number, name in enumerate(("sgd", "samson")):
        assert f"<option value='{number}'>{name}</option>" in page
        assert f"data-plot='gain-0-{number}'" in page
    assert page.index("+28.3 ±") < page.index("−28.3 ±")


def test_what_comes_from_records_is_escaped() -> None:
    name = "<script>alert(1)</script>"
    plan = with_plan(methods={"sgd": {"lr": 0.1}}, seeds=1, problem={"data": name})
    plan = replace(plan, families=(replace(family(), name=name),))
    page = render(comparison([record("sgd", 0, [[0.9], [0.9] * 3, [0.9, 0.8, 0.9]], plan)], plan))
    assert "<script>alert" not in page


def test_the_headline_says_how_far_each_method_holds() -> None:
    """The lower ends of samson's intervals are about 95 and 69, of sgd's 91 and 41; a third method loses 9 points."""
    runs = [*records(), *(record("clip", seed, [[0.89], [0.8] * 3, [0.7] * 3]) for seed in (0, 1))]
    reference = "5 points of the 97.0 % that sgd has without noise"
    said = f"Surely within {reference}: <b>samson</b> up to <b>noise 0.1</b>; sgd only without noise; clip nowhere."
    assert headline(view(runs)) == said
    both = view([*records(), *(replace(run, method="sam") for run in records()[2:])])
    assert "<b>samson</b> and <b>sam</b> up to <b>noise 0.1</b>; sgd only without noise." in headline(both)
    clean = [replace(run, clean=0.99 if run.method == "sgd" else 0.9) for run in records()]
    lossy = view([replace(run, measured=((*run.measured[0][1:], run.measured[0][1]),)) for run in clean])
    lossy = replace(lossy, rows=tuple(replace(r, value=Interval(0.9, 0.8, 1.0)) for r in lossy.rows))
    assert headline(lossy).startswith("No method stays surely within 5 points of the 90.0 % that sgd has")


@pytest.mark.parametrize(
    ("lower", "limit", "text"),
    [(False, 92.0, "5 points below sgd without noise"), (True, 1.03 * 1.05, "5 % above sgd without noise")],
)
def test_the_limit_of_the_headline_is_drawn(lower: bool, limit: float, text: str) -> None:
    """Sgd has 97 % without noise, and 1.03 bits in the other unit."""
    layout = robustness_figure(view([in_bits(run) if lower else run for run in records()]))["layout"]
    [line], [note] = layout["shapes"], layout["annotations"]
    assert line["y0"] == line["y1"] == note["y"] == pytest.approx(limit)
    assert (line["line"]["dash"], note["text"]) == ("dot", text)


def test_the_limit_of_a_metric_below_zero_is_a_share_of_its_size() -> None:
    runs = [
        replace(
            run,
            problem=replace(run.problem, is_fraction=False),
            clean=-run.clean,
            measured=tuple(tuple(tuple(-value for value in chips) for chips in kinds) for kinds in run.measured),
        )
        for run in records()
    ]
    [line] = robustness_figure(view(runs))["layout"]["shapes"]
    assert line["y0"] == pytest.approx(-0.97 - 0.05 * 0.97)


def test_the_axis_says_what_a_level_is_where_the_noise_does() -> None:
    def title(noise: str) -> str:
        kinds = tuple(replace(kind, noise=noise.format(kind.level)) for kind in family().kinds)
        runs = [replace(run, families=(replace(family(), kinds=kinds),)) for run in records()]
        return gain_figure(view(runs))["layout"]["xaxis"]["title"]["text"]

    assert title("Gaussian(sigma={}, per='layer')") == "Noise level (gaussian)<br>share of each layer's largest weight"
    for other in ("Gaussian(sigma={}, per='channel')", "Lognormal(sigma={})", "mine({})"):
        assert title(other) == "Noise level (gaussian)"


def test_each_view_of_several_says_what_to_take_on_it() -> None:
    """Under its heading; the only view of a report does not, whose headline says it."""
    again = [
        replace(run, families=(*run.families, family(name="other")), measured=run.measured * 2) for run in records()
    ]
    page = unpacked(render(comparison(again)))
    told = re.findall(r"<h2>How far each method holds</h2>\n<p>(.*?)</p>", page)
    assert len(told) == 2
    assert all(re.match("Take <b>|<b>.*is ahead", one) for one in told)
    [alone] = re.findall(r"<h2>How far each method holds</h2>\n<p>(.*?)</p>", render(comparison(records())))
    assert alone.startswith("Surely within")


def test_small_text_is_read_on_the_darkest_cell() -> None:
    """By WCAG at least 4.5 : 1, in the light and in the dark scheme; the tint is mixed of the heat and the paper."""
    style = re.search(r"<style>(.*?)</style>", render(comparison(records())), re.DOTALL).group(1)
    schemes = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in style.split("@media")[:2]]
    [most] = re.findall(r"var\(--shade\) \* (\d+)%", style)
    assert not re.search(r"[^{}]*\bsmall\b[^{}]*{[^}]*color:", style), "as the cell's own text"
    for scheme in schemes:
        ink, heat, paper = (rgb(scheme[name]) for name in ("ink", "heat", "paper"))
        cell = [int(most) / 100 * a + (1 - int(most) / 100) * b for a, b in zip(heat, paper, strict=True)]
        assert contrast(ink, cell) > 4.5


def test_times_stand_on_a_logarithmic_axis_in_words() -> None:
    times = (3600.0, 315_360_000.0)
    named = zip(family().kinds, times, ("1 h", "10 years"), strict=True)
    kinds = tuple(replace(kind, label=label, level=time, time_s=time) for kind, time, label in named)
    aged = replace(family(), unit="s", kinds=kinds)
    found = view([replace(run, families=(aged,)) for run in records()])
    for figure in (robustness_figure(found), gain_figure(found)):
        axis = figure["layout"]["xaxis"]
        clean, hour, years = axis["tickvals"]
        assert years - hour == pytest.approx(math.log10(times[1] / times[0]))
        assert hour - clean == pytest.approx(1)
        assert (axis["ticktext"], axis["title"]["text"]) == (["without<br>noise", "1 h", "10 years"], "Age (gaussian)")
    several = [replace(kind, label=f"{chip} at 1h") for kind, chip in zip(kinds, ("pcm", "cmo"), strict=True)]
    two = replace(aged, unit="", kinds=tuple(several))
    axis = robustness_figure(view([replace(run, families=(two,)) for run in records()]))["layout"]["xaxis"]
    assert axis["ticktext"] == ["without<br>noise", "pcm at 1h", "cmo at 1h"]  # side by side, with their names
    levels = robustness_figure(view(records()))["layout"]["xaxis"]
    assert (levels["tickvals"], levels["ticktext"]) == (
        [0.0, 0.1, 0.2],
        ["without<br>noise", "0.1", "0.2"],
    )  # in proportion


def in_bits(run: RunRecord, scale: float = 1.0) -> RunRecord:
    """The same run, judged by a metric that is better the lower it is: 2 − the accuracy, in another unit."""
    problem = replace(run.problem, name="text", metric="bits-per-token", higher_is_better=False, is_fraction=False)
    measured = tuple(tuple(tuple(scale * (2 - x) for x in chips) for chips in kinds) for kinds in run.measured)
    return replace(run, problem=problem, clean=scale * (2 - run.clean), measured=measured)


def test_a_metric_that_is_better_lower_turns_gains_and_the_worst_chip_round() -> None:
    up, down = view(records()), view([in_bits(r) for r in records()])
    for one, other in zip(up.rows, down.rows, strict=True):
        assert other.value.mean == pytest.approx(2 - one.value.mean)
        assert other.worst == pytest.approx(2 - one.worst)
        if one.gain is not None:
            assert other.gain.mean == pytest.approx(one.gain.mean)
    assert robustness_figure(down)["layout"]["yaxis"]["title"]["text"] == "Test bits-per-token (less is better)"
    said = "Surely within 5 % of the 1.030 that sgd has without noise: <b>samson</b> up to <b>noise 0.1</b>; sgd only"
    assert said in headline(down)


def test_several_problems_are_ranked() -> None:
    """Samson is first on both problems, for every seed; turned round on a third, which has no say of its own."""
    two = views([*records(), *(in_bits(r) for r in records())])
    assert [v.problem.name for v in two] == ["digits-small-resnet", "text"]
    [(first, rank), (second, other)] = Overview(two).order
    assert (first, second) == ("samson", "sgd")
    assert (rank.interval.mean, rank.interval.high, rank.wins, rank.blocks) == (1.0, 1.0, 2, 2)
    assert (other.interval.mean, other.wins) == (2.0, 0)
    page = render(comparison([*records(), *(in_bits(r) for r in records())]))
    assert "<option>text</option>" in page
    assert '<p class="kind">samson · accuracy and bits-per-token on noisy chips</p>' in page
    points, bits = (advice_in_short([one], level=0.9) for one in two)
    assert re.fullmatch(r"take <b>samson</b>, better by \d+\.\d points than sgd", points)
    assert re.fullmatch(r"take <b>samson</b>, better by 0\.\d{1,3} bits-per-token than sgd", bits)
    assert page.count('class="view"') == 2
    assert "critical difference" in page
    assert "first 2 of 2" in rank_table(Overview(two))
    shades = re.findall(r"--shade:(\d\.\d{3})", rank_table(Overview(two)))
    assert (set(shades[: len(shades) // 2]), set(shades[len(shades) // 2 :])) == ({"1.000"}, {"0.000"})  # best, worst
    won, tied, lost = against_baseline(two, "samson")
    assert won + tied + lost == 4  # two noisy kinds on each of two problems
    assert lost == 0


def of_seeds(**means: list[float]) -> list[RunRecord]:
    """By method, the mean over chips of each seed's network."""
    plan = with_plan(methods={name: {} for name in means}, seeds=3)
    return [
        record(method, seed, [[0.99], [mean + 0.01, mean, mean - 0.01], [mean + 0.01, mean, mean - 0.01]], plan)
        for method, of_method in means.items()
        for seed, mean in enumerate(of_method)
    ]


def test_too_few_problems_tell_nothing_of_others() -> None:
    """Two methods differ by one rank at most, and must by more than where two of nine problems go the other way."""
    runs = of_seeds(sgd=[0.60, 0.62, 0.64], samson=[0.80, 0.82, 0.84])
    for problems, tells, critical in ((2, False, 1.5), (9, True, 1 - 3 / 9)):
        several = [of_problem(run, f"problem {number}") for number in range(problems) for run in runs]
        found = Overview(views(several))
        figure, page = rank_figure(found), render(comparison(several), found)
        assert figure["layout"]["xaxis"]["range"] == [1, 2]
        bands = [shape["x1"] for shape in figure["layout"]["shapes"]]
        assert bands == ([pytest.approx(1 + critical, abs=1e-3)] if tells else [])
        assert (f"critical difference, {critical:.2f}, for 9 problems" in page) == tells
        nothing = f"{problems} problems can tell nothing about others: ranks would have to differ by {critical:.2f} "
        assert (nothing in page) == (not tells)
        others = "on other problems, too, it is better than all others." if tells else "can't tell whether it is better"
        assert others in page
        assert (
            "problem 0: take <b>samson</b>, better by 20.0 points than sgd.<br/>\nproblem 1: take <b>samson</b>" in page
        )


def test_methods_of_the_same_rank_share_it() -> None:
    """By rank alone: samson is worse than both, or all have the same mean."""

    def said(**means: list[float]) -> str:
        runs = of_seeds(**means)
        return overview_headline(Overview(views([*runs, *(of_problem(run, "other") for run in runs)])))

    assert "<b>sgd</b> and <b>clip</b> share the best mean rank, 1.50, over 2 pairs" in said(
        sgd=[0.8, 0.8], clip=[0.8, 0.8], samson=[0.7, 0.7]
    )
    all_equal = said(sgd=[0.8, 0.8], clip=[0.8, 0.8])
    assert "No method has a better mean rank than 1.50, over 2 pairs" in all_equal
    assert all_equal.endswith("these 2 problems can't tell whether one is better on others.")


def test_methods_that_a_problem_lacks_are_named_and_not_ranked() -> None:
    """Clip, the best of the first problem, is not in the second, where sam diverged; alone, plain has no rank."""
    means = {"sgd": [0.60, 0.62], "samson": [0.70, 0.72], "clip": [0.80, 0.83], "sam": [0.5, 0.6]}
    first = of_seeds(**means)
    others = [of_problem(run, "other") for run in first if run.method != "clip"]
    others = [diverged(run) if run.method == "sam" else run for run in others]
    page = render(comparison([*first, *others]))
    said = "Not ranked, since not every problem has results of them: clip and sam.</p>"
    lead, section = page.partition("Over all problems")[::2]
    assert "these 2 problems can't tell whether it is better on others. " + said in lead
    assert "which is more than they can. " + said in section
    alone = render(comparison([*first, *(run for run in others if run.method == "sgd")]))
    [lead] = re.findall(r'<p class="lead">(.*?)</p>', alone, re.DOTALL)
    assert re.fullmatch("digits-small-resnet: take <b>clip</b>, better by .*<br/>\nother: <b>sgd</b> alone.", lead)
    assert "Over all problems" not in alone


def of_problem(run: RunRecord, name: str) -> RunRecord:
    return replace(run, problem=replace(run.problem, name=name))


def test_networks_on_ten_families_of_chips_are_not_ten_times_as_many() -> None:
    runs = of_seeds(sgd=[0.60, 0.64, 0.62], samson=[0.61, 0.62, 0.64])
    families = tuple(family(name=f"noise {number}") for number in range(10))
    ranks = Overview(views([replace(run, families=families, measured=run.measured * 10) for run in runs])).ranks
    for method, rank in ranks["noise 0"].items():
        assert 0 < rank.interval.half_width == pytest.approx(ranks["all"][method].interval.half_width)
        assert ranks["clean"][method].blocks == 1  # without noise there is no family
    several = [of_problem(run, f"problem {number}") for number in range(10) for run in runs]
    apart = Overview(views(several)).ranks["all"]["sgd"].interval  # each has networks of its own
    assert apart.half_width < 0.9 * ranks["all"]["sgd"].interval.half_width


def test_comparisons_with_another_baseline_do_not_count_as_those_with_the_first() -> None:
    """Plain training diverged in the second problem, where clip is the baseline instead."""
    runs = of_seeds(sgd=[0.60, 0.62, 0.64], clip=[0.70, 0.72, 0.74], samson=[0.80, 0.82, 0.84])
    others = [of_problem(diverged(run) if run.method == "sgd" else run, "other") for run in runs]
    found = views([*runs, *others])
    assert [view.baseline for view in found] == ["sgd", "clip"]
    assert against_baseline(found, "samson") == (2, 0, 0)  # the two kinds of the first problem
    assert against_baseline(found, "clip") == (2, 0, 0)
    assert re.findall(r"<td style='--shade:0'>(.*?)</td>", rank_table(Overview(found))) == ["2 / 0 / 0"] * 2


def test_wins_allow_for_the_comparisons_of_all_problems() -> None:
    """Gains of .10, .13 and .10, p = .008: sure of two kinds of chips, and not of twenty."""
    runs = of_seeds(sgd=[0.60, 0.62, 0.64], samson=[0.70, 0.75, 0.74])
    assert against_baseline(views(runs), "samson") == (2, 0, 0)
    several = [of_problem(run, f"problem {number}") for number in range(10) for run in runs]
    assert against_baseline(views(several), "samson") == (0, 20, 0)


def test_one_training_seed_ranks_nothing_surely() -> None:
    runs = of_seeds(sgd=[0.60, 0.62], samson=[0.80, 0.82])
    several = [*runs, *(of_problem(run, "other") for run in runs)]
    page = render(comparison(several))
    assert "1.00, over 2 pairs of a problem and a family of chips; these 2" in page
    assert "mean rank, a line its 95 % interval over training seeds. 2 problems" in " ".join(page.split())
    assert "Under a rank, its interval over training seeds, and how often the method is first." in page
    for alone in (
        [run for run in several if run.seed == 0],
        [run for run in several if run.method == "sgd" or run.seed],
    ):
        found = Overview(views(alone))
        page = render(comparison(alone), found)
        assert (
            "digits-small-resnet: <b>samson</b> is ahead of sgd by 20.0 points, on one training seed.<br/>\n"
            "other: <b>samson</b> is ahead of sgd by 20.0 points, on one training seed.<br/>\n"
            "<b>samson</b> has the best mean rank, 1.00, over 2 pairs of a problem and a family of chips. "
            "One training seed can't tell whether that is chance."
        ) in page
        assert "1.00<small>first 2 of 2</small>" in rank_table(found)
        assert "error_x" not in rank_figure(found)["data"][0]
        assert "mean rank. 2 problems" in " ".join(page.split())
        assert "Under a rank is how often the method is first." in page
        assert against_baseline(found.views, "samson") == (0, 4, 0)  # surely on these networks, not on others
