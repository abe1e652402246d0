"""A model and its data as a user asks for them, ready to be put on chips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from samson.evaluation import Budget, Evaluation, Setting
from samson.evaluation.data import Data, kept
from samson.evaluation.executors import executor_name
from samson.evaluation.scoring import device_of, value_of
from samson.evaluation.setting import Noise, prepare
from samson.experiments.checkpoints import Checkpoint
from samson.experiments.data import DATA
from samson.experiments.environment import environment
from samson.experiments.errors import SetupError, choose, require
from samson.experiments.factories import call_factory
from samson.experiments.models import load_model
from samson.records import BudgetRecord, Environment, Estimate, Measured, RecordError, Subject, read_json

SPLITS = ("test", "validation", "train")
FORMS = f"one of {', '.join(DATA)}, MODULE:FUNCTION, or FILE.safetensors with `inputs` and `targets`"


@dataclass(frozen=True)
class Request:
    """What a user asked to measure.

    Args:
        model: As for `load_model`.
        weights: As for `load_model`.
        pretrained: As for `load_model`.
        data: As for `load_data`; None takes that of a saved network.
        split: Of a data set by name.
        norms_on: Data from which batch-norm statistics are estimated anew on each chip, `SET/SPLIT` or as for `data`.
    """

    model: str
    weights: Path | None = None
    pretrained: bool = False
    data: str | None = None
    split: str = "test"
    norms_on: str | None = None

    def load(self) -> tuple[nn.Module, Data, str]:
        """The model, its data, and what the data are called.

        Raises:
            SetupError: If either is not to be had.
        """
        choose("--split", self.split, SPLITS)
        model = load_model(self.model, self.weights, pretrained=self.pretrained)
        data = self.data or _data_of(self.model)
        named = f"{data}/{self.split}" if data in DATA else data
        return model, load_data(data, self.split), named

    def norm_data(self) -> Data | None:
        """The data of `norms_on`.

        Raises:
            SetupError: If they are not to be had.
        """
        if self.norms_on is None:
            return None
        name, _, split = self.norms_on.partition("/")
        if name not in DATA:
            return load_data(self.norms_on)
        return load_data(name, choose("--norms-on", split, ("train", "validation")))  # the test split chooses nothing


def load_data(spec: str, split: str = "test") -> Data:
    """Examples with their targets.

    Args:
        spec: A data set by name; `MODULE:FUNCTION`, a function that returns a pair of tensors, a DataLoader or a list
            of batches; or a `.safetensors` file with the tensors `inputs` and `targets`.
        split: Of a data set by name: "test", "validation" or "train".

    Raises:
        SetupError: If there are no such data.
    """
    if ":" in spec:
        found = call_factory(spec, "--data")
        require(isinstance(found, Iterable), "--data", "a function that returns batches", found, f"Change {spec!r}.")
        return kept(found)
    if spec.endswith(".safetensors"):
        try:
            tensors = load_file(spec)
        except (OSError, SafetensorError) as error:
            raise SetupError(f"--data {spec!r} cannot be read: {error}.\nCheck the path.") from error
        missing = [name for name in ("inputs", "targets") if name not in tensors]
        require(not missing, "--data", "a file with `inputs` and `targets`", sorted(tensors), f"Add {missing}.")
        return tensors["inputs"], tensors["targets"]
    found = DATA[choose("--data", spec, (*DATA, "MODULE:FUNCTION", "FILE.safetensors"))]()
    return getattr(found, split)  # type: ignore[no-any-return]


def _data_of(model: str) -> str:
    """The data set of a saved network."""
    require(model.endswith(".safetensors"), "--data", FORMS, None, "Only a saved network knows its data.")
    try:
        return read_json(Path(model).with_suffix(".json"), Checkpoint).data
    except RecordError as error:
        raise SetupError(f"{error}\nA checkpoint needs its `.json` file beside it.") from error


def noise_free(model: nn.Module, data: Data, noise: Noise, setting: Setting) -> float:
    """The value without noise."""
    return value_of(prepare(model, data, noise, **setting).task.clean())


def measured(label: str, noise: Any, level: float | None, found: Evaluation) -> Measured:
    """The record of one evaluation."""
    estimate = Estimate(**vars(found.interval))
    check = None if found.check is None else found.check.record()
    return Measured(label, repr(noise), level, found.trials, estimate, found.worst, check)


def subject_of(request: Request, data: str, found: Evaluation, setting: Setting) -> Subject:
    """The record of what was measured."""
    select = setting.get("select")
    return Subject(
        model=request.model,
        weights=None if request.weights is None else str(request.weights),
        data=data,
        examples=None if found.examples is None else found.examples.examples,
        metric=found.metric.name,
        higher_is_better=found.metric.higher_is_better,
        about=found.about,
        confidence=found.confidence,
        chip_seed=setting.get("seed", 0),
        select=tuple(select) if isinstance(select, (list, tuple)) else (),
        read_block=setting.get("read_block"),
        norms_on=request.norms_on,
        batch_size=found.layout.batch_size,
        channels_last=found.layout.channels_last,
        autocast=found.layout.autocast,
        executor=executor_name(setting.get("executor")),
        compiled=found.layout.compiled,
    )


def stamp(model: nn.Module) -> tuple[Environment, str]:
    """What this runs on, and when."""
    return environment(device_of(model).type), datetime.now(UTC).isoformat(timespec="seconds")


def budget_record(
    request: Request,
    data: str,
    family: str,
    make: Callable[[float], Any],
    found: Budget,
    setting: Setting,
    model: nn.Module,
) -> BudgetRecord:
    """The record of a budget."""
    rows = tuple(measured(f"{level:.3g}", make(level), level, e) for level, e in found.evaluations.items())
    ends = (found.interval.mean, found.interval.low, found.interval.high)
    return BudgetRecord(
        subject_of(request, data, next(iter(found.evaluations.values())), setting),
        family,
        found.unit,
        found.low,
        found.high,
        found.max_drop,
        found.relative,
        found.criterion,
        found.min_yield,
        found.clean,
        rows,
        found.holds_up_to,
        tuple(end if math.isfinite(end) else None for end in ends),
        found.voltage,
        *stamp(model),
        found.energy_saved,
    )
