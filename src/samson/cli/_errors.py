"""Errors in the words of the command line, found before any compute starts where that can be."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from samson._errors import SetupError, require
from samson.cli._showing import console, speaks


class FileError(SetupError):
    """What is wrong in a file, in the words of the file, which are not those of options."""


def require_writable(
    parameter: str,
    path: Path | None,
    read: Sequence[str | Path | None] = (),
    suffix: str = "",
    mend: str = "Give another file.",
) -> None:
    """Refuse a file that cannot be written, is read or has another suffix, before anything is computed.

    Args:
        parameter: The option.
        path: The file.
        read: What the command reads; beside a `.safetensors` its `.json` too.
        suffix: Of the file, if it must have one.
        mend: What to do then.

    Raises:
        SetupError: If it is so.
    """
    if path is None:
        return
    files = [Path(one) for one in read if one]
    files += [one.with_suffix(".json") for one in files if one.suffix == ".safetensors"]
    require(path.resolve() not in [one.resolve() for one in files], parameter, "no file that is read", str(path), mend)
    require(not path.is_dir(), parameter, "a file", str(path), mend)
    named = not suffix or path.suffix == suffix
    require(named, parameter, f"a {suffix} file", str(path), f"Write {path.with_suffix(suffix)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SetupError(f"{parameter}: {str(path)!r} cannot be written: {error.strerror}.\n{mend}") from error


@contextmanager
def explained(model: str, resume: Path | None = None, calibration: Path | None = None) -> Iterator[None]:
    """What the library or the model refuses is bad input of the user's; after an interruption, say how to go on.

    Args:
        model: What a user called the model.
        resume: The folder that keeps chips.
        calibration: The file from which ranges and bounds come.
    """
    try:
        yield
    except KeyboardInterrupt:
        if resume is not None and speaks():
            console(stderr=True).print("Stopped: finished chips are saved. Repeat the command to go on.")
        raise
    except (ValueError, TypeError) as error:
        said = str(error)
        if calibration is not None and said.startswith(("`input_ranges`", "`adc_bounds`")):
            said = f"--calibration {str(calibration)!r}: {said}"
        raise SetupError(said) from error
    except (RuntimeError, IndexError) as error:  # the latter of a token that a network does not know
        if str(error).startswith("`"):
            raise SetupError(str(error)) from error
        raise SetupError(
            f"MODEL {model!r} raised {type(error).__name__}: {str(error).strip()}\nGive data that it can take."
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if resume is None or full or not _is_below(error.filename, resume):
            raise
        raise SetupError(
            f"--resume must be a folder that can be written, got {str(resume)!r}: {error.strerror}.\nGive another one."
        ) from error


def _is_below(path: object, folder: Path) -> bool:
    return isinstance(path, str) and Path(path).absolute().is_relative_to(folder.absolute())


IN_OPTIONS = {
    "executor=None": "--executor serial",
    "`folder`": "--resume",
    "`time_s`": "--times",
    "`model`": "MODEL",
    "`batches`": "--data",
    "`chips`": "--noise",
    "`executor` Torchrun": "--executor torchrun",
    "`executor` Ray": "--executor ray",
    "Start the script with: torchrun --nproc-per-node 2 my_script.py": "Write torchrun --nproc-per-node 2 -m samson …",
}
"""Words of the library by those of the command line."""
OPTIONS = (
    *("data", "metric", "seed", "select", "read_block", "autocast", "executor", "trials", "precision", "max_trials"),
    *("about", "low", "high", "max_drop", "relative", "criterion", "min_yield", "weights", "pretrained", "split"),
    *("data_root", "norms_on", "noise", "levels", "chip", "times", "calibration", "methods", "set", "base", "network"),
    *("train", "examples", "seeds", "steps", "find_rho", "out", "log", "device", "parallel"),
)
"""Arguments of the library that are options by the same names."""


def as_options(message: str) -> str:
    """An error of the library in the words of the command line; a name after a colon is of something else, and stays.

    Example:
        >>> as_options("`max_trials` must be at least 2, got 1.")
        '--max-trials must be at least 2, got 1.'
    """
    for word, other in IN_OPTIONS.items():
        message = re.sub(f"(?<!: ){re.escape(word)}", other, message)
    return re.sub(rf"(?<!: )`({'|'.join(OPTIONS)})`", lambda found: "--" + found[1].replace("_", "-"), message)
