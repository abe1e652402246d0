"""Arguments that are out of range or contradict each other are named, with the rule and the value."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from samson.noise import (
    CMO,
    PCM,
    BitErrors,
    Gaussian,
    InversePower,
    Logarithmic,
    Mapping,
    Periphery,
    ReRAM,
    StuckDevices,
)

TABLE = ((0.6, 0.1), (0.7, 0.001))
LOW, SPLIT = "`low` must be ≥ 0 and ≤ `high`, both finite, got", "`split` must be > 0, and finite where and only where"
CASES: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (Gaussian, {"sigma": 0.1, "per": "row"}, "`per` must be one of layer, channel, filter, weight, got 'row'"),
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
    (PCM, {"mapping": Mapping(g_min_us=30.0)}, "`g_min_us` must be below g_max = 25.0 µS, got 30.0"),
    (BitErrors, {"voltage": 0.8, "rates_by_voltage": TABLE[:1]}, "`rates_by_voltage` must hold at least two pairs"),
    (BitErrors, {"voltage": 0.8, "rates_by_voltage": ((0.6, 0.1), (0.7,))}, "must hold at least two pairs"),
    (BitErrors, {"voltage": 0.8, "rates_by_voltage": TABLE[::-1]}, "`rates_by_voltage` must have voltages > 0, asc"),
    (BitErrors, {"voltage": 0.8, "rates_by_voltage": ((0.6, 0.7), (0.7, 0.1))}, "descending in (0, 0.5]"),
    (BitErrors, {}, "Give one of `rate` and `voltage`, got None and None"),
    (BitErrors, {"rate": 0.1, "voltage": 0.8}, "Give one of `rate` and `voltage`"),
    (BitErrors, {"rate": 1.5}, "`rate` must be ≤ 1, got 1.5"),
    (BitErrors, {"rate": 0.1, "bits": 9}, "`bits` must be a whole number from 2 to 8, got 9"),
    (BitErrors, {"rate": 0.1, "scheme": "float"}, "`scheme` must be one of symmetric, asymmetric"),
    (BitErrors, {"rate": 0.1, "fault": "burnt"}, "`fault` must be one of flip, stuck"),
    (BitErrors, {"voltage": -1.0}, "`voltage` must be > 0"),
    (StuckDevices, {"low": 0.6, "high": 0.6}, "`low` + `high` must be ≤ 1"),
    (Periphery, {"dac_steps": 255}, "`dac_steps` must be even and ≥ 2"),
    (Periphery, {"output_noise": -0.1}, "`output_noise` must be ≥ 0 and finite, got -0.1"),
    (Periphery, {"adc_bound": 0.0}, "`adc_bound` must be > 0"),
    (Periphery, {"adc_steps": 254}, "`adc_bound` must be finite where `adc_steps` rounds"),
    (Periphery, {"tile_inputs": 0}, "`tile_inputs` must be ≥ 1"),
    (Periphery, {"wire_ratio": -1.0}, "`wire_ratio` must be > 0"),
    (Periphery, {"input_ranges": {"stem": 0.0}}, "`input_ranges` must be > 0 and finite, got 0.0 for `stem`"),
    (Periphery, {"adc_bounds": {"stem": math.inf}}, "`adc_bounds` must be > 0 and finite, got inf for `stem`"),
]
WRONG_CONSTANTS: list[tuple[object, dict[str, object], str]] = [
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
        make(**arguments)
    assert words in str(caught.value)
