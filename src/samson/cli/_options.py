"""What the commands about one model have in common: their options, and what these mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samson._errors import SetupError, choose, require

if TYPE_CHECKING:
    from samson.evaluation import Executor, Noise, Setting
    from samson.experiments import Request

OWN = "MODULE:NAME, a function or a class"
RUNS = "runs the functions that it names: read one from others before you use it."
DEVICE = "Where it is computed, for example cuda."
DRIFT = "Drift of phase-change devices is compensated, except where the name ends in -uncompensated."

Model = Annotated[
    str, typer.Argument(help="`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME.")
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights: `.safetensors`, `.pt`, `.pth`, `.bin` or Lightning's `.ckpt`.")
]
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
    typer.Option(
        "--chip",
        help=f"A chip instead of a noise: see `samson list chips`, FILE.toml or {OWN}. {DRIFT} A file {RUNS}",
    ),
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
    read_block: Annotated[
        int | None, typer.Option(help="Read the chip again after this many examples; by default once for all.")
    ] = None
    norms_on: Annotated[
        str | None,
        typer.Option(help="Estimate batch norm again on each chip, from these data: digits/train, or as for --data."),
    ] = None
    autocast: Annotated[str | None, typer.Option(help="Run the model in lower precision: bfloat16 or float16.")] = None
    device: Device = "cpu"
    executor: Annotated[str, typer.Option(help="Where chips are computed: serial, torchrun, ray.")] = "serial"
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Save each finished chip in this folder, and continue from the chips that are there.",
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
