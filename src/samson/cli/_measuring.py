"""A measurement of one model that a command asks for: kinds of chips, model, data, setting, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from samson._errors import require
from samson.cli._errors import explained, require_writable
from samson.cli._options import ModelOptions
from samson.cli._showing import chip_bar, console, speaks

if TYPE_CHECKING:
    from torch import nn

    from samson._batches import Examples
    from samson.cli._showing import Metric
    from samson.evaluation import Budget, Evaluation, Progress, Sensitivity, Setting
    from samson.experiments import Kind
    from samson.records import Subject


def kinds_of(options: ModelOptions, levels: str | None, times: str | None, *, usual: bool = False) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times.

    Args:
        options: With the noise or the chip.
        levels: Of the noise; None takes such as suit it.
        times: Of the chip; None takes its own.
        usual: Whether no levels are one, the usual.
    """
    from samson.experiments import USUAL, chip_family, find_noise, noise_family, parse_time

    chip = options.chip
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        default = [USUAL[find_noise(options.family).unit]] if usual else None
        kinds = noise_family(options.family, default if levels is None else levels.split(",")).kinds
    else:
        require(levels is None, "--levels", "left out with --chip", levels, "A chip has --times; or choose a noise.")
        asked = None if times is None else [parse_time(word) for word in times.split(",")]
        found = chip_family([chip], asked).kinds
        kinds = found if times is None else tuple(replace(kind, label=f"{chip} at {kind.label}") for kind in found)
    return [replace(kind, noise=options.calibrated(kind.noise)) for kind in kinds]


@contextmanager
def measuring(options: ModelOptions) -> Iterator[Measuring]:
    """Model, data and setting, with a progress bar until the block ends; the library's errors are explained."""
    read = options.model, options.weights, options.data, options.calibration
    require_writable("--out", options.out, read, ".json")
    require_writable("--page", options.page, read, ".html")
    from samson._batches import moved
    from samson.experiments import find_device

    device = find_device(options.device)
    model, data = options.request.load()
    model, data = model.to(device), moved(data, device)
    setting = options.setting()
    with explained(options.model, options.resume, options.calibration), chip_bar() as bar:
        yield Measuring(options, model, data, setting, bar)
    made = ":" in options.model and not options.model.endswith(".safetensors")
    if made and options.weights is None and speaks():
        console().print(f"Weights are those that {options.model} makes.")


@dataclass(frozen=True)
class Measuring:
    """A measurement that is going on.

    Args:
        options: What the user asked for.
        model: The model.
        data: Its data.
        setting: How trials are run.
        bar: A progress bar.
    """

    options: ModelOptions
    model: nn.Module
    data: Examples
    setting: Setting
    bar: Callable[[str, Metric], Callable[[Progress], None]]

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return cast("Metric", self.setting["metric"])

    def progress(self, label: str) -> Callable[[Progress], None]:
        """What is called after each chip, from what is measured."""
        return self.bar(label, self.metric)

    def of_kind(self, kind: Kind) -> Setting:
        """The setting for one kind of chip."""
        from samson.evaluation import Serial

        executor = self.setting.get("executor") or Serial()
        return {**self.setting, "time_s": kind.time_s, "executor": executor.named(kind.label)}

    def subject(self, found: Evaluation | Budget | Sensitivity) -> Subject:
        """The record of what was measured, by the names that the user gave."""
        asked = self.options.request
        assert found.subject is not None
        weights = None if asked.weights is None else str(asked.weights)
        return replace(found.subject, model=asked.model, data=asked.data_name, weights=weights, norms_on=asked.norms_on)
