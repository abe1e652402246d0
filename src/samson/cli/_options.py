"""What the commands about one model have in common: their options, and what these mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from samson._errors import SetupError, choose, require
from samson.cli._errors import explained, require_writable
from samson.cli._showing import chip_bar

if TYPE_CHECKING:
    from torch import nn

    from samson._batches import Examples
    from samson.evaluation import (
        DataSetMetric,
        Evaluation,
        ExampleMetric,
        Executor,
        Noise,
        Progress,
        Sensitivity,
        Setting,
    )
    from samson.experiments import Kind, Request
    from samson.records import Subject

OWN = "MODULE:NAME, a function or a class"
DEVICE = "Where it is computed, for example cuda."
DRIFT = "Drift of phase-change devices is compensated, but for names in -uncompensated."

Model = Annotated[
    str, typer.Argument(help="`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights: `.safetensors`, `.pt`, `.pth` or Lightning's `.ckpt`.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Download what timm or torchvision publish.")]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="See `samson list data`, MODULE:FUNCTION, or FILE.safetensors with `inputs` and `targets`; by default "
        "those of a saved network.",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(help='Pattern of layers on the chip, "!PATTERN" of layers off it, or "default"; may be repeated.'),
]
Device = Annotated[str, typer.Option(help=DEVICE)]
ChipName = Annotated[
    str | None,
    typer.Option("--chip", help=f"A chip instead of a noise: see `samson list chips`, FILE.toml or {OWN}. {DRIFT}"),
]
DataRoot = Annotated[
    Path, typer.Option("--data-root", envvar="SAMSON_DATA", help="Folder where files of data are looked for.")
]


@dataclass(frozen=True)
class ModelOptions:
    """The options of every command about one model, in the order of its help."""

    model: Model
    noise: Annotated[
        str | None,
        typer.Option(help=f"Family of noises: see `samson list noises`, or {OWN}; gaussian by default. {DRIFT}"),
    ] = None
    chip: ChipName = None
    calibration: Annotated[
        Path | None, typer.Option(help="With --chip: input ranges and ADC bounds that `samson calibrate` measured.")
    ] = None
    weights: Weights = None
    pretrained: Pretrained = False
    data: DataName = None
    split: Annotated[
        str | None, typer.Option(help="Of data that have splits: test, validation, train; by default test.")
    ] = None
    metric: Annotated[str, typer.Option(help="See `samson list metrics`, or MODULE:NAME.")] = "accuracy"
    seed: Annotated[int, typer.Option(help="Seed of the set of chips.")] = 0
    select: Select = None
    read_block: Annotated[int | None, typer.Option(help="Examples of one reading of a chip; by default all.")] = None
    norms_on: Annotated[
        str | None,
        typer.Option(help="Estimate batch norm anew on each chip, from for example digits/train, or as for --data."),
    ] = None
    autocast: Annotated[str | None, typer.Option(help="Run the model in lower precision: bfloat16 or float16.")] = None
    device: Device = "cpu"
    executor: Annotated[str, typer.Option(help="Where chips are computed: serial, torchrun, ray.")] = "serial"
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Save each finished chip in this folder, and go on from those that are there.",
        ),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Write a record with every trial to this file, `.json`.")] = None
    page: Annotated[Path | None, typer.Option(help="Write a page with plot and table to this file, `.html`.")] = None
    data_root: DataRoot = Path("data")

    def __post_init__(self) -> None:
        one = self.noise is None or self.chip is None
        require(one, "--noise", "left out with --chip", self.noise, "Choose one of the two.")

    @property
    def family(self) -> str:
        """The noise or the chip that was asked for, by its name."""
        if self.chip is not None:
            return self.chip
        return "gaussian" if self.noise is None else self.noise

    @property
    def request(self) -> Request:
        """What is to be measured."""
        from samson.experiments import Request

        return Request(self.model, self.weights, self.pretrained, self.data, self.split, self.norms_on, self.data_root)

    def calibrated(self, noise: Noise) -> Noise:
        """The chip with the calibration that was given, if one was.

        Raises:
            SetupError: If it does not go with it.
        """
        from samson.experiments import calibrated

        return noise if self.calibration is None else calibrated(noise, self.calibration)

    def setting(self) -> Setting:
        """How trials are run.

        Raises:
            SetupError: If an option is wrong.
        """
        from samson.evaluation import PRECISIONS, Kept
        from samson.experiments import find_metric

        executor = _executor(self.executor)
        return {
            "metric": find_metric(self.metric),
            "seed": self.seed,
            "select": self.select or None,
            "read_block": self.read_block,
            "norm_data": self.request.norm_data(),
            "autocast": None if self.autocast is None else choose("--autocast", self.autocast, PRECISIONS),
            "executor": executor if self.resume is None else Kept(self.resume, executor),
        }

    @contextmanager
    def measuring(self) -> Iterator[Measuring]:
        """Model, data and setting, with a progress bar until the block ends; the library's errors are explained."""
        read = files_read(self.model, self.weights, self.data, self.calibration)
        require_writable("--out", self.out, read, ".json")
        require_writable("--page", self.page, read, ".html")
        from samson.experiments import find_device

        device = find_device(self.device)
        model, data = self.request.load()
        model.to(device)
        setting = self.setting()
        with explained(self.model, self.resume, self.calibration), chip_bar() as bar:
            yield Measuring(self, model, data, setting, bar)


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
    bar: Callable[[str, ExampleMetric | DataSetMetric], Callable[[Progress], None]]

    @property
    def metric(self) -> ExampleMetric | DataSetMetric:
        """What is measured."""
        return cast("ExampleMetric | DataSetMetric", self.setting["metric"])

    def progress(self, label: str) -> Callable[[Progress], None]:
        """What is called after each chip, from what is measured."""
        return self.bar(label, self.metric)

    def of_kind(self, kind: Kind) -> Setting:
        """The setting for one kind of chip."""
        from samson.evaluation import Serial

        executor = self.setting.get("executor") or Serial()
        return {**self.setting, "time_s": kind.time_s, "executor": executor.named(kind.label)}

    def subject(self, found: Evaluation | Sensitivity) -> Subject:
        """The record of what was measured."""
        from samson.evaluation import make_subject

        asked = self.options.request
        return make_subject(
            found,
            self.model,
            self.setting,
            name=asked.model,
            data=asked.data_name,
            weights=None if asked.weights is None else str(asked.weights),
            norms_on=asked.norms_on,
        )


def files_read(*given: str | Path | None) -> list[Path]:
    """The files that a command reads, with those beside them."""
    read = [Path(one) for one in given if one]
    return read + [path.with_suffix(".json") for path in read if path.suffix == ".safetensors"]


def model_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command from a function of `ModelOptions` and keywords of its own, which come after those of noise."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    model, noise, chip, *shared = inspect.signature(ModelOptions, eval_str=True).parameters.values()
    names = [parameter.name for parameter in (model, noise, chip, *shared)]

    @wraps(function)
    def command(**values: Any) -> None:
        options = ModelOptions(**{name: values.pop(name) for name in names})
        function(options, **values)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (model, noise, chip, *own, *shared)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _executor(name: str) -> Executor:
    from samson.evaluation import EXECUTORS

    choose("--executor", name, EXECUTORS)
    try:
        return EXECUTORS[name]()
    except (ImportError, ValueError, RuntimeError) as error:
        raise SetupError(str(error)) from error
