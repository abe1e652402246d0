"""`samson calibrate`, and what the commands about a model make of its file, against the library called by hand."""

from dataclasses import replace
from pathlib import Path

from samson.evaluation import evaluate
from samson.noise import PRESETS, calibrate, calibrate_adc, load_calibration, load_chip_model
from samson.records import BudgetRecord, EvaluationRecord, SensitivityRecord, read_json
from tests.cli.conftest import TWO_LAYERS

KIND = PRESETS["standard-hwa"]


def test_a_calibration_is_the_librarys_and_the_commands_take_it(samson, module, tmp_path: Path) -> None:
    names = module("mine", TWO_LAYERS)
    model, batches = names["network"](), names["batches"]()
    call = "mine:network", "--data", "mine:batches"
    assert samson("calibrate", *call, "--out", "ranges.toml", "--quantile", 0.9)[0] == 0
    assert vars(load_calibration("ranges.toml")) == {
        "input_ranges": calibrate(model, batches, quantile=0.9),
        "adc_bounds": {},
    }
    status, out, _ = samson("calibrate", *call, "--chip", "standard-hwa", "--adc-quantile", 0.8, "--out", "all.toml")
    found = load_calibration("all.toml")
    ranges = calibrate(model, batches)
    around = replace(KIND.periphery, input_ranges=ranges)
    assert vars(found) == {
        "input_ranges": ranges,
        "adc_bounds": calibrate_adc(model, batches, around, quantile=0.8),
    }
    assert (status, f"{found.adc_bounds['2']:.4g}" in out) == (0, True)
    call = *call, "--chip", "standard-hwa", "--calibration", "all.toml", "--trials", 3, "--out", "record.json"
    for command, kind in (("evaluate", EvaluationRecord), ("budget", BudgetRecord), ("sensitivity", SensitivityRecord)):
        assert samson(command, *call, *(("--high", 100) if command == "budget" else ()))[0] == 0
        record = read_json(tmp_path / "record.json", kind)
        kinds = [record.kind] if command == "sensitivity" else [row.kind for row in record.measured]
        assert {one.periphery for one in kinds} == {repr(found.around(KIND.periphery))}
        if command == "evaluate":
            [row] = record.measured
            expected = evaluate(model, batches, replace(KIND, periphery=found.around(KIND.periphery)), trials=3)
            assert row.trials == expected.trials != evaluate(model, batches, KIND, trials=3).trials


def test_layers_and_seed_of_a_calibration_are_those_that_are_asked_for(samson, module, tmp_path: Path) -> None:
    names = module("mine", TWO_LAYERS)
    model, batches = names["network"](), names["batches"]()
    call = "mine:network", "--data", "mine:batches", "--chip", "standard-hwa", "--select", "2", "--seed", 3
    assert samson("calibrate", *call, "--out", "all.toml")[0] == 0
    around = replace(KIND.periphery, input_ranges=calibrate(model, batches, ["2"]))
    bounds = [calibrate_adc(model, batches, around, ["2"], seed=seed, noise=KIND) for seed in (3, 0)]
    assert vars(load_calibration("all.toml")) == {"input_ranges": around.input_ranges, "adc_bounds": bounds[0]}
    assert list(bounds[0]) == ["2"]
    assert bounds[0] != bounds[1]


def test_a_chip_without_a_bound_of_its_converters_is_calibrated_first(samson, module, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text(
        'source = "a sheet"\n[noise]\nfamily = "quantize"\nbits = 4\n[periphery]\nadc_bits = 6\n'
    )
    module("mine", TWO_LAYERS)
    call = "mine:network", "--data", "mine:batches", "--chip", "chip.toml"
    rule = "`adc_bound` must be finite where ADCs round (62 steps)"
    status, _, error = samson("evaluate", *call, "--trials", 2)
    assert (status, rule in error) == (2, True)
    assert samson("calibrate", *call, "--out", "all.toml")[0] == 0
    assert samson("evaluate", *call, "--calibration", "all.toml", "--trials", 2)[0] == 0


def test_slices_with_adcs_of_their_own_are_calibrated_one_by_one(samson, module, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text(
        'source = "a sheet"\n[noise]\nfamily = "pcm"\nmapping = {levels = 4, slices = 2}\n'
        '[periphery]\nadc_bits = 6\ndac_bits = 4\nadc_per = "slice"\ninput_slice_bits = 1\n'
    )
    names = module("mine", TWO_LAYERS)
    model, batches, kind = names["network"](), names["batches"](), load_chip_model(tmp_path / "chip.toml")
    call = "mine:network", "--data", "mine:batches", "--chip", "chip.toml"
    status, out, _ = samson("calibrate", *call, "--out", "all.toml")
    found = load_calibration("all.toml")
    around = replace(kind.periphery, input_ranges=calibrate(model, batches))
    assert found.adc_bounds == calibrate_adc(model, batches, around, noise=kind)
    assert all(len(bounds) == 2 for bounds in found.adc_bounds.values())
    assert (status, ", ".join(f"{one:.4g}" for one in found.adc_bounds["2"]) in out) == (0, True)
    assert samson("evaluate", *call, "--calibration", "all.toml", "--trials", 2, "--out", "record.json")[0] == 0
    [row] = read_json(tmp_path / "record.json", EvaluationRecord).measured
    assert (
        row.trials == evaluate(model, batches, replace(kind, periphery=found.around(kind.periphery)), trials=2).trials
    )
