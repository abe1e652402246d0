"""The figures and tables of the page, computed with the library or read off its constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from benchmarks.chips.around import output
from benchmarks.chips.mapping import LAYOUTS
from benchmarks.chips.samples import error_size, generator, layer_weights, reading
from benchmarks.chips.style import DAY, HOUR, YEAR
from benchmarks.markdown import table
from samson.noise import (
    CMO,
    FALCONE,
    GENERIC,
    HERMES,
    PCM,
    PRESETS,
    RATES,
    STANDARD_HWA,
    WAN2022,
    DeviceNoise,
    InversePower,
    Logarithmic,
    PCMHermes,
    Periphery,
    Quantize,
    ReRAM,
    bit_error_rate,
)


def quoted() -> dict[str, str]:
    """Every figure and table of the page, by the name that stands for it in the page's template."""
    sizes = {
        "pcm": error_size(PCM(compensation=None)),
        "pcm_day": error_size(PCM(compensation=None), DAY),
        "pcm_hour_global": error_size(PCM(compensation="global"), HOUR),
        "pcm_day_global": error_size(PCM(compensation="global"), DAY),
        "pcm_year_global": error_size(PCM(compensation="global"), YEAR),
        "hermes_day_global": error_size(PCMHermes(compensation="global"), DAY),
        "hermes2_day_global": error_size(PCMHermes(devices=2, compensation="global"), DAY),
        "reram_second": error_size(ReRAM(), 1.0),
        "reram_day": error_size(ReRAM(), DAY),
        "reram_days": error_size(ReRAM(), 2 * DAY),
        "cmo": error_size(CMO()),
        "cmo_coarse": error_size(CMO(acceptance=0.02)),
        "cmo_day": error_size(CMO(), DAY),
        "int8": error_size(Quantize(8)),
        "int4": error_size(Quantize(4)),
        "single": error_size(PCM(mapping=LAYOUTS["single device"], compensation=None)),
        "four": error_size(PCM(mapping=LAYOUTS["pair, four devices each"], compensation=None)),
        "pcm_year_kept": _kept_after_a_year(),
        "stuck_day": stuck_high(DAY),
        "stuck_year": stuck_high(YEAR),
        "low_voltage_rate": bit_error_rate(0.8),
        "ir_drop": _lost(512),
    }
    tables = {
        "presets": presets(),
        "phase_change": phase_change(),
        "reram": reram(),
        "cmo": cmo(),
        "standard": standard(),
        "voltages": ", ".join(f"{100 * rate:g} % at {v:g}" for v, rate in RATES),
    }
    return {name: f"{100 * size:.{1 if size > 0.0995 else 2}f} %" for name, size in sizes.items()} | {
        f"table_{name}": text for name, text in tables.items()
    }


def presets() -> str:
    """The catalogue of chips, with the size of the errors on `layer_weights`."""
    lines = []
    for name, chip in PRESETS.items():
        day = f"{100 * error_size(chip.noise, DAY):.2g} %" if isinstance(chip.noise, DeviceNoise) else ""
        lines.append([f"`{name}`", f"{100 * error_size(chip.noise):.2g} %", day, chip.source])
    return table(["name", "error, first read", "a day later", "source"], lines)


def phase_change() -> str:
    """The constants of the phase-change devices."""
    devices = {"`PCM`": GENERIC, "`PCMHermes`": HERMES[1], "`PCMHermes(devices=2)`": HERMES[2]}
    rows = {
        "g_max": [f"{c.g_max_us:g} µS" for c in devices.values()],
        "t0": [f"{c.reference_s:g} s" for c in devices.values()],
        "t_r": [f"{1e9 * c.read_s:g} ns" for c in devices.values()],
        "σ_p, µS": [_powers(c.programming) for c in devices.values()],
        "μ of ν": [_curve(c.drift_mean) for c in devices.values()],
        "σ of ν": [_curve(c.drift_deviation) for c in devices.values()],
        "Q": [_curve(c.read) for c in devices.values()],
    }
    return table(["", *devices], [[name, *cells] for name, cells in rows.items()])


def reram() -> str:
    """The constants of the resistive devices of Wan et al."""
    names = {1.0: "1 s", DAY: "1 day", 2 * DAY: "2 days"}
    spreads = zip(WAN2022.times_s, WAN2022.deviations_us, strict=True)
    return table(["after", "σ, µS"], [[names[time_s], _powers(c)] for time_s, c in spreads])


def cmo() -> str:
    """The constants of the CMO/HfOx devices."""
    c, ((fine, fine_slope), (coarse, coarse_slope)) = FALCONE, FALCONE.programming_us
    rows = {
        "g_min, g_max": f"{c.g_min_us:g} µS, {c.g_max_us:g} µS",
        "a, b at 0.2 %": f"{fine:.9g} µS, {fine_slope:.9g}",
        "a, b at 2 %": f"{coarse:.10g} µS, {coarse_slope:.10g}",
        "m": f"−{-c.relaxation_us:.9g} µS",
        "c, d": "{:.9g} µS, {:.9g} µS".format(*c.relaxation_deviation_us),
        "k": f"{c.read_us:.9g} µS",
        "t_r": f"{1e6 * c.read_s:g} µs",
    }
    return table(["constant", ""], rows.items())


def standard() -> str:
    """The settings of `STANDARD_HWA`, with what they mean."""
    rows = {
        "dac_steps": "steps from −1 to 1, for inputs over their range",
        "adc_steps": "steps from −adc_bound to adc_bound",
        "adc_bound": "of a column of a tile whose largest weight and inputs are 1",
        "output_noise": "standard deviation, in the same units",
        "weight_noise": "of a weight of 1, at each product",
        "ir_drop": "times the physical size",
        "wire_ratio": "of a segment over a device: 1/(0.35 Ω · 5 µS); 1.14e5 for devices of 25 µS",
        "tile_inputs": "inputs of a tile",
    }
    lines = [[name, f"{getattr(STANDARD_HWA, name):.5g}", words] for name, words in rows.items()]
    return table(["constant", "`STANDARD_HWA`", ""], lines)


def _powers(coefficients: Sequence[float]) -> str:
    """A polynomial of r as text."""
    text = f"{coefficients[0]:.9g}"
    for value, power in zip(coefficients[1:], (" r", " r²", " r³", " r⁴"), strict=False):
        text += f" {'−' if value < 0 else '+'} {abs(value):.9g}{power}"
    return text


def _curve(curve: Logarithmic | InversePower) -> str:
    """A curve over r as text."""
    if isinstance(curve, InversePower):
        return f"min({curve.factor:g} / max(r^{curve.exponent:g}, {curve.floor:g}), {curve.high:g})"
    offset = f"{'−' if curve.offset < 0 else '+'} {abs(curve.offset):g}"
    below = f"clamp(−{-curve.slope:g} ln r {offset}, {curve.low:g}, {curve.high:g})"
    return below if curve.split == math.inf else f"{below}; from r = {curve.split:g}: {_powers(curve.above)}"


def _kept_after_a_year() -> float:
    """Mean |w| a year after programming, over the programmed one, without compensation."""
    state = PCM(compensation=None).program(layer_weights(), generator("year"))
    later, programmed = (
        PCM(compensation=None).read(state, time_s, generator("year")).abs().mean() for time_s in (YEAR, None)
    )
    return float(later / programmed)


def stuck_high(time_s: float) -> float:
    """By what share a device that stays at g_max is above the largest |w| that is read: the mean of 20 chips."""
    chips = (reading(PCM(compensation=None), layer_weights(), number, time_s=time_s) for number in range(20))
    return sum(1 / float(read.abs().max()) - 1 for read in chips) / 20


def _lost(inputs: int) -> float:
    """Share of an output that the wires take, with all inputs and weights at 1."""
    ones = torch.ones(inputs, dtype=torch.float64)
    return 1 - float(output(Periphery(ir_drop=1.0), ones.unsqueeze(0), ones)) / inputs
