"""Trials that are kept in a folder as they come, so that an evaluation that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from samson.evaluation.data import Data, is_pair
from samson.evaluation.executors.base import Executor, Finished, Serial, alone, on_its_own
from samson.evaluation.executors.batched import Batched
from samson.evaluation.executors.exchange import as_bytes, from_bytes
from samson.evaluation.executors.identity import Fact, facts_of
from samson.evaluation.fingerprint import fingerprint
from samson.evaluation.layout import Layout, find_layout, layout_key
from samson.evaluation.task import Task
from samson.records import RecordError, read_json, replace_file, write_json

T = TypeVar("T")

DIGEST = sha256().digest_size
"""Bytes of the checksum at the end of a file."""


@dataclass(eq=False)
class Kept(Executor):
    """Runs trials elsewhere and keeps each in a folder as soon as it is there; those that are there are not run again.

    An evaluation that was interrupted goes on where it stopped when it is started again, and one with more trials takes
    the first from the folder. The result is that of one that was never interrupted, bit for bit. One folder may hold
    the trials of any number of evaluations: each task has a folder of its own there, named after a hash of all that
    decides its trials (`facts_of`), which `task.json` shows. A file that is damaged is not trusted, and several
    processes may use a folder at once. The layout that was found is kept too, since another process might find another.

    A task is known again by the values and settings of model, data, noise and metric, by the code of their classes and
    functions, and by the torch, settings and kind of machine that this process has. What cannot be told is in
    `fingerprint`: after a change in a function that these call, use another folder. A model that changes attributes of
    its own as it runs, such as a counter, may be taken for another, and its trials run again.

    With `Torchrun`, the folder of rank 0 counts. Over `Batched` the result is the same up to rounding: chips that are
    missing are run in other groups.

    Args:
        folder: Where trials are kept; it is made if need be, and may be deleted when no evaluation uses it.
        executor: Where trials run.

    Raises:
        ValueError: If `folder` is something else; when run, if the data are other ones each time they are run through,
            something in model, data, noise or metric does not show what it holds, or the model is sharded.

    Example:
        >>> import tempfile, torch
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
    _keys: WeakKeyDictionary[Task, tuple[str, str]] = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    def __post_init__(self) -> None:
        if Path(self.folder).exists() and not Path(self.folder).is_dir():
            raise ValueError(f"`folder` must be a folder, or not be there yet, got the file {str(self.folder)!r}.")

    def finished(self, task: Task, numbers: Sequence[int]) -> Iterator[Finished]:
        """Take them from the folder, and run the others."""
        task = on_its_own(task)
        found = self.executor.agree(lambda: self._found(task, numbers))
        yield {number: from_bytes(data) for number, data in found.items()}
        # Also where none is missing: ranks compare what they evaluate.
        for rows in self.executor.finished(task, [number for number in numbers if number not in found]):
            self.executor.agree(partial(self._keep, task, rows))
            yield rows

    def agree(self, find: Callable[[], T]) -> T:
        """As where the trials run."""
        return self.executor.agree(find)

    def layout(self, model: nn.Module, data: Data, *, autocast: str | None = None, compiled: bool = False) -> Layout:
        """The one that was found for such a model and such data before, or else now."""
        whole = alone(model)
        found = self.executor.agree(lambda: self._layout(whole, data, autocast))
        return replace(found, autocast=autocast, compiled=compiled)

    def _layout(self, model: nn.Module, data: Data, autocast: str | None) -> Layout:
        if not is_pair(data):
            return find_layout(model, data, autocast=autocast)
        path = Path(self.folder, "layouts", f"{fingerprint(layout_key(model, data, autocast))}.json")
        with suppress(RecordError):
            return read_json(path, Layout)
        layout = find_layout(model, data, autocast=autocast)
        with suppress(RecordError):  # another process may have written one meanwhile
            return read_json(path, Layout)
        write_json(path, layout)
        return layout

    def _found(self, task: Task, numbers: Sequence[int]) -> dict[int, bytes]:
        """What the folder holds of these trials, whole."""
        return {number: data for number in numbers if (data := self._read(task, number)) is not None}

    def _read(self, task: Task, number: int) -> bytes | None:
        try:
            content = self._path(task, number).read_bytes()
        except OSError:
            return None
        data, check = content[:-DIGEST], content[-DIGEST:]
        return data if check == self._check(task, number, data) else None

    def _keep(self, task: Task, rows: Finished) -> None:
        about = self._path(task, 0).with_name("task.json")
        if not about.exists():
            about.parent.mkdir(parents=True, exist_ok=True)
            replace_file(about, self._keys[task][1].encode())
        for number, row in rows.items():
            data = as_bytes(row)
            replace_file(self._path(task, number), data + self._check(task, number, data))

    def _check(self, task: Task, number: int, data: bytes) -> bytes:
        return sha256(f"{self._key(task)} {number} ".encode() + data).digest()

    def _path(self, task: Task, number: int) -> Path:
        return Path(self.folder, self._key(task), f"{number}.npy")

    def _key(self, task: Task) -> str:
        """The name of the task's folder."""
        if task not in self._keys:
            facts = facts_of(task)
            if isinstance(self.executor, Batched):  # rounds in its own way
                facts["executor"] = Fact(repr(self.executor), fingerprint(repr(self.executor)))
            key = fingerprint({name: fact.fingerprint for name, fact in facts.items()})
            shown = {name: f"{fact.words} [{fact.fingerprint}]" for name, fact in facts.items()}
            self._keys[task] = key, json.dumps(shown, indent=1, ensure_ascii=False)
        return self._keys[task][0]
