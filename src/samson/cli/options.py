"""What the commands about one model have in common: their options, and what these mean."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer
from torch import nn

from samson._batches import Examples
from samson.cli.showing import chip_bar, console, speaks
from samson.evaluation import (
    EXECUTORS,
    METRICS,
    PRECISIONS,
    Evaluation,
    Executor,
    Kept,
    Noise,
    Progress,
    Sensitivity,
    Serial,
    Setting,
    executor_named,
)
from samson.experiments import (
    DATA,
    LEVELS,
    SPLITS,
    Request,
    SetupError,
    checked_levels,
    choose,
    find_chip,
    kind_of,
    require,
    subject_of,
)
from samson.noise import NOISES, PRESETS
from samson.records import ChipKind, Subject

Model = Annotated[
    str, typer.Argument(help="`….safetensors` of a comparison, MODULE:FUNCTION, timm/NAME or torchvision/NAME.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights: `.safetensors`, `.pt` or `.pth`.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Download what timm or torchvision publish.")]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help=f"{', '.join(DATA)}, MODULE:FUNCTION, or FILE.safetensors with `inputs` and `targets`; by default those "
        "of a saved network.",
    ),
]
Split = Annotated[str, typer.Option(help=f"Of a data set by name: {', '.join(SPLITS)}.")]
Metric = Annotated[str, typer.Option(help=f"{', '.join(METRICS)}.")]
Seed = Annotated[int, typer.Option(help="Seed of the set of chips.")]
Select = Annotated[list[str] | None, typer.Option(help="Pattern of layers on the chip; may be repeated.")]
ReadBlock = Annotated[int | None, typer.Option(help="Examples of one reading of a chip; by default all.")]
NormsOn = Annotated[
    str | None,
    typer.Option(help="Estimate batch norm anew on each chip, from for example digits/train, or as for --data."),
]
Autocast = Annotated[str | None, typer.Option(help=f"Run the model in lower precision: {' or '.join(PRECISIONS)}.")]
ExecutorName = Annotated[str, typer.Option("--executor", help=f"Where chips are computed: {', '.join(EXECUTORS)}.")]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="Save each finished chip in this folder, and go on from those that are there.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Write a record with every trial to this file, `.json`.")]
Page = Annotated[Path | None, typer.Option("--page", help="Write a page with plot and table to this file, `.html`.")]
ChipName = Annotated[
    str | None, typer.Option("--chip", help=f"Instead of --noise, a chip: {', '.join(PRESETS)}, or FILE.toml.")
]
NoiseName = Annotated[str, typer.Option("--noise", help=f"Family of noises: {', '.join(NOISES)}.")]

DEFAULT_LEVELS = ",".join(f"{level:g}" for level in LEVELS)
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "y": 365 * 86_400.0}


@dataclass(frozen=True)
class ModelOptions:
    """The options of every command about one model, in the order of its help."""

    model: Model
    weights: Weights = None
    pretrained: Pretrained = False
    data: DataName = None
    split: Split = "test"
    metric: Metric = "accuracy"
    seed: Seed = 0
    select: Select = None
    read_block: ReadBlock = None
    norms_on: NormsOn = None
    autocast: Autocast = None
    executor: ExecutorName = "serial"
    resume: Resume = None
    out: Out = None
    page: Page = None

    @property
    def request(self) -> Request:
        """What is to be measured."""
        return Request(self.model, self.weights, self.pretrained, self.data, self.split, self.norms_on)

    def setting(self) -> Setting:
        """How trials are run.

        Raises:
            SetupError: If an option is wrong.
        """
        choose("--metric", self.metric, METRICS)
        executor = _executor(self.executor)
        return {
            "metric": self.metric,
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
        model_file = Path(self.model)
        read = [model_file, model_file.with_suffix(".json"), *map(Path, filter(None, (self.weights, self.data)))]
        for parameter, path in (("--out", self.out), ("--page", self.page)):
            require_writable(parameter, path, read)
        model, data = self.request.load()
        setting = self.setting()
        with explained(self.resume), chip_bar() as bar:
            yield Measuring(self, model, data, setting, lambda label: bar(label, self.metric))


@dataclass(frozen=True)
class Measuring:
    """A measurement that is going on.

    Args:
        options: What the user asked for.
        model: The model.
        data: Its data.
        setting: How trials are run.
        progress: Gives what is called after each chip, from what is measured.
    """

    options: ModelOptions
    model: nn.Module
    data: Examples
    setting: Setting
    progress: Callable[[str], Callable[[Progress], None]]

    def of_kind(self, kind: Kind) -> Setting:
        """The setting for one kind of chip."""
        executor = self.setting.get("executor") or Serial()
        return {**self.setting, "time_s": kind.time_s, "executor": executor.named(kind.label)}

    def subject(self, found: Evaluation | Sensitivity) -> Subject:
        """The record of what was measured."""
        return subject_of(self.options.request, self.model, self.setting, found)


def model_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command from a function of `ModelOptions` and keywords of its own, whose options come first."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    model, *shared = inspect.signature(ModelOptions, eval_str=True).parameters.values()
    names = [parameter.name for parameter in (model, *shared)]

    @wraps(function)
    def command(**values: Any) -> None:
        options = ModelOptions(**{name: values.pop(name) for name in names})
        function(options, **values)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (model, *own, *shared)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@dataclass(frozen=True)
class Kind:
    """One kind of chip at one time."""

    label: str
    noise: Noise
    level: float | None = None
    time_s: float | None = None

    def record(self) -> ChipKind:
        """The kind as records hold it."""
        return kind_of(self.label, self.noise, self.level, self.time_s)


def kinds_of(noise: str, levels: str, chip: str | None, times: str | None) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times."""
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        choose("--noise", noise, NOISES)
        wanted = checked_levels(parse_levels(levels), noise)
        return [Kind(f"{level:g}", NOISES[noise](level), level) for level in wanted if level]
    kind = find_chip(chip)
    if times is None:
        return [Kind(chip, kind)]
    return [Kind(f"{chip} at {word}", kind, None, time_s) for word, time_s in parse_times(times).items()]


def parse_levels(text: str) -> list[float]:
    """Read noise levels separated by commas.

    Raises:
        SetupError: If one is not a number.
    """
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise SetupError(
            f"--levels must be numbers separated by commas, got {text!r}.\nWrite for example 0,.1,.2."
        ) from None


def parse_times(text: str) -> dict[str, float]:
    """Read times separated by commas, each a number with s, m, h, d or y; in seconds, by how they were written.

    Raises:
        SetupError: If one is none.

    Example:
        >>> parse_times("0s,1.5h,30d")
        {'0s': 0.0, '1.5h': 5400.0, '30d': 2592000.0}
    """
    found = {}
    for word in text.split(","):
        try:
            found[word] = float(word[:-1]) * UNITS[word[-1:]]
            if not 0 <= found[word] < math.inf:
                raise ValueError
        except (ValueError, KeyError):
            raise SetupError(
                f"--times must be numbers ≥ 0 with one of {', '.join(UNITS)}, separated by commas, got {text!r}.\n"
                "Write for example 0s,1h,1d,1y."
            ) from None
    return found


def require_writable(parameter: str, path: Path | None, read: Sequence[Path]) -> None:
    """Refuse a file that cannot be written, or that is read, before anything is computed.

    Raises:
        SetupError: If it is so.
    """
    if path is None:
        return
    mend = "Give another file."
    require(path.resolve() not in [one.resolve() for one in read], parameter, "no file that is read", str(path), mend)
    require(not path.is_dir(), parameter, "a file", str(path), mend)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SetupError(f"{parameter}: {str(path)!r} cannot be written: {error.strerror}.\n{mend}") from error


def _executor(name: str) -> Executor:
    choose("--executor", name, EXECUTORS)
    try:
        return executor_named(name)
    except (ImportError, ValueError, RuntimeError) as error:
        raise SetupError(f"--executor {name}: {error}") from error


@contextmanager
def explained(resume: Path | None = None) -> Iterator[None]:
    """What the library refuses is bad input of the user's; after an interruption, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if resume is not None and speaks():
            console(stderr=True).print("Stopped: finished chips are saved. Repeat the command to go on.")
        raise
    except (ValueError, TypeError) as error:
        raise SetupError(as_options(str(error))) from error
    except RuntimeError as error:
        if not str(error).startswith("`executor`"):
            raise
        raise SetupError(as_options(str(error))) from error
    except OSError as error:
        if resume is None or not _is_below(error.filename, resume):
            raise
        raise SetupError(
            f"--resume must be a folder that can be written, got {str(resume)!r}: {error.strerror}.\nGive another one."
        ) from error


def _is_below(path: object, folder: Path) -> bool:
    return isinstance(path, str) and Path(path).absolute().is_relative_to(folder.absolute())


IN_OPTIONS = {"executor=None": "--executor serial", "`folder`": "--resume", "`sensitivity`": "sensitivity"}
"""Words of the library by those of the command line."""


def as_options(message: str) -> str:
    """An error of the library in the words of the command line.

    Example:
        >>> as_options("`max_trials` must be at least 2, got 1.")
        '--max-trials must be at least 2, got 1.'
    """
    for word, other in IN_OPTIONS.items():
        message = message.replace(word, other)
    return re.sub(r"`([a-z_]+)`", lambda found: "--" + found[1].replace("_", "-"), message)
