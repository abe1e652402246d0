"""Trials that are saved in a folder as they come, so that an evaluation that was interrupted goes on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

import samson
from samson._errors import require
from samson._shown import plain
from samson.evaluation._scoring import Scores, device_of
from samson.evaluation._task import Task
from samson.evaluation.executors._base import Executor, Finished, Serial, on_its_own
from samson.evaluation.executors._facts import digest_of, digest_of_weights, facts_of
from samson.records import PLAN, RecordError, read_json, replace_file, write_json

T = TypeVar("T")
LONGEST = 80
"""Characters of a folder's name."""


@dataclass(frozen=True)
class Manifest:
    """What the trials in a folder are of: each thing that decides them, in words or as a hash of its bits."""

    facts: dict[str, str]
    version: int = 3

    @classmethod
    def of(cls, task: Task) -> Manifest:
        """The manifest of a task."""
        data, norm_data = (None if b is None else digest_of(b) for b in (task.batches, task.norm_batches))
        device = device_of(task.model)
        facts = {
            "model": digest_of_weights(task.model),
            "batches": data,
            "norm_batches": norm_data,
            "samson": samson.__version__,
            "source": source(Path(samson.__file__).parent),
            "machine": f"{platform.system()} {platform.machine()}",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
        return cls({name: plain(value) for name, value in facts.items()} | facts_of(task))


@dataclass(eq=False)
class Kept(Executor):
    """Runs trials elsewhere and saves each in a folder as soon as it is there; those that are there are not run again.

    An evaluation that was interrupted goes on where it stopped when it is started again, and one with more trials takes
    the first from the folder. The result is that of one that was never interrupted, bit for bit. A question in several
    parts, such as levels of noise or several models, has a folder for each within this one.

    A folder has a `manifest.json` that says what its trials are of: the bits of model and data, noise, periphery,
    layers on the chip, metric, seed, layout, versions, samson's own source, kind of machine, and torch's settings that
    change results. Another evaluation is refused, with what differs. Noise, periphery and the model's layers count by
    their `repr`, a metric by what its function or its accumulator holds: **a change in code of your own is not
    noticed**, nor is an attribute that a `repr` leaves out. After one, use another folder. Inputs into which a model
    writes, as graphs that keep what was computed, are other data from then on; so are objects of a metric that gather.

    With `Torchrun`, the folder of rank 0 counts.

    Args:
        folder: Where trials are saved; it is made if need be, and may be deleted when no evaluation uses it.
        executor: Where trials run.

    Raises:
        ValueError: If `folder` is something else; when run, if its trials are of another evaluation, or the model is
            sharded.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from samson.evaluation import evaluate
        >>> from samson.noise import Gaussian
        >>> model, data = nn.Linear(4, 3), (torch.randn(64, 4), torch.randint(3, (64,)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = evaluate(model, data, Gaussian(0.1), trials=5, executor=Kept(folder))
        ...     more = evaluate(model, data, Gaussian(0.1), trials=10, executor=Kept(folder))  # runs five
        >>> more.trials[:5] == first.trials
        True
    """

    folder: Path | str
    executor: Executor = field(default_factory=Serial)

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path) or not isinstance(self.executor, Executor):
            raise TypeError(
                f"`folder` must be a path, and `executor` an executor, got {self.folder!r:.80} and "
                f"{self.executor!r:.80}."
            )
        self.folder = Path(self.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"`folder` must be a folder, or not be there yet, got the file {str(self.folder)!r}.")
        taken = any(Path(self.folder, name).exists() for name in (PLAN, "training.json"))
        mend = "It is that of a comparison or a training. Give another folder."
        require(not taken, "`folder`", "for trials alone", str(self.folder), mend)

    @property
    def name(self) -> str:
        """That of where trials run."""
        return self.executor.name

    def broadcast(self, compute: Callable[[], T]) -> T:
        """As the executor that runs the trials does."""
        return self.executor.broadcast(compute)

    def named(self, name: str) -> Self:
        """The folder of this name within this one."""
        safe = quote(name, safe=" +=,")
        if not safe.strip("."):  # this folder, or the one above
            safe = f"%{safe}"
        if len(safe) > LONGEST:
            safe = f"{safe[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
        return replace(self, folder=Path(self.folder, safe))

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Take them from the folder, and run the others."""
        task = on_its_own(task)
        found = self.executor.broadcast(lambda: self._opened(task, numbers))
        yield {number: from_bytes(data) for number, data in found.items()}
        # Also where none is missing: ranks compare what they evaluate.
        for rows in self.executor.finished(task, [number for number in numbers if number not in found]):
            self.executor.broadcast(partial(self._save, rows))
            yield rows

    def _opened(self, task: Task, numbers: Sequence[int]) -> dict[int, bytes]:
        """What the folder holds of these trials, after a look at its manifest."""
        path, own = Path(self.folder, "manifest.json"), Manifest.of(task)
        if not path.exists():
            if next(path.parent.glob("*.npy"), None):
                raise ValueError(
                    f"`folder` {str(self.folder)!r} holds trials without the manifest.json that says what they are of. "
                    "Give another folder, or delete this one."
                )
            write_json(path, own)
            return {}
        try:
            there = read_json(path, Manifest)
        except RecordError as error:
            raise ValueError(f"`folder` {error} Delete it, or give another one.") from error
        if there != own:
            names = {**there.facts, **own.facts}
            differ = [name for name in names if there.facts.get(name) != own.facts.get(name)]
            raise ValueError(
                f"`folder` {str(self.folder)!r} holds trials of another evaluation; different: {', '.join(differ)}. "
                "Give another folder, or delete this one."
            )
        files = {number: _whole(Path(self.folder, f"{number}.npy")) for number in numbers}
        return {number: data for number, data in files.items() if data is not None}

    def _save(self, rows: Finished) -> None:
        for number, row in rows.items():
            replace_file(Path(self.folder, f"{number}.npy"), as_bytes(row))


@cache
def source(folder: Path) -> str:
    """A hash over the Python files in a folder: a checkout keeps its version between commits. Taken once."""
    found = sha256()
    for path in filter(Path.is_file, sorted(folder.rglob("*.py"))):  # an editor's lock may be a link to nowhere
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def as_bytes(found: Scores) -> bytes:
    """Scores as an `.npy` file, with their dtype and shape, which needs no unpickling."""
    file = BytesIO()
    np.save(file, np.asarray(found), allow_pickle=False)
    return file.getvalue()


def from_bytes(data: bytes) -> Scores:
    """The scores again; what follows them is not read.

    Example:
        >>> from_bytes(as_bytes(np.array([True, False]))), from_bytes(as_bytes(0.5))
        (array([ True, False]), 0.5)
    """
    values: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    return values if values.ndim else float(values)


def _whole(path: Path) -> bytes | None:
    """What a file holds; None where it is not there or damaged: its trial is run again."""
    try:
        data = path.read_bytes()
        from_bytes(data)
    except (OSError, ValueError, EOFError):
        return None
    return data
