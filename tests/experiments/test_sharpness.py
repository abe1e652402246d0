"""`samson sharpness` on small folders made by hand, and the record of the benchmark."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import __path__ as benchmarks
from samson import SAMSON
from samson.experiments import (
    DATA,
    Checkpoint,
    SetupError,
    Splits,
    load_checkpoint,
    load_data_set,
    make_network,
    measure_folder,
    save_checkpoint,
    sharpness_path,
)
from samson.noise import Gaussian
from samson.records import (
    PLAN,
    ChipFamily,
    ChipKind,
    NetworkSharpness,
    RecordError,
    RunRecord,
    SharpnessRecord,
    read_json,
    record_path,
    run_name,
    write_json,
)
from samson.sharpness import Trace, average_rise, worst_case_rise
from samson.statistics import rank_correlation, sharpness_correlations
from tests import programs
from tests.builders import PROBLEM, record, with_plan

METHODS = ("sgd", "noise", "clip", "sam", "asam", "samson")
SMALL = {"steps": 2, "trials": 2}
KINDS = tuple(ChipKind(f"{level:g}", repr(Gaussian(level)), level, 0.0) for level in (0.1, 0.2))


def small_data(root: Path | None = None) -> Splits:
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.rand(n, 1, 8, 8, generator=generator), torch.randint(10, (n,), generator=generator)) for n in (24, 8, 8)
    ]
    return Splits(*parts, outputs=10)


@pytest.fixture(autouse=True)
def few_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(DATA, "digits", small_data)
    load_data_set.cache_clear()
    yield
    load_data_set.cache_clear()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SharpnessRecord]:
    folder = tmp_path_factory.mktemp("measured")
    make(folder, METHODS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATA, "digits", small_data)
        load_data_set.cache_clear()
        return folder, measure_one(folder)


@pytest.fixture
def folder(measured: tuple[Path, SharpnessRecord], tmp_path: Path) -> Path:
    """A copy of what was measured."""
    return shutil.copytree(measured[0], tmp_path / "copy")


def make(folder: Path, methods: tuple[str, ...]) -> None:
    """Networks with random weights, those of later methods larger, with records of falling accuracies."""
    families = (ChipFamily("gaussian", "level", KINDS),)
    plan = dataclasses.replace(with_plan(methods={name: {"lr": 0.1} for name in methods}), families=families)
    write_json(folder / PLAN, plan)
    for number, name in enumerate(methods):
        for seed in range(2):
            model = make_network("mlp", (1, 8, 8), 10, seed=10 * number + seed)
            with torch.no_grad():
                model[-1].weight.mul_(3**number)
            about = Checkpoint("mlp", (1, 8, 8), 10, "digits", name, seed)
            run = run_name(PROBLEM.name, name, seed)
            save_checkpoint(folder / "networks" / f"{run}.safetensors", model.state_dict(), about)
            level = 0.9 - number / 10
            levels = [[level], [level - 0.01, level, level + 0.01 * seed], [0.1 + 0.001 * number] * 3]
            write_json(record_path(folder, run), record(name, seed, levels, plan))


def path_in(folder: Path) -> Path:
    return sharpness_path(folder, PROBLEM.name)


def measure_one(folder: Path, **settings: object) -> SharpnessRecord:
    [found] = measure_folder(folder, **{**SMALL, "progress": quiet, **settings})
    return found


def quiet(name: str, done: int, total: int) -> None:
    pass


def test_everything_is_measured_on_the_training_split(measured: tuple[Path, SharpnessRecord]) -> None:
    folder, found = measured
    assert read_json(path_in(folder), SharpnessRecord) == found
    assert (found.settings.split, found.settings.examples, found.robustness_split) == ("train", 24, "test")
    assert found.settings.rules["samson"] == {"rho": 0.5, "eta": 0.01, "policy": "authors", "p": "inf"}
    assert found.settings.kind == "0.2"
    assert [(n.method, n.seed) for n in found.networks] == [(name, seed) for name in METHODS for seed in (0, 1)]
    last = found.networks[-1]
    model, _ = load_checkpoint(folder / "networks" / PROBLEM.name / "samson-seed1.safetensors")
    truth = worst_case_rise(model, small_data().train, SAMSON(), steps=2)
    assert last.measures["samson worst"].mean == pytest.approx(truth.rise, rel=1e-6)
    assert last.measures["samson one step"].mean == pytest.approx(truth.one_step, rel=1e-6)
    assert last.measures["loss"].mean == pytest.approx(truth.clean, rel=1e-6)
    assert last.measures["noise"].low < last.measures["noise"].mean < last.measures["noise"].high
    assert last.accuracies == pytest.approx((0.4, 0.4, 0.105))
    assert found.measures == (
        *("loss", "sam one step", "sam worst", "asam one step", "asam worst", "samson one step", "samson worst"),
        *("rangesam one step", "rangesam worst", "noise"),
    )


def test_some_examples_can_be_enough(tmp_path: Path) -> None:
    splits = small_data()
    make(tmp_path, METHODS[:1])
    found = measure_one(tmp_path, examples=7)
    model, _ = load_checkpoint(tmp_path / "networks" / PROBLEM.name / f"{METHODS[0]}-seed0.safetensors")
    truth = worst_case_rise(model, splits.some("train", 7), SAMSON(), steps=2)
    every = worst_case_rise(model, splits.some("train", None), SAMSON(), steps=2)
    assert found.settings.examples == 7
    assert found.networks[0].measures["samson worst"].mean == pytest.approx(truth.rise, rel=1e-6)
    assert truth.rise != pytest.approx(every.rise, rel=1e-3)
    (path_in(tmp_path)).unlink()
    assert measure_one(tmp_path, examples=1000).settings.examples == 24  # there are no more
    with pytest.raises(SetupError, match="`examples` must be at least 1, got 0"):
        measure_one(tmp_path, examples=0)


def test_chips_have_the_seed_of_the_comparison_and_are_of_the_first_family_with_a_name(tmp_path: Path) -> None:
    families = ChipFamily("mine", "level", KINDS), ChipFamily("gaussian", "level", KINDS)
    plan = dataclasses.replace(with_plan(methods={"sgd": {"lr": 0.1}}, chip_seed=5), families=families)
    model, run = make_network("mlp", (1, 8, 8), 10, seed=0).eval(), run_name(PROBLEM.name, "sgd", 0)
    about = Checkpoint("mlp", (1, 8, 8), 10, "digits", "sgd", 0)
    save_checkpoint(tmp_path / "networks" / f"{run}.safetensors", model.state_dict(), about)
    write_json(tmp_path / PLAN, plan)
    made = record("sgd", 0, [[0.9], [0.4] * 3, [0.3] * 3], dataclasses.replace(plan, families=families[:1]))
    made = dataclasses.replace(made, families=families, measured=(*made.measured, ((0.8,) * 3, (0.7,) * 3)))
    write_json(record_path(tmp_path, run), made)
    [network] = measure_one(tmp_path).networks
    assert network.accuracies == pytest.approx((0.9, 0.8, 0.7))
    rises = [average_rise(model, small_data().train, Gaussian(0.2), trials=2, seed=s).interval.mean for s in (5, 0)]
    assert network.measures["noise"].mean == pytest.approx(rises[0], rel=1e-6)
    assert rises[0] != pytest.approx(rises[1], rel=1e-3)


def test_correlations_are_of_what_was_measured(measured: tuple[Path, SharpnessRecord]) -> None:
    _, found = measured
    assert len(found.correlations) == 10 * 3
    row = next(r for r in found.correlations if (r.measure, r.kind) == ("asam worst", "0.1"))
    sharp = {m: [n.measures["asam worst"].mean for n in found.networks if n.method == m] for m in METHODS}
    accurate = {m: [n.accuracies[1] for n in found.networks if n.method == m] for m in METHODS}
    truth = rank_correlation(sharp, accurate)
    assert (row.kendall.mean, row.kendall.low, row.spearman.high) == (
        truth.kendall.mean,
        truth.kendall.low,
        truth.spearman.high,
    )
    assert (row.networks, row.methods) == (12, 6)
    loss = next(r for r in found.correlations if (r.measure, r.kind) == ("loss", "clean"))
    assert loss.kendall_of_means < -0.5  # larger heads: a larger loss, and accuracies were made to fall


def test_a_repetition_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(name: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    make(tmp_path, METHODS[:2])
    with pytest.raises(KeyboardInterrupt):
        measure_folder(tmp_path, **SMALL, progress=stopping)
    begun = read_json(path_in(tmp_path), SharpnessRecord)
    assert (len(begun.networks), begun.correlations) == (1, ())
    assert not list(tmp_path.rglob("*.partial"))
    loaded: list[str] = []
    monkeypatch.setattr("samson.experiments._sharpness.load_checkpoint", counted(loaded))
    rest = measure_one(tmp_path)
    assert loaded == ["sgd-seed1", "noise-seed0", "noise-seed1"]
    assert rest.networks[:1] == begun.networks
    assert rest.correlations == ()  # too few methods
    assert measure_one(tmp_path) == rest
    assert len(loaded) == 3
    with pytest.raises(SetupError, match="was measured with other settings"):
        measure_folder(tmp_path, steps=3, trials=2, progress=quiet)
    (path_in(tmp_path)).unlink()
    assert measure_one(tmp_path) == rest


def test_progress_says_when_networks_and_correlations_begin(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    measure_folder(folder, **SMALL, progress=lambda *state: seen.append(state))
    assert [state[1:] for state in seen] == [*((done, 12) for done in range(12)), (12, 12), (12, 12)]
    assert [state[0] for state in seen[11:]] == [
        run_name(PROBLEM.name, "samson", 1),
        f"{PROBLEM.name}: correlations",
        "",
    ]


def test_one_run_alone_is_measured(tmp_path: Path) -> None:
    make(tmp_path, METHODS[:1])
    record_path(tmp_path, run_name(PROBLEM.name, "sgd", 1)).unlink()
    found = measure_one(tmp_path)
    assert [(network.method, network.seed) for network in found.networks] == [("sgd", 0)]
    assert found.networks[0].accuracies == pytest.approx((0.9, (0.89 + 0.9 + 0.9) / 3, 0.1))


def counted(loaded: list[str]) -> Callable[[Path], object]:
    def load(path: Path) -> object:
        loaded.append(path.stem)
        return load_checkpoint(path)

    return load


def test_curvature_is_added_to_what_is_there(
    folder: Path, measured: tuple[Path, SharpnessRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measured[1]
    monkeypatch.setattr("samson.experiments._sharpness.hessian_top", lambda *_, **__: 1.5)
    monkeypatch.setattr(
        "samson.experiments._sharpness.hessian_trace", lambda model, *_, **__: Trace((1.0, model[-1].bias[0].item()))
    )
    monkeypatch.setattr("samson.experiments._sharpness.worst_case_rise", lambda *_, **__: pytest.fail("measured again"))
    after = measure_one(folder, curvature=True)
    assert after.measures == (*before.measures, "hessian top", "hessian trace")
    assert [n.measures["noise"] for n in after.networks] == [n.measures["noise"] for n in before.networks]
    assert len(after.correlations) == 11 * 3  # "hessian top" is the same for all: no correlation
    assert measure_one(folder) == after  # without --curvature it is kept


def test_a_regression_is_measured_by_its_squared_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights the output is the last bias b: the Hessian of the mean of (b − y)² is 2 there and 0 elsewhere."""
    values = torch.linspace(-1, 2, 16)
    pair = torch.rand(16, 5, generator=torch.Generator().manual_seed(0)), values
    monkeypatch.setitem(DATA, "digits", lambda root: Splits(pair, pair, pair, outputs=1, task="regression"))
    about = {"task": "regression", "metric": "mse", "higher_is_better": False, "is_fraction": False}
    plan = with_plan(methods={"sgd": {"lr": 0.1}}, problem={"network": "mlp", **about})
    plan = dataclasses.replace(plan, families=(ChipFamily("gaussian", "level", KINDS),))
    model = make_network("mlp", (5,), 1, seed=0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    run = run_name(PROBLEM.name, "sgd", 0)
    save_checkpoint(
        tmp_path / "networks" / f"{run}.safetensors", model.state_dict(), Checkpoint("mlp", (5,), 1, "digits", "sgd", 0)
    )
    write_json(tmp_path / PLAN, plan)
    write_json(record_path(tmp_path, run), record("sgd", 0, [[1.0], [1.0] * 3, [1.0] * 3], plan))
    [network] = measure_one(tmp_path, curvature=True).networks
    found = {name: interval.mean for name, interval in network.measures.items()}
    assert found["loss"] == pytest.approx(float((values**2).mean()))
    assert (found["hessian top"], found["hessian trace"]) == pytest.approx((2, 2), rel=1e-3)


@pytest.fixture
def samson(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("COLUMNS", "200")
    return programs.samson


def test_the_command_shows_and_writes(
    folder: Path, samson: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = samson("sharpness", folder, "--steps", 2, "--trials", 2)
    assert status == 0
    row = next(
        r
        for r in read_json(path_in(folder), SharpnessRecord).correlations
        if r.measure == "noise" and r.kind != "clean"
    )
    assert "6 methods, 12 networks" in out
    assert f"{row.kendall.mean:+.2f}".replace("-", "−") in next(
        line for line in out.splitlines() if "noise" in line[:8]
    )
    assert "samson worst" in path_in(folder).with_suffix(".html").read_text()
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in samson("sharpness", folder, "--steps", 2, "--trials", 2)[1]


def test_a_network_that_is_gone_is_named(folder: Path, samson: Callable[..., tuple[int, str, str]]) -> None:
    (path_in(folder)).unlink()
    (folder / "networks" / PROBLEM.name / "sgd-seed0.safetensors").unlink()
    status, _, err = samson("sharpness", folder)
    assert (status, "sgd-seed0" in err) == (2, True)


def test_a_folder_names_no_code_to_run(folder: Path) -> None:
    for path in (folder / "records").rglob("*.json"):
        found = read_json(path, RunRecord)
        write_json(path, dataclasses.replace(found, problem=dataclasses.replace(found.problem, data="mine:data")))
    with pytest.raises(SetupError, match=r"no code to run, got 'mine:data'.\nMeasure your own in Python: .*load_model"):
        measure_one(folder)


def test_a_noise_that_is_called_like_another_is_refused(folder: Path) -> None:
    """Or Gaussian noise would be measured beside accuracies under lognormal noise."""
    own = ChipFamily("gaussian", "level", tuple(dataclasses.replace(k, noise="Lognormal(sigma=0.2)") for k in KINDS))
    for path in (folder / "records").rglob("*.json"):
        write_json(path, dataclasses.replace(read_json(path, RunRecord), families=(own,)))
    with pytest.raises(
        SetupError, match=r"must be Gaussian\(.* in the family 'gaussian'.*got 'Lognormal\(sigma=0.2\)'"
    ):
        measure_one(folder)


def test_a_record_of_another_layout_is_refused(folder: Path) -> None:
    found = read_json(path_in(folder), SharpnessRecord)
    network = dataclasses.replace(found.networks[0], accuracies=(0.5,))
    with pytest.raises(ValueError, match="one for each of 3 kinds, got 1 for sgd, seed 0"):
        dataclasses.replace(found, networks=(network,))
    text = json.loads((path_in(folder)).read_text()) | {"version": 1}
    (path_in(folder)).write_text(json.dumps(text))
    with pytest.raises(RecordError, match="`version` must be 2"):
        read_json(path_in(folder), SharpnessRecord)
    with pytest.raises(SetupError, match="Delete or move that file"):
        measure_one(folder)


def test_the_recorded_correlations_follow_from_the_recorded_networks() -> None:
    recorded = read_json(Path(next(iter(benchmarks))) / "records" / "sharpness-digits.json", SharpnessRecord)
    assert sharpness_correlations(recorded) == recorded.correlations
    assert len(recorded.networks) == 21
    loss = dataclasses.replace(recorded, problem=dataclasses.replace(recorded.problem, higher_is_better=False))
    turned = [-row.kendall.mean for row in sharpness_correlations(loss)]
    assert turned == pytest.approx([row.kendall.mean for row in recorded.correlations])


def test_accuracies_are_equal_that_differ_by_the_order_of_a_sum() -> None:
    """.1 + .2 + .3 is not .3 + .2 + .1 in floating point, and would make an order of two equal networks."""
    recorded = read_json(Path(next(iter(benchmarks))) / "records" / "sharpness-digits.json", SharpnessRecord)

    def ends(value: float) -> tuple[NetworkSharpness, ...]:
        """The record's networks, with accuracies that are one of two values; the higher for half of them."""
        return tuple(
            dataclasses.replace(network, accuracies=(value if place % 2 else 0.3,) * len(recorded.kinds))
            for place, network in enumerate(recorded.networks)
        )

    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    apart = dataclasses.replace(recorded, networks=ends(0.6))
    assert sharpness_correlations(apart)
    same = dataclasses.replace(recorded, networks=ends(0.3 * (0.1 + 0.2 + 0.3) / (0.3 + 0.2 + 0.1)))
    assert same.networks[1].accuracies[0] != same.networks[0].accuracies[0]
    assert sharpness_correlations(same) == ()
