"""Digital memory: quantised weights, bits that flip, and the voltage that makes them flip."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from benchmarks.chips.samples import layer_weights, reading
from benchmarks.chips.style import BLUE, GREEN, GREY, ORANGE, bars, label, note, panels
from samson.noise import RATES, BitErrors, Quantize, bit_error_rate


def quantisation() -> Figure:
    """Staircases, errors over the step, and errors over the number of bits."""
    figure, (stairs, errors, sizes) = panels("3 bits", "error", "error over bits")
    weight = torch.linspace(-0.49, 1, 1491, dtype=torch.float64)
    stairs.plot(weight, weight, color=GREY, lw=0.7)
    for scheme, colour, x, y in (("symmetric", ORANGE, 0.44, 0.82), ("asymmetric", BLUE, 0.5, 0.05)):
        stairs.plot(weight, reading(Quantize(3, scheme), weight), color=colour, lw=1.3)
        label(stairs, x, y, scheme, colour, "left" if scheme == "symmetric" else "right")
    stairs.set_xlabel("weight")
    stairs.set_ylabel("weight on the chip")
    weight = layer_weights()
    inner = weight.abs() < 1  # the largest are exact
    for bits, colour in ((8, BLUE), (4, ORANGE)):
        step = 1 / (2 ** (bits - 1) - 1)
        height, edges = torch.histogram(
            (reading(Quantize(bits), weight) - weight)[inner] / step, 32, density=True, range=(-0.8, 0.8)
        )
        errors.stairs(height, edges, color=colour, lw=1.2)
        note(errors, 0.5, 0.30 + 0.02 * bits, f"{bits} bits", colour, ha="center")
    errors.set_ylim(0, 1.3)
    errors.set_xlabel("error / step")
    errors.set_ylabel("density")
    rows = weight * torch.logspace(0, -1, 64, dtype=torch.float64).unsqueeze(-1)
    for per, colour, at in (("tensor", ORANGE, "above"), ("channel", BLUE, "below")):
        size = [(reading(Quantize(bits, per=per), rows) - rows).square().mean().sqrt() for bits in range(2, 9)]
        sizes.plot(range(2, 9), 100 * torch.stack(size), "o-", color=colour, ms=3.5, lw=1)
        label(sizes, 5.1, 100 * float(size[3]), f'per="{per}"', colour, "right" if at == "above" else "left", 8)
    sizes.set_yscale("log")
    sizes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    sizes.set_xlabel("bits")
    sizes.set_ylabel("root mean square\n(% of the largest weight)")
    return figure


def bit_errors() -> Figure:
    """Errors of weights at three rates, their size, and the rate over the voltage."""
    figure, (errors, sizes, voltage) = panels("errors of 8-bit weights", "size of the errors", "supply voltage")
    weight = layer_weights()
    clean = reading(BitErrors(0.0), weight)
    for rate, colour in ((0.05, ORANGE), (0.01, GREEN), (0.001, BLUE)):
        moved = (reading(BitErrors(rate), weight) - clean) / 2
        height, edges = torch.histogram(moved, 65, range=(-0.8125, 0.8125))
        errors.stairs(100 * height / weight.numel(), edges, color=colour, lw=0.9, baseline=1e-6)
        errors.stairs(100 * height / weight.numel(), edges, color=colour, alpha=0.25, fill=True, baseline=1e-6)
    for row, (rate, colour) in enumerate(((0.05, ORANGE), (0.01, GREEN), (0.001, BLUE))):
        note(errors, 0.03, 0.97 - 0.085 * row, f"p = {100 * rate:g} %", colour, va="top")
    errors.set_yscale("log")
    errors.set_ylim(0.02, 3000)
    errors.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    errors.set_xlabel("error / range of the weights")
    errors.set_ylabel("weights (%)")
    rates = torch.logspace(-3, -1, 5, dtype=torch.float64)
    for fault, bits, colour in (("flip", 8, BLUE), ("stuck", 8, GREEN), ("flip", 4, ORANGE)):
        base = reading(BitErrors(0.0, bits=bits), weight)
        noises = [BitErrors(float(rate), bits=bits, fault=fault) for rate in rates]
        size = torch.stack([(reading(n, weight) - base).square().mean().sqrt() / 2 for n in noises])
        sizes.plot(100 * rates, 100 * size, "o-", color=colour, ms=3.2, lw=1)
    for row, (text, colour) in enumerate((("4 bits, flip", ORANGE), ("8 bits, flip", BLUE), ("8 bits, stuck", GREEN))):
        note(sizes, 0.04, 0.97 - 0.085 * row, text, colour, va="top")
    sizes.set_xscale("log")
    sizes.set_yscale("log")
    sizes.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    sizes.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    sizes.set_xlabel("bit error rate (%)")
    sizes.set_ylabel("root mean square\n(% of the range)")
    codes = torch.arange(256, dtype=torch.float64).repeat(4000)
    fine = torch.linspace(0.75, 0.875, 26, dtype=torch.float64)
    voltage.plot(fine, [100 * bit_error_rate(float(v)) for v in fine], color=GREY, lw=0.8)
    for v in torch.linspace(0.75, 0.875, 6, dtype=torch.float64).tolist():
        words = (255 * reading(BitErrors(voltage=v), codes / 255, str(v))).round().long()
        wrong = torch.stack([(words ^ codes.long()) >> place & 1 for place in range(8)]).double().mean()
        bars(voltage, v, 100 * wrong, 100 * (wrong * (1 - wrong) / (8 * len(codes))).sqrt(), BLUE)
    voltage.plot([v for v, _ in RATES], [100 * rate for _, rate in RATES], "D", color=ORANGE, ms=5, mfc="none")
    voltage.set_yscale("log")
    voltage.set_ylim(0.07, 30)
    voltage.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    ticks = (0.75, 0.8, 0.85)
    voltage.set_xticks(ticks, [f"{v:g}\n({v * v:.2f})" for v in ticks])
    voltage.set_xlabel("V / V_min (and energy of an access)")
    voltage.set_ylabel("bit error rate (%)")
    note(voltage, 0.97, 0.95, "published", ORANGE, ha="right", va="top")
    note(voltage, 0.97, 0.865, "counted", BLUE, ha="right", va="top")
    return figure
