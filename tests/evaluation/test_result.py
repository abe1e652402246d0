"""What a result says: every score, directions, widths, and nothing of model or data."""

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from samson.evaluation import (
    METRICS,
    Evaluation,
    ExampleMetric,
    Executor,
    Scores,
    Task,
    compare,
    evaluate,
    noise_budget,
    sensitivity,
)
from samson.noise import PCM, Compose, Gaussian, Mapping, Periphery, Quantize, Variation, WeightNoise, preset
from samson.records import BudgetRecord, EvaluationRecord, SensitivityRecord, read_json
from samson.report import budget_page, evaluation_page, sensitivity_page
from samson.statistics import About, crossed_interval, mean_interval

DATA = torch.zeros(4, 6), torch.arange(4) % 3


class Given(Executor):
    """Scores from elsewhere, such as other ranks, each of which looks at its own data alone."""

    def __init__(self, rows: list[Scores]) -> None:
        self.rows = rows

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[dict[int, Scores]]:
        yield {number: self.rows[number] for number in numbers}


@pytest.mark.parametrize(
    ("rows", "kind", "examples"),
    [
        (list(np.random.default_rng(0).random((3, 13)) > 0.5), np.bool_, 13),
        ([np.array([0.5, 1.0])] * 2, np.float64, 2),
        ([0.5, 1.0], None, None),  # one value for the data set
    ],
)
def test_results_hold_every_score(rows: list[Scores], kind: Any, examples: int | None) -> None:
    found = evaluate(nn.Linear(6, 3), DATA, Gaussian(0.1), trials=len(rows), executor=Given(rows))
    assert found.examples == examples
    assert found.trials == pytest.approx([np.mean(row) for row in rows])
    assert (found.scores is None) == (kind is None)
    if found.scores is not None:
        assert found.scores.dtype == kind
        assert found.scores.tolist() == [row.tolist() for row in rows]


def test_scores_are_of_the_same_examples_for_every_chip() -> None:
    with pytest.raises(ValueError, match="same examples in every pass, got 3 and 4 of them"):
        evaluate(nn.Linear(6, 3), DATA, Gaussian(0.1), trials=2, executor=Given([np.ones(4), np.ones(3)]))


def test_yield_worst_and_quantiles_follow_the_direction() -> None:
    values = (0.3, 0.1, 0.4, 0.2)
    right, loss = Evaluation(values), Evaluation(values, METRICS["cross-entropy"])
    assert (right.worst, loss.worst) == (0.1, 0.4)
    assert [right.yield_at(v).mean for v in (0.0, 0.2, 0.41)] == [1.0, 0.75, 0.0]
    assert [loss.yield_at(v).mean for v in (0.0, 0.2, 0.4)] == [0.0, 0.5, 1.0]
    assert [right.yield_at(-0.1).mean, loss.yield_at(95).mean] == [1.0, 1.0]  # a drop may be larger than what is left
    for value, words in (
        (95.0, "1, as accuracy is, got 95.0. A share of 95 % is 0.95."),
        (float("nan"), "1, as accur"),
    ):
        with pytest.raises(ValueError, match=f"^`value` must be at most {words}"):
            right.yield_at(value)
    with pytest.raises(ValueError, match="`value` must be a number, got 'a'"):
        right.yield_at("a")
    for value in (0.9, 0.1):  # metrics that compute in float32 give it or next to it
        assert [
            Evaluation((float(np.float32(value)),) * 2, m).yield_at(value).mean for m in (right.metric, loss.metric)
        ] == [*(1.0, 1.0)]
    exact = stats.binomtest(3, 4).proportion_ci(0.95)
    assert (right.yield_at(0.2).low, right.yield_at(0.2).high) == pytest.approx((exact.low, exact.high))
    assert right.quantile([0.0, 0.5, 1.0]) == pytest.approx([0.1, 0.25, 0.4])
    for wrong in (5, [0.5, -0.1], "a"):
        with pytest.raises(ValueError, match="`probability` must be from 0 to 1, got"):
            right.quantile(wrong)
    assert right.std == pytest.approx(np.std(values, ddof=1))


def _constant(value: float, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.full((len(targets),), value)


def test_chips_that_are_equal_have_an_interval_with_a_width() -> None:
    model, data = nn.Linear(6, 3), (torch.randn(50, 6), torch.randint(3, (50,)))
    for about, value in product(("test_set", "population"), (0.0, 0.25)):
        constant = ExampleMetric("constant", partial(_constant, value), higher_is_better=True)
        found = evaluate(model, data, Gaussian(0.1), trials=3, metric=constant, about=about)
        assert (found.interval.half_width > 0) == (value > 0)  # where all are 0 there is no step between values
        if not value:
            first, second, *_ = str(found).splitlines()
            assert first.startswith("constant 0 [0, 0] (95%")
            assert second == "0 without noise; chips are worse by 0 [0, 0]"
    right = np.ones((5, 100), dtype=bool)
    about_examples = Evaluation((1.0,) * 5, about="population", scores=right).interval
    assert (about_examples.low, about_examples.high) == pytest.approx((0.025 ** (1 / 100), 1.0))
    half = stats.t.ppf(0.975, 4) * 0.01 / np.sqrt(12) / np.sqrt(5)  # a value known to the nearest answer
    assert Evaluation((1.0,) * 5, scores=right).interval.low == pytest.approx(1 - half)
    assert Evaluation((1.0,) * 5, scores=right).interval.high == 1.0  # the metric's bound
    small = ExampleMetric("small", _constant, higher_is_better=True, bounds=(-2.0, 1.0))
    assert Evaluation((0.1, 0.1), small).resolution == 2 * np.finfo(np.float32).eps  # of the largest that it may be


@pytest.mark.parametrize(
    ("noise", "periphery", "alike"),
    [
        (Quantize(3), None, True),
        (Quantize(3), Periphery(dac_steps=254), True),
        (Quantize(3), Periphery(output_noise=0.01), False),
        (Gaussian(0.1), None, False),
    ],
)
def test_of_chips_that_are_all_the_same_the_yield_is_known(
    noise: WeightNoise, periphery: Periphery | None, alike: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    data = torch.randn(50, 6), torch.randint(3, (50,))
    found = evaluate(model, data, noise, trials=2, periphery=periphery)
    share = found.yield_at(min(found.trials))
    assert share.mean == share.high == 1
    assert share.low == pytest.approx(1.0 if alike else 0.025 ** (1 / 2))
    worse = found.yield_at(1.0)
    assert (worse.mean, worse.high > 0) == (0, not alike)
    layers = sensitivity(model, data, noise, trials=2, periphery=periphery)
    for text in (str(found), str(layers)):
        assert ("all the same" in next(line for line in text.splitlines() if line.startswith("Chips: "))) == alike


def test_results_print_as_a_sentence() -> None:
    table = np.array([[True, False], [True, True]])
    text = str(Evaluation((0.5, 1.0), scores=table))
    assert text.startswith("accuracy 0.7500 [0.0000, 1.0000] (95%, 2 chips, about the test set), worst 0.5")
    assert "without noise" not in text  # nothing is known of it
    text = str(Evaluation((0.5, 1.0), scores=table, clean=1.0))
    assert text.splitlines()[1] == "1.0000 without noise; chips are worse by 0.2500 [0.0000, 1.0000]"


def test_small_values_print_with_their_digits() -> None:
    """Four decimals would be zeros."""
    losses, accuracies = (1e-8, 2e-8), (0.5, 1.0)
    text = str(Evaluation(losses, METRICS["mse"], clean=5e-9))
    half = stats.t.ppf(0.975, 1) * 0.5e-8
    assert text == (
        f"mse 1.5e-08 [{1.5e-8 - half:.4g}, {1.5e-8 + half:.4g}] (95%, 2 chips, about the test set), worst 2e-08\n"
        f"5e-09 without noise; chips are worse by 1e-08 [{1e-8 - half:.4g}, {1e-8 + half:.4g}]"
    )
    small = Evaluation((0.002, 0.004), scores=np.ones((2, 500), dtype=bool), clean=0.9)
    assert "worst 0.0020\n0.9000 without noise; chips are worse by 0.8970 [" in str(small)  # all alike, by the largest
    for confidence, shown in ((0.995, "(99.5%, 2 chips"), (0.999, "(99.9%, 2 chips"), (0.57, "(57%, 2 chips")):
        assert shown in str(Evaluation(accuracies, confidence=confidence))


def test_the_drop_of_a_population_is_possible() -> None:
    """Three examples leave open more than there is, 2/3 ± 1.43: no drop is beyond 1. It may be a gain on others."""
    clean, wrong = np.array([True, True, False]), np.zeros((2, 3), dtype=bool)
    found = Evaluation((0.0, 0.0), about="population", scores=wrong, clean=2 / 3, clean_scores=clean)
    half = stats.t.ppf(0.975, 2) / 3
    assert (found.drop.mean, found.drop.low, found.drop.high) == pytest.approx((2 / 3, 2 / 3 - half, 1.0), abs=0.01)


def test_results_say_on_which_chips_and_what_they_were_without_noise() -> None:
    model, data = nn.Linear(8, 3), (torch.randn(60, 8), torch.randint(3, (60,)))
    old = evaluate(model, data, preset("standard-hwa"), trials=2, time_s=86_400.0, metric="perplexity")
    said = str(old).splitlines()
    around = "dac_steps=254, adc_steps=254, adc_bound=10.0, output_noise=0.04, weight_noise=0.0175, ir_drop=1.0"
    assert said[2] == (
        f"Chips: PCM(mapping=Mapping(per='channel')) at 1 day, behind Periphery({around}, tile_inputs=512)"
    )
    new = evaluate(model, data, PCM(time_s=60.0), trials=2, time_s=0.0)
    assert (new.kind.time_s, str(new).splitlines()[2]) == (0.0, "Chips: PCM at 0 s")  # a time as any other
    tiles = Mapping(on_off_ratio=50.0, per="tile", tile_inputs=256, levels=32)
    chip = Compose(PCM(mapping=tiles, g_max_us=30.0), Variation(gain=0.05))
    own = evaluate(model, data, chip, trials=2, periphery=Periphery(dac_steps=62, input_ranges={"": 3.0}))
    [line] = [line for line in str(own).splitlines() if line.startswith("Chips: ")]
    mapping = "Mapping(on_off_ratio=50.0, per='tile', tile_inputs=256, levels=32), "
    assert line == (
        f"Chips: Compose({f'PCM(mapping={mapping}'[:79]}…, Variation(gain=0.05)), "
        "behind Periphery(dac_steps=62, input_ranges={…})"
    )
    worse = evaluate(model, data, Gaussian(5.0), trials=2, metric="perplexity")
    assert worse.mean > worse.clean  # a rise, which is no drop
    assert f"chips are worse by {worse.mean - worse.clean:.4f} [" in str(worse)
    other = nn.Linear(8, 3)
    head, columns, first, _, chips, _ = str(compare({"a": model, "b": other}, data, PCM(), trials=2)).splitlines()
    assert head == "accuracy of 2 methods, about the test set"
    assert "without noise" in columns
    assert f"{evaluate(model, data, PCM(), trials=2).clean:.4f}" in first.split()
    assert chips == "Chips: PCM"


@pytest.mark.parametrize(
    ("metric", "about"), [*product(["accuracy", "cross-entropy"], get_args(About)), ("perplexity", "test_set")]
)
def test_the_drop_is_what_noise_costs(metric: str, about: About) -> None:
    model, (x, y) = nn.Linear(8, 3), (torch.randn(400, 8), torch.randint(3, (400,)))
    with torch.no_grad():
        y[:350] = model(x[:350]).argmax(dim=1)  # noise costs something, by either direction of the metric
        model.weight *= 5
    found = evaluate(model, (x, y), Gaussian(0.3), metric=metric, about=about, trials=8)
    by_hand = {
        "accuracy": lambda: (model(x).argmax(dim=1) == y).double().mean(),
        "cross-entropy": lambda: nn.functional.cross_entropy(model(x), y),
        "perplexity": lambda: nn.functional.cross_entropy(model(x).double(), y).exp(),
    }[metric]
    with torch.no_grad():
        assert found.clean == pytest.approx(float(by_hand()), rel=1e-5)
    assert found.drop is not None
    sign = 1 if metric == "accuracy" else -1
    assert found.drop.mean == pytest.approx(sign * (found.clean - found.mean))
    assert found.drop.mean > 0
    assert found.drop.low < found.drop.mean < found.drop.high


def test_the_drop_of_a_population_is_taken_example_by_example() -> None:
    model, (x, y) = nn.Linear(8, 3), (torch.randn(400, 8), torch.randint(3, (400,)))  # half of the answers are wrong
    fixed, other = (evaluate(model, (x, y), Gaussian(0.02), about=about, trials=8) for about in get_args(About))
    assert fixed.drop is not None
    assert other.drop is not None
    assert fixed.drop.half_width == pytest.approx(fixed.interval.half_width)
    assert fixed.drop.half_width < other.drop.half_width < other.interval.half_width / 2
    drops = (other.clean_scores * 1.0 - other.scores).mean(
        axis=0
    )  # other examples alone: what any number of chips leaves
    assert other.drop.half_width > 0.9 * mean_interval(drops.tolist()).half_width
    looked = replace(other, look_confidence=0.99)  # as after several looks
    by_hand = crossed_interval(other.clean_scores * 1.0 - other.scores, 0.99, resolution=1 / 400)
    assert looked.drop == by_hand.within(-1.0, 1.0)


ASKED: dict[str, Callable[..., Any]] = {
    "evaluate": lambda model, data: evaluate(model, data, Gaussian(0.2), trials=4, norm_data=data),
    "compare": lambda model, data: compare({"a": copy.deepcopy(model), "b": model}, data, Gaussian(0.2), trials=2),
    "noise_budget": lambda model, data: noise_budget(
        model, data, Gaussian, 0.1, 0.2, trials=2, levels=2, refinements=0
    ),
    "sensitivity": lambda model, data: sensitivity(model, data, Gaussian(0.2), trials=2, max_drop=0.5),
}


@pytest.mark.parametrize("question", ASKED)
def test_a_result_holds_no_model_and_no_data(question: str) -> None:
    model = nn.Sequential(nn.Linear(500, 100), nn.BatchNorm1d(100), nn.Linear(100, 3))
    data = torch.randn(80, 500), torch.randint(3, (80,))
    found = ASKED[question](model, data)
    sent = pickle.dumps(found)
    assert len(sent) < 6_000
    assert min(len(pickle.dumps(part)) for part in (model, data)) > 100_000
    assert str(pickle.loads(sent)) == str(found) or question == "compare"


PAGES: dict[str, tuple[Callable[..., Any], type, Callable[[Any], str]]] = {
    "evaluate": (partial(evaluate, noise=Gaussian(0.3), trials=3), EvaluationRecord, evaluation_page),
    "noise_budget": (
        partial(noise_budget, family=Gaussian, low=0.01, high=1.0, trials=3, levels=3, refinements=1),
        BudgetRecord,
        budget_page,
    ),
    "sensitivity": (
        partial(sensitivity, noise=Gaussian(0.3), trials=3, max_drop=0.5),
        SensitivityRecord,
        sensitivity_page,
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_result_has_a_record_a_page_and_a_plot(name: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    ask, kind, page_of = PAGES[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    data = torch.randn(50, 6), torch.randint(3, (50,))
    found = ask(model, data, seed=4, norm_data=[data[0]], select=["default"])
    found.save(tmp_path / "result.json")
    record = read_json(tmp_path / "result.json", kind)
    assert record == found.record()
    assert record.table() == found.table()
    subject = record.subject
    assert (subject.model, subject.data, subject.examples) == ("Sequential", "tensors of 50 x 6, 50", 50)
    assert (subject.metric, subject.chip_seed, subject.select, subject.norms_on) == (
        "accuracy",
        4,
        ("default",),
        "list",
    )
    assert record.clean == found.clean
    if name == "evaluate":
        assert [(row.trials, row.interval) for row in record.measured] == [(found.trials, found.interval)]
    elif name == "noise_budget":
        measured = {row.kind.level: (row.trials, row.kind.noise) for row in record.measured}
        wanted = {level: (one.trials, repr(Gaussian(level))) for level, one in found.evaluations.items()}
        assert measured == wanted
    else:
        assert record.rows == found.rows
        assert record.suggestion.digital == found.suggestion.digital
    found.page(tmp_path / "new" / "result.html")
    assert (tmp_path / "new" / "result.html").read_text("utf-8") == page_of(record)
    assert any(len(trace.x) for trace in found.plot().data)


def test_a_record_says_what_its_interval_speaks_of_and_that_only_a_share_is_in_percent() -> None:
    grade = ExampleMetric("grade", lambda y, t: 2 * y[:, 0].sigmoid(), higher_is_better=True, bounds=(0.0, 2.0))
    data = torch.randn(20, 6), torch.arange(20) % 3
    for metric, about, is_fraction in ((grade, "population", False), ("accuracy", "test_set", True)):
        found = evaluate(nn.Linear(6, 3), data, Gaussian(0.1), trials=2, metric=metric, about=about).record().subject
        assert (found.about, found.is_fraction) == (about, is_fraction)


def test_a_part_of_a_result_has_no_record() -> None:
    model, data = nn.Linear(6, 3), (torch.randn(50, 6), torch.randint(3, (50,)))
    budget = noise_budget(model, data, Gaussian, 0.01, 0.5, trials=3, levels=2, refinements=0)
    with pytest.raises(ValueError, match="`record` must be asked of what `evaluate` gives"):
        budget.evaluations[0.01].record()
