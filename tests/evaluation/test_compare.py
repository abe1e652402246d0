"""Methods on the same chips."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samson.evaluation import Compared, Layout, Scores, Serial, Task, compare, evaluate
from samson.experiments import environment
from samson.noise import PCM, Gaussian, Periphery, calibrate
from samson.records import PairedRecord, RecordError, read_json
from samson.report import paired_page
from samson.statistics import family, mean_interval
from tests.conftest import make_batch, make_model

DATA = make_batch(size=64)
NOISE = Gaussian(0.3)


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 3)).double()


def test_models_are_paired_on_the_same_chips() -> None:
    model = make_model()
    paired = compare({"a": model, "b": make_model(seed=4), "c": copy.deepcopy(model)}, DATA, NOISE, trials=10)
    same = paired.difference("c", "a")
    assert same.mean == 0  # on other chips it would not be
    assert 0 < same.high < 1 / 64  # less than one answer, but no width of 0
    a, b = (evaluate(make_model(seed=seed), DATA, NOISE, trials=10).trials for seed in (0, 4))
    expected = mean_interval(np.subtract(b, a).tolist(), resolution=1 / 64)
    gap = paired.difference("b", "a")
    assert (gap.mean, gap.low, gap.high) == pytest.approx((expected.mean, expected.low, expected.high))


def rescaled(model: nn.Module, factor: float) -> nn.Module:
    """The same function, with other values between its two layers."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in (other[0].weight, other[0].bias):
            parameter.mul_(factor)
        other[2].weight.div_(factor)
    return other


def test_each_network_may_have_its_own_input_ranges() -> None:
    """Two networks that are one function differ on chips only by ranges that were found for one of them."""
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    models, x = {"one": one, "other": rescaled(one, 8.0)}, torch.randn(200, 6).double()
    data = x, one(x).argmax(1)
    around = {name: Periphery(dac_steps=30, input_ranges=calibrate(model, [x])) for name, model in models.items()}
    found = compare(models, data, Gaussian(0.02), trials=4, peripheries=around)
    by_hand = {
        name: evaluate(model, data, Gaussian(0.02), trials=4, periphery=around[name]) for name, model in models.items()
    }
    for name, evaluations in found.models.items():
        assert evaluations[0].trials == by_hand[name].trials
        assert evaluations[0].kind == by_hand[name].kind
    assert found.difference("other", "one").mean == 0
    assert found.kind.periphery == repr(Periphery(dac_steps=30))  # what they have in common
    with pytest.warns(UserWarning, match="input ranges and ADC bounds of one.*peripheries"):
        shared = compare(models, data, Gaussian(0.02), trials=4, periphery=around["one"])
    gap = shared.difference("other", "one")
    assert gap.high < 0  # the false gain that ranges of another network make
    lists = {name: [replace(own, output_noise=0)] for name, own in around.items()}  # no other number than 0.0
    again = compare(models, data, Gaussian(0.02), trials=4, peripheries=lists)
    assert [own.trials for [own] in again.models.values()] == [own.trials for [own] in found.models.values()]


P = Periphery()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"peripheries": {"a": P}}, r"`peripheries` must name the methods a, b, got \['a'\]"),
        ({"peripheries": {"a": P, "b": [P, P]}}, "`peripheries` must be a Periphery for each of the 1 models of 'b'"),
        (
            {"peripheries": {"a": P, "b": 3.0}},
            r"`peripheries` must be a Periphery for each of the 1 models of 'b', got \[3.0",
        ),
        (
            {"peripheries": {"a": P, "b": Periphery(dac_steps=6)}},
            "`peripheries` must differ in `input_ranges` and `adc_bounds` alone",
        ),
        ({"peripheries": {"a": P, "b": P}, "periphery": P}, "`periphery` must be left out beside `peripheries`"),
    ],
    ids=["names", "number", "type", "kind", "both"],
)
def test_peripheries_that_do_not_fit_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare({"a": flat(), "b": flat()}, DATA, NOISE, **setting)


def test_several_models_a_method_are_training_seeds() -> None:
    models = {"a": [make_model(seed=0), make_model(seed=1)], "b": [make_model(seed=2), make_model(seed=3)]}
    seen = []
    found = compare(
        models, DATA, NOISE, trials=4, about="population", progress=lambda name, state: seen.append((name, state.done))
    )
    assert seen == [(name, done) for name in ("a", "b") for _ in range(2) for done in range(1, 5)]
    for name, of_method in models.items():
        for model, evaluation in zip(of_method, found.models[name], strict=True):
            assert np.array_equal(evaluation.scores, evaluate(model, DATA, NOISE, trials=4).scores)
    assert found.difference("b", "a").unit == "training seeds"


def test_models_of_another_shape_have_chips_of_their_own() -> None:
    found = compare({"a": make_model(), "b": flat()}, DATA, NOISE, trials=5).difference("b", "a")
    assert not found.common_chips
    assert found.ratio is None


def test_models_on_several_kinds_of_device_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their chips differ, though the networks have one shape."""
    here, there = make_model(), make_model(seed=1)
    where = "samson.evaluation._pairs.device_of"
    monkeypatch.setattr(where, lambda model: torch.device("cuda" if model is there else "cpu"))
    for models in ({"a": here, "b": there}, {"a": [here, there], "b": make_model()}):
        with pytest.raises(ValueError, match="`models` must be on one kind of device, got cpu and cuda"):
            compare(models, DATA, NOISE, trials=2)


@pytest.mark.parametrize(
    "setting", [{"select": nn.Linear}, {"periphery": Periphery(output_noise=5.0)}, {"time_s": 60.0, "read_block": 10}]
)
def test_a_setting_is_that_of_evaluate(setting: dict[str, object]) -> None:
    models = {"a": make_model(), "b": make_model(seed=1)}
    expected = [evaluate(model, DATA, NOISE, trials=3, **setting).trials for model in models.values()]
    found = compare(models, DATA, NOISE, trials=3, **setting).evaluations
    assert [found[name].trials for name in models] == expected


def test_data_that_can_be_run_through_once_serve_every_model() -> None:
    models, norms = {"a": make_model(), "b": [make_model(seed=1), make_model(seed=2)]}, [DATA[0] + 1]
    once, again = (
        compare(models, data, NOISE, trials=2, norm_data=norm_data)
        for data, norm_data in ((iter([DATA]), iter(norms)), ([DATA], norms))
    )
    for name in models:
        assert [e.trials for e in once.models[name]] == [e.trials for e in again.models[name]]


class Noting(Serial):
    """Keeps the inputs that networks are measured on."""

    inputs: ClassVar[list[torch.Tensor]] = []

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[Scores]:
        self.inputs.append(next(iter(task.batches))[0])
        return super().run(task, numbers)


def test_networks_of_one_layout_share_the_data() -> None:
    """A copy in channels-last order, where each had one of its own."""
    Noting.inputs.clear()
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    models = {name: nn.Sequential(nn.Conv2d(3, 2, 4), nn.Flatten()) for name in "abc"}
    compare(models, images, NOISE, trials=2, executor=Noting())
    places = [x.data_ptr() for x in Noting.inputs]
    Noting.inputs.clear()
    assert (len(places), len(set(places))) == (3, 1)
    assert places[0] != images[0].data_ptr()


NAMES = ["<b>plain</b>", "b", "c"]
SEEDS = [0, 4, 5]


def _compared() -> Compared:
    models = {name: make_model(seed=seed) for name, seed in zip(NAMES, SEEDS, strict=True)}
    return compare(models, DATA, NOISE, trials=6, seed=2)


def test_a_comparison_gives_its_rows() -> None:
    found = _compared()
    rows = found.table()
    assert [row["name"] for row in rows] == NAMES
    together = family({"": found}, NAMES[0]).rows
    for row, seed in zip(rows, SEEDS, strict=True):
        alone = evaluate(make_model(seed=seed), DATA, NOISE, trials=6, seed=2)
        assert (row["chips"], row["networks"], row["clean"]) == (6, 1, (alone.clean,))
        assert row["mean"]["mean"] == pytest.approx(alone.mean)
        if row["name"] != NAMES[0]:
            gain = together["", row["name"]]
            assert (row["difference"]["low"], row["p_value"]) == (gain.low, gain.p_value)
    assert rows[0]["difference"] is None
    other = found.table("b")
    assert other[1]["difference"] is None
    assert other[0]["difference"]["mean"] == pytest.approx(-rows[1]["difference"]["mean"])
    with pytest.raises(ValueError, match=r"`baseline` must be .* Available: <b>plain</b>, b, c"):
        found.table("sgd")


@pytest.mark.parametrize(
    ("metric", "said"), [("accuracy", "accuracy of"), ("cross-entropy", "cross-entropy (less is better) of")]
)
def test_a_comparison_says_which_direction_is_better(metric: str, said: str) -> None:
    found = compare({"a": make_model(), "b": make_model(seed=5)}, DATA, NOISE, trials=2, metric=metric)
    assert str(found).startswith(f"{said} 2 methods")
    best = (max if metric == "accuracy" else min)("ab", key=lambda name: found.mean(name).mean)
    assert f"{best} has the best mean: " in paired_page(found.record())


def test_a_comparison_is_saved_with_every_trial(tmp_path: Path) -> None:
    found, path = _compared(), tmp_path / "compared.json"
    found.save(path)
    record = read_json(path, PairedRecord)
    assert record == found.record()
    assert {method.name: method.trials for method in record.methods} == {
        name: tuple(e.trials for e in of) for name, of in found.models.items()
    }
    assert (record.kind.noise, record.subject.chip_seed, record.subject.metric) == (repr(NOISE), 2, "accuracy")
    saved = json.loads(path.read_text())
    for change, message in (
        ({"baseline": "b"}, "changed after it was written"),
        ({"version": 1, "chip_seed": 2}, "`version` must be 2, the only one that this release reads, got 1"),
    ):
        path.write_text(json.dumps(saved | change))
        with pytest.raises(RecordError, match=message):
            read_json(path, PairedRecord)


SETTINGS = [
    (
        {"select": ["default", "!0"], "read_block": 16, "autocast": "bfloat16", "norm_data": [DATA[0].float() + 1]},
        {"select": ("default", "!0"), "read_block": 16, "autocast": "bfloat16", "norms_on": "list"},
        ["default, !0", "one for each 16 examples", "in bfloat16", "estimated anew from list"],
    ),
    (
        {"select": nn.Linear, "time_s": 3e7, "layout": Layout(batch_size=32)},
        {"select": ("Linear",), "read_block": None, "autocast": None, "norms_on": None, "batch_size": 32},
        ["Linear", "one a chip", "347 days", "of 32 examples"],
    ),
]


@pytest.mark.parametrize(("setting", "recorded", "shown"), SETTINGS, ids=["patterns", "age"])
def test_record_and_page_hold_every_setting(
    setting: dict[str, object], recorded: dict[str, object], shown: list[str]
) -> None:
    """The same as those of a single model, with what they ran on and when."""
    models = {name: make_model(seed=seed).float() for name, seed in zip("ab", (0, 4), strict=True)}
    data = [DATA[0].float(), DATA[1]]
    noise = PCM() if "time_s" in setting else NOISE
    record = compare(models, tuple(data), noise, trials=2, **setting).record()
    assert {name: getattr(record.subject, name) for name in recorded} == recorded
    assert record.subject.examples == 64
    assert record.subject.data == "tensors of 64 x 2 x 5, 64"
    assert record.subject.environment == environment("cpu")
    age = datetime.now(UTC) - datetime.fromisoformat(record.subject.finished)
    assert abs(age) < timedelta(minutes=5)
    page = unescape(paired_page(record))
    assert [text for text in shown if f"<td>{text}" not in page] == []
    assert ("347 days" in page) == ("time_s" in setting)


def test_a_comparison_has_a_page_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    found, path = _compared(), tmp_path / "new" / "compared.html"  # a folder that is not there yet
    figure = found.plot()
    dots = {trace.name: list(trace.y) for trace in figure.data if trace.type == "box"}
    assert dots == {name: [100 * value for value in e.trials] for name, e in found.evaluations.items()}
    means = {trace.name: trace.y[0] for trace in figure.data if trace.type == "scatter"}
    assert means == pytest.approx({name: 100 * found.mean(name).mean for name in NAMES})
    found.page(path)
    page = path.read_text("utf-8")
    _, sections = page.split("<main>")
    assert "<b>plain</b>" not in re.sub(r"<script.*?</script>", "", sections, flags=re.S)  # a name is no code
    assert "&lt;b&gt;plain&lt;/b&gt;" in sections
    assert not re.search(r"(src|href)\s*=", sections)  # it asks the network for nothing
    best = max(NAMES, key=lambda name: found.mean(name).mean)
    assert f"{escape(best)} has the best mean: {100 * found.mean(best).mean:.1f}" in sections


def test_measurements_by_method_are_of_methods_with_one_network() -> None:
    found = compare({"a": make_model(), "b": [make_model(seed=1), make_model(seed=2)]}, DATA, NOISE, trials=2)
    with pytest.raises(ValueError, match="each method has one network, but 'b' has 2. Take `models"):
        _ = found.evaluations
    assert [len(one.trials) for one in found.models["b"]] == [2, 2]


class Own(nn.Module):
    """No container: a compiled one has no truth."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_model()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_compiled_model_of_ones_own_is_taken_as_it_is() -> None:
    model = Own()
    compiled = torch.compile(model, backend="eager")
    assert evaluate(compiled, DATA, NOISE, trials=2).trials == evaluate(model, DATA, NOISE, trials=2).trials
    found = compare({"a": compiled, "b": make_model(seed=1)}, DATA, NOISE, trials=2)
    assert found.evaluations["a"].trials == evaluate(model, DATA, NOISE, trials=2).trials
