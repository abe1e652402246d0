"""`samson calibrate`: input ranges and ADC bounds of a model's layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from samson._errors import require
from samson.cli._errors import explained, require_writable
from samson.cli._options import OWN, RUNS, DataName, DataRoot, Device, Model, Pretrained, Select, Weights
from samson.cli._showing import console, empty_table, show_whole

Split = Annotated[str | None, typer.Option(help="Of data that have splits: train, validation; by default train.")]
Quantile = Annotated[float, typer.Option(help="Share of a batch's inputs, by size, that a range covers.")]
AdcQuantile = Annotated[
    float | None, typer.Option(help="Share of a batch's conversions that a bound covers; 1 by default.")
]
Chip = Annotated[
    str | None,
    typer.Option(
        "--chip",
        help=f"Chip whose ADC bounds are measured too: see `samson list chips`, FILE.toml or {OWN}. A file {RUNS}",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the noise of its periphery.")]
Out = Annotated[Path, typer.Option(help="Write them to this file, `.toml`.")]


def calibrate_model(
    *,
    model: Model,
    out: Out,
    chip: Chip = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    data: DataName = None,
    split: Split = None,
    select: Select = None,
    quantile: Quantile = 1.0,
    adc_quantile: AdcQuantile = None,
    seed: Seed = 0,
    device: Device = "cpu",
    data_root: DataRoot = Path("data"),
) -> None:
    """Measure input ranges and, for a chip with ADCs, their bounds: for --calibration, and for chip files."""
    from samson.experiments import Request, find_chip, find_device
    from samson.noise import Calibration, Periphery, calibrate, calibrate_adc
    from samson.records import replace_file

    for parameter, value in (("--quantile", quantile), ("--adc-quantile", adc_quantile)):
        require(value is None or 0 < value <= 1, parameter, "above 0, and 1 at most", value, "Write for example .999.")
    choosing = split in (None, "train", "validation")
    require(choosing, "--split", "train or validation", split, "The test split chooses nothing.")
    require_writable("--out", out, (model, weights, data), ".toml")
    found_chip = None if chip is None else find_chip(chip)
    periphery = Periphery() if found_chip is None else found_chip.periphery
    require(periphery is not None, "--chip", "one that has a periphery", chip, "Choose one, such as standard-hwa.")
    assert periphery is not None
    unused = adc_quantile is not None and periphery.adc_steps is None
    require(not unused, "--adc-quantile", "left out without a chip that has ADCs", adc_quantile, "Give one by --chip.")
    adc_quantile = 1.0 if adc_quantile is None else adc_quantile
    request = Request(model, weights, pretrained, data, split, data_root=data_root, usual_split="train")
    place = find_device(device)
    network, examples = request.load()
    network.to(place)
    with explained(model):
        found = Calibration(calibrate(network, examples, select, quantile=quantile))
        if periphery.adc_steps is not None:
            around = found.around(periphery)
            bounds = calibrate_adc(
                network, examples, around, select, quantile=adc_quantile, seed=seed, noise=found_chip
            )
            found = replace(found, adc_bounds=bounds)
    measured = f"{model} on {request.data_name}" + (f" for {chip}" if found.adc_bounds else "")
    quantiles = f"quantile {quantile:g}" + (f", of conversions {adc_quantile:g}" if found.adc_bounds else "")
    table = empty_table(f"Calibration of {measured}")
    table.add_column("Layer")
    for name in ("Input range", *(["ADC bound"] if found.adc_bounds else [])):
        table.add_column(name, justify="right")
    for layer, value in found.input_ranges.items():
        own = found.adc_bounds.get(layer, ())
        every = own if isinstance(own, tuple) else (own,)
        table.add_row(layer, f"{value:.4g}", *([", ".join(f"{one:.4g}" for one in every)] if every else []))
    show_whole(table)
    replace_file(out, found.text(f"Measured by `samson calibrate`: {measured}, {quantiles}.").encode())
    console().print(f"Calibration: {out.resolve()}", soft_wrap=True)
