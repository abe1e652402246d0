"""Where the files of a data set lie, what is said where they do not, and packages that only some sets need."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samson._errors import SetupError, installing


def find(data: str, root: Path, folders: Sequence[str], names: Sequence[str], page: str) -> Path:
    """The first file or folder there is of some names in some folders.

    Args:
        data: What the data set is called in the error.
        root: The folder that the others are in.
        folders: Where to look, in this order; "" is the root itself.
        names: What to look for in each, in this order.
        page: Where to get it.

    Raises:
        SetupError: If there is none.
    """
    places = [root / folder for folder in folders]
    for place in places:
        for name in names:
            if (place / name).exists():
                return place / name
    raise SetupError(
        f"`data` {data!r} needs one of these files, and found none: {', '.join(names)}.\n"
        f"Looked in {', '.join(map(str, places))}.\nGet it from {page}, or set another folder with `data_root`."
    )


_DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile),
    *(RuntimeError, MemoryError),  # a password or a way of packing that is not known; a size that is a lie
)
"""What readers raise that stumble over a damaged file."""


@contextmanager
def reading(path: Path, mend: str) -> Iterator[None]:
    """Turn what goes wrong inside the block into an error that names the file."""
    try:
        yield
    except SetupError:
        raise
    except _DAMAGED as error:
        raise SetupError(f"`data`: {str(path)!r} cannot be read: {error}.\n{mend}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an `.npz` file; one with Python objects, which could run code, is refused.

    Raises:
        SetupError: If it cannot be read.
    """
    mend = "Write it with numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)."
    with reading(path, mend), path.open("rb") as file:
        if not zipfile.is_zipfile(path):  # numpy would take it for a pickle, and say how to run it
            raise ValueError("it is no `.npz` file")
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise ValueError("it holds Python objects, which could run code") from error
            raise


def channels_first(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) from ones (n, height, width) or with channels last, which are 1, 3 or 4."""
    if images.ndim == 3:
        return images.unsqueeze(1)
    last = images.ndim == 4 and images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3, 4)
    return images.permute(0, 3, 1, 2).contiguous() if last else images


def package(name: str, what: str, extra: str = "data", parameter: str = "`data`") -> Any:
    """Import a module that is installed with an extra only.

    Args:
        name: The module.
        what: What needs it.
        extra: Which brings it.
        parameter: What errors call that with which a user asked for it.

    Raises:
        SetupError: If it is not there, with the way to install it, or cannot be imported.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        top = (error.name or name).partition(".")[0]
        raise SetupError(f"{parameter}: {what} needs {top}.\nInstall it: {installing(extra)}.") from error
    except (ImportError, RuntimeError) as error:  # a build of torchvision that belongs to another torch
        raise SetupError(
            f"{parameter}: {what} needs {name}, which cannot be imported: {error}.\n"
            f"Install it again, of torchvision the build that belongs to torch {torch.__version__}."
        ) from error
