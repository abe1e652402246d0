"""What the commands about one model have in common: options, and what they mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from torch import nn

from samson.cli.showing import speaks
from samson.evaluation import EXECUTORS, METRICS, Executor, Kept, Layout, Serial, Setting, executor_named
from samson.evaluation.data import Data
from samson.evaluation.layout import PRECISIONS
from samson.experiments import SetupError
from samson.experiments.chips import find_chip
from samson.experiments.data import DATA
from samson.experiments.errors import choose, require
from samson.experiments.planning import LEVELS, checked_levels
from samson.experiments.subjects import SPLITS, Request
from samson.noise import NOISES, PRESETS

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
Autocast = Annotated[
    str | None,
    typer.Option(help="Run the model in bfloat16 or float16; the first chips are run plainly too, to compare."),
]
Compiled = Annotated[bool, typer.Option("--compiled", help="Run it by torch.compile; compared in the same way.")]
ExecutorName = Annotated[str, typer.Option("--executor", help=f"Where chips are computed: {', '.join(EXECUTORS)}.")]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="Keep each finished chip in this folder, and go on from those that are there.",
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
class Kind:
    """One kind of chip at one time."""

    label: str
    noise: Any
    level: float | None
    time_s: float | None = None


def kinds_of(noise: str, levels: str, chip: str | None, times: str | None) -> list[Kind]:
    """The kinds of chips that a user asked for: a noise at several levels, or a chip at several times."""
    if chip is None:
        require(times is None, "--times", "given with --chip only", times, "Choose a chip, or leave --times out.")
        choose("--noise", noise, NOISES)
        wanted = checked_levels(parse_levels(levels), noise)
        return [Kind(f"{level:g}", NOISES[noise](level), level) for level in wanted if level]
    kind = find_chip(chip)
    if times is None:
        return [Kind(chip, kind, None)]
    return [Kind(f"{chip} at {word}", kind, time_s, time_s) for word, time_s in parse_times(times).items()]


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


def setting_of(
    metric: str,
    seed: int,
    select: list[str] | None,
    read_block: int | None,
    request: Request,
    executor: str,
    resume: Path | None,
) -> Setting:
    """How trials are run, from the options."""
    choose("--metric", metric, METRICS)
    return {
        "metric": metric,
        "seed": seed,
        "select": select or None,
        "read_block": read_block,
        "norm_data": request.norm_data(),
        "executor": _executor(executor) if resume is None else Kept(resume, _executor(executor)),
    }


def faster(setting: Setting, model: nn.Module, data: Data, autocast: str | None, compiled: bool) -> Layout | None:
    """The layout for a lower precision or a compiled model; None where neither is asked for."""
    if autocast is not None:
        choose("--autocast", autocast, PRECISIONS)
    elif not compiled:
        return None
    return (setting.get("executor") or Serial()).layout(model, data, autocast=autocast, compiled=compiled)


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
            Console(stderr=True).print("Stopped: finished chips are kept. Repeat the command to go on.")
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


IN_OPTIONS = {
    "executor=None": "--executor serial",
    "layout.plain": "neither --autocast nor --compiled",
    "`layout`": "a layout",
    "`sensitivity`": "sensitivity",
    "`Kept`": "--resume",
}
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
