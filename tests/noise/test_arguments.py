"""Arguments that are out of range or contradict each other are named, with the rule and the value."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from samson.noise import (
    CMO,
    PCM,
    BitErrors,
    Compose,
    CustomPCM,
    DeadLines,
    Gaussian,
    InversePower,
    Logarithmic,
    Lognormal,
    Mapping,
    MeasuredDevices,
    PCMHermes,
    Periphery,
    Quantize,
    ReRAM,
    StuckDevices,
    Variation,
    bit_error_rate,
    calibrate_adc,
    deploy,
    describe,
    generator_for,
    preset,
    voltage_at,
)

LOW, SPLIT = "`low` must be ≥ 0 and ≤ `high`, both finite, got", "`split` must be > 0, and finite where and only where"
CASES: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (Gaussian, {"sigma": 0.1, "per": "row"}, "`per` must be one of layer, channel, filter, weight, got 'row'"),
    (Gaussian, {"sigma": 0.1, "per": "chanel"}, "weight, got 'chanel'. Did you mean 'channel'?"),
    (Lognormal, {"sigma": 1e200, "corrected": True}, "`sigma` must be below 1e154 with `corrected`"),
    (Mapping, {"g_min_us": -1.0}, "`g_min_us` must be ≥ 0 and finite, got -1.0"),
    (Mapping, {"on_off_ratio": 1.0}, "`on_off_ratio` must be > 1"),
    (Mapping, {"on_off_ratio": 5.0, "g_min_us": 1.0}, "Give one of the two"),
    (Mapping, {"per": "row"}, "`per` must be one of layer, channel, tile, got 'row'"),
    (Mapping, {"per": "tile"}, "`tile_inputs` must be a whole number ≥ 1 with per='tile'"),
    (Mapping, {"tile_inputs": 4}, "`tile_inputs` must be a whole number ≥ 1 with per='tile', and None otherwise"),
    (Mapping, {"levels": 1}, "`levels` must be ≥ 2"),
    (Mapping, {"significance": ()}, "`significance` must hold factors > 0"),
    (Mapping, {"significance": (1.0, -1.0)}, "`significance` must hold factors > 0"),
    (Mapping, {"slices": 2}, "above 1 it needs `levels`"),
    (Mapping, {"slices": 2, "levels": 4, "significance": (1.0, 2.0)}, "sets the significance itself"),
    (BitErrors, {}, "Give one of `rate` and `voltage`, got None and None"),
    (BitErrors, {"rate": 0.1, "voltage": 0.8}, "Give one of `rate` and `voltage`"),
    (BitErrors, {"rate": 1.5}, "`rate` must be ≤ 1, got 1.5"),
    (BitErrors, {"rate": 0.1, "bits": 9}, "`bits` must be a whole number from 2 to 8, got 9"),
    (BitErrors, {"rate": 0.1, "scheme": "float"}, "`scheme` must be one of symmetric, asymmetric"),
    (BitErrors, {"rate": 0.1, "fault": "burnt"}, "`fault` must be one of flip, stuck"),
    (BitErrors, {"voltage": -1.0}, "`voltage` must be > 0"),
    (StuckDevices, {"low": 0.6, "high": 0.6}, "`low` + `high` must be ≤ 1"),
    (Periphery, {"dac_steps": 255}, "`dac_steps` must be even and ≥ 2"),
    (Periphery, {"dac_steps": 254, "input_slice_bits": 9}, "`input_slice_bits` must be at most 8, the bits of"),
    (Periphery, {"output_noise": -0.1}, "`output_noise` must be ≥ 0 and finite, got -0.1"),
    (Periphery, {"adc_bound": 0.0}, "`adc_bound` must be > 0"),
    (Periphery, {"tile_inputs": 0}, "`tile_inputs` must be ≥ 1"),
    (Periphery, {"wire_ratio": math.inf}, "`wire_ratio` must be > 0 and finite"),
    (Mapping, {"on_off_ratio": math.inf}, "`on_off_ratio` must be > 1 and finite"),
    (Mapping, {"on_off_ratio": math.nan}, "`on_off_ratio` must be > 1 and finite"),
    (PCM, {"mapping": Mapping(g_min_us=25.0)}, "`g_min_us` must be below g_max = 25.0 µS, got 25.0"),
    (StuckDevices, {"g_max_us": math.inf}, "`g_max_us` must be > 0 and finite, got inf"),
    (PCM, {"time_s": math.nan}, "`time_s` must be ≥ 0 and finite, got nan"),
    (PCM, {"mapping": None}, "`mapping` must be a Mapping, got None"),
    (ReRAM, {"g_max_us": "40"}, "`g_max_us` must be a number or None, got '40'"),
    (Mapping, {"significance": (1.0, True)}, "`significance` must be a tuple of numbers, got (1.0, True)"),
    (
        Periphery,
        {"adc_bounds": {"stem": "1"}},
        "`adc_bounds` must be a mapping to a number or a tuple of numbers, got {'stem': '1'}",
    ),
    (Periphery, {"input_ranges": 1.0}, "`input_ranges` must be a mapping to numbers, got 1.0"),
    (Compose, {"noises": 0.1}, "`noises` must be a tuple of WeightNoises, got (0.1,)"),
    (Periphery, {"input_ranges": {"stem": 0.0}}, "`input_ranges` must be > 0 and finite, got 0.0 for `stem`"),
    (Periphery, {"adc_bounds": {"stem": math.inf}}, "`adc_bounds` must be > 0 and finite, got inf for `stem`"),
]
MEASURED = MeasuredDevices(targets_us=(0.5, 5.0, 25.0), deviations_us=(0.4, 0.6, 0.5))
WRONG_CONSTANTS: list[tuple[object, dict[str, object], str]] = [
    (MEASURED, {"targets_us": ()}, "`targets_us` must hold at least 1 finite number, got ()"),
    (MEASURED, {"targets_us": (0.5, 25.0, 5.0)}, "`targets_us` must be ≥ 0 and ascending, got (0.5, 25.0, 5.0)"),
    (MEASURED, {"targets_us": (-0.5, 5.0, 25.0)}, "`targets_us` must be ≥ 0 and ascending"),
    (MEASURED, {"targets_us": (0.0,)}, "`deviations_us` must hold a number for each of (0.0,) µS, got (0.4, 0.6, 0.5)"),
    (MEASURED, {"deviations_us": (0.4, -0.6, 0.5)}, "`deviations_us` must be ≥ 0, got (0.4, -0.6, 0.5)"),
    (MEASURED, {"deviations_us": (0.4, math.nan, 0.5)}, "`deviations_us` must hold finite numbers"),
    (MEASURED, {"mean_errors_us": (0.1, 0.2)}, "`mean_errors_us` must hold a number for each of (0.5, 5.0, 25.0) µS"),
    (MEASURED, {"mean_errors_us": (0.1, 0.2, math.inf)}, "`mean_errors_us` must hold finite numbers"),
    (MEASURED, {"g_max_us": -1.0}, "`g_max_us` must be > 0"),
    (MEASURED, {"mapping": Mapping(g_min_us=25.0)}, "`g_min_us` must be below g_max = 25.0 µS, got 25.0"),
    (PCM().constants, {"g_max_us": 0.0}, "`g_max_us` must be > 0"),
    (PCM().constants, {"read_s": 0.0}, "`read_s` must be > 0"),
    (PCM().constants, {"reference_s": 1e-8}, "`reference_s` must be ≥ `read_s`"),
    (PCM().constants, {"programming": ()}, "`programming` must hold at least 1 finite number"),
    (PCM().constants, {"programming": (math.inf,)}, "`programming` must hold at least 1 finite number"),
    (Logarithmic(0.1, 0.1, 0.0, 0.1), {"slope": math.inf}, "`slope` must be finite"),
    (Logarithmic(0.1, 0.1, 0.0, 0.1), {"low": 0.2}, f"{LOW} 0.2 and 0.1"),
    (Logarithmic(0.1, 0.1, 0.0, 0.1), {"low": -0.1}, LOW),
    (Logarithmic(0.1, 0.1, 0.0, 0.1), {"split": 0.5}, SPLIT),
    (Logarithmic(0.1, 0.1, 0.0, 0.1, 0.5, (0.1,)), {"above": ()}, SPLIT),
    (InversePower(0.1, 0.6, 0.1, 0.2), {"exponent": 0.0}, "`exponent` must be > 0"),
    (InversePower(0.1, 0.6, 0.1, 0.2), {"factor": -1.0}, "`factor` must be ≥ 0"),
    (ReRAM().constants, {"g_max_us": 0.0}, "`g_max_us` must be > 0"),
    (ReRAM().constants, {"times_s": (1.0, 1.0, 2.0)}, "`times_s` must be > 0 and ascending"),
    (ReRAM().constants, {"times_s": (0.0, 1.0, 2.0)}, "`times_s` must be > 0 and ascending"),
    (ReRAM().constants, {"times_s": ()}, "`times_s` must hold at least 1 finite number"),
    (ReRAM().constants, {"times_s": (1.0, 2.0)}, "`deviations_us` must hold equally many coefficients"),
    (ReRAM().constants, {"deviations_us": ((1.0,), (1.0,), (1.0, 2.0))}, "`deviations_us` must hold equally many"),
    (ReRAM().constants, {"deviations_us": ((), (), ())}, "`deviations_us` must hold at least 1 finite number"),
    (CMO().constants, {"g_min_us": 100.0}, "`g_min_us` must be > 0 and below `g_max_us`"),
    (CMO().constants, {"acceptances": (0.1,)}, "`programming_us` must hold a line for each of `acceptances`"),
    (CMO().constants, {"programming_us": ((0.1,), (0.1, 0.2))}, "`programming_us` must hold an intercept and a slope"),
    (CMO().constants, {"relaxation_deviation_us": (0.1, math.inf)}, "`relaxation_deviation_us` must hold an intercept"),
    (CMO().constants, {"relaxation_us": math.nan}, "`relaxation_us` must be finite"),
    (CMO().constants, {"read_us": -1.0}, "`read_us` must be ≥ 0"),
    (CMO().constants, {"read_s": 0.0}, "`read_s` must be > 0"),
]


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [*CASES, *((lambda constants=one, **new: replace(constants, **new), *rest) for one, *rest in WRONG_CONSTANTS)],
)
def test_what_is_wrong_is_named(make: Callable[..., object], arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are the match)
        make(*arguments.values()) if make is Compose else make(**arguments)
    assert words in str(caught.value)


NOISES = [Gaussian(0.1), Lognormal(0.1), PCM(), PCMHermes(), CustomPCM(), ReRAM(), CMO(), Quantize(), BitErrors(0.1)]
NOISES += [StuckDevices(), DeadLines(), Variation(), Mapping(), Periphery(), PCM().constants, CMO().constants]
NOISES += [MEASURED, ReRAM().constants, PCM().constants.drift_mean, PCM().constants.read, preset("int8")]
WRONG = (True, "1", b"1", math.nan, [1.0], torch.tensor(1.0), 10**400, object())
"""Of which no argument of a noise may be any but True and words."""


@pytest.mark.parametrize("made", NOISES, ids=lambda made: type(made).__name__)
def test_no_argument_is_of_another_type(made: object) -> None:
    for field in fields(made):  # type: ignore[arg-type]
        for value in (*WRONG, 1.5, None):
            right = {"bool": value is True, "int": False, "float": value == 1.5}
            kinds = str(field.type).split(" | ")
            if any(right.get(kind, False) for kind in kinds) or (value is None and "None" in kinds):
                continue
            if "str" in kinds and isinstance(value, str) and field.name == "source":
                continue
            if isinstance(value, int) and kinds[0] == "int" and value is not True:
                continue  # a large whole number is one
            with pytest.raises(ValueError, match=rf"^`{field.name}` must|^Give one of .*{field.name}|`{field.name}`"):
                replace(made, **{field.name: value})


def chip(**how: object) -> object:
    return deploy(nn.Linear(2, 2), how.pop("noise", Gaussian(0.1)), **how)


def read(**how: object) -> object:
    with chip().at(**how) as model:
        return model


def calibrated(**how: object) -> object:
    return calibrate_adc(nn.Linear(2, 2), [torch.ones(1, 2)], how.pop("periphery", Periphery()), **how)


@pytest.mark.parametrize(
    ("use", "name", "values"),
    [
        (chip, "seed", (1.5, math.nan, True, "1", None, -1, math.inf)),
        (chip, "trial", (1.5, math.nan, True, "1", None, -1)),
        (chip, "noise", (0.1, None, "pcm", Gaussian, Mapping(), Periphery())),
        (chip, "periphery", (0.1, "hwa", Gaussian(0.1))),
        (read, "time_s", (True, "1", math.nan, math.inf, -1.0, [1])),
        (read, "reading", (1.5, True, "1", math.nan, -1)),
        (calibrated, "quantile", (True, "1", math.nan, None, 0.0, 1.5)),
        (calibrated, "seed", (1.5, True, math.nan, -1)),
        (calibrated, "periphery", (None, Gaussian(0.1))),
        (lambda **how: describe(nn.Linear(2, 2), **how), "tile_inputs", (True, 1.5, "4", 0)),
        (lambda **how: describe(nn.Linear(2, 2), **how), "noise", (0.1, "pcm")),
        (bit_error_rate, "voltage", (True, "1", math.nan, math.inf, None, 0.0)),
        (voltage_at, "rate", (True, "1", math.nan, None, 0.0)),
    ],
)
def test_what_is_of_another_type_is_named(use: Callable[..., object], name: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^`{name}` must"):
            use(**{name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    model = nn.Linear(3, 3)
    one = deploy(model, Gaussian(np.float32(0.25)), seed=np.int64(3), trial=np.int32(2))
    two = deploy(model, Gaussian(0.25), seed=3, trial=2)
    assert torch.equal(one.states["weight"]["weight"], two.states["weight"]["weight"])
    for kind in (partial(Quantize, scheme="asymmetric"), partial(BitErrors, 0.01)):
        weight, generators = torch.linspace(-1, 1, 50), [generator_for(0, "bits") for _ in range(2)]
        assert torch.equal(kind(bits=np.int8(8))(weight, generators[0]), kind(bits=8)(weight, generators[1]))


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda n: ReRAM(mapping=Mapping(per="tile", tile_inputs=n)), np.uint8(200)),
        (lambda n: StuckDevices(0.1, 0.1, Mapping(levels=n, slices=2)), np.int8(16)),
        (lambda n: StuckDevices(0.1, 0.1, Mapping(levels=16, slices=n)), np.int8(2)),
        (lambda n: DeadLines(0.1, 0.1, n), np.uint8(200)),
        (lambda n: Variation(0.1, per="tile", tile_inputs=n), np.uint8(200)),
        (lambda n: Periphery(tile_inputs=n), np.uint8(200)),
    ],
)
def test_small_whole_numbers_of_numpy_do_not_overflow(make: Callable[[object], object], number: np.integer) -> None:
    torch.manual_seed(0)
    model, x, found = nn.Linear(300, 2), torch.randn(4, 300), []
    for value in (number, int(number)):
        made = make(value)
        noise, around = (Gaussian(0.0), made) if isinstance(made, Periphery) else (made, None)
        with torch.no_grad(), deploy(model, noise, periphery=around).at():
            found.append(model(x))
    assert torch.equal(*found)
