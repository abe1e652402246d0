"""Methods on the same chips."""

import copy
import json
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from samson.evaluation import Compared, compare, evaluate
from samson.noise import Gaussian, Periphery
from samson.records import PairedRecord, RecordError, read_json
from samson.statistics import family, paired_interval
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
    expected = paired_interval(b, a, resolution=1 / 64)
    gap = paired.difference("b", "a")
    assert (gap.mean, gap.low, gap.high) == pytest.approx((expected.mean, expected.low, expected.high))


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


SAME = flat()


@pytest.mark.parametrize(
    ("models", "setting", "message"),
    [
        ({"a": flat(), "b": []}, {}, "got none for 'b'"),
        ({"a": [make_model(), flat()], "b": flat()}, {}, "those of 'a' differ"),
        ({"a": flat(), "b": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(10))}, {}, "without noise"),
        ({"a": flat()}, {}, "`models` must be two or more methods"),
        (dict.fromkeys("ab", flat()), {}, "one of 'b' is the very object of 'a'"),
        ({"a": flat(), "b": [SAME, SAME]}, {}, "one of 'b' is the very object of 'b'"),
        ({"a": flat(), "b": flat()}, {"trials": 1}, "`trials` must be at least 2"),
    ],
)
def test_bad_input_is_named_before_compute(models: dict, setting: dict[str, int], message: str) -> None:
    runs = []
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: runs.append(1))
    try:
        with pytest.raises(ValueError, match=message):
            compare(models, DATA, NOISE, **setting)
    finally:
        hook.remove()
    assert not runs


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
            assert (row["gain"]["low"], row["p_value"]) == (gain.low, gain.p_value)
    assert rows[0]["gain"] is None
    other = found.table("b")
    assert other[1]["gain"] is None
    assert other[0]["gain"]["mean"] == pytest.approx(-rows[1]["gain"]["mean"])
    with pytest.raises(ValueError, match=r"`baseline` must be .* Available: <b>plain</b>, b, c"):
        found.table("sgd")


def test_a_comparison_is_saved_with_every_trial(tmp_path: Path) -> None:
    found, path = _compared(), tmp_path / "compared.json"
    found.save(path)
    record = read_json(path, PairedRecord)
    assert record == found.record()
    assert {method.name: method.trials for method in record.methods} == {
        name: tuple(e.trials for e in of) for name, of in found.models.items()
    }
    assert (record.kind.noise, record.chip_seed, record.metric) == (repr(NOISE), 2, "accuracy")
    changed = json.loads(path.read_text()) | {"chip_seed": 3}
    path.write_text(json.dumps(changed))
    with pytest.raises(RecordError, match="changed after it was written"):
        read_json(path, PairedRecord)


def test_a_comparison_has_a_page_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    found, path = _compared(), tmp_path / "compared.html"
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
