"""A model and its data as a user asks for them, ready to be put on chips."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from samson._batches import Examples, repeatable
from samson._errors import SetupError, choose, require
from samson._factories import call_factory, find_factory, takes
from samson.evaluation import METRICS, DataSetMetric, ExampleMetric, as_metric
from samson.experiments._checkpoints import Checkpoint
from samson.experiments._models import load_model
from samson.experiments.data import DATA, SPLITS, Splits, load_splits, splits_from
from samson.records import RecordError, read_json

FORMS = f"one of {', '.join(DATA)}, MODULE:FUNCTION, FILE.npz, or FILE.safetensors with `inputs` and `targets`"


@dataclass(frozen=True)
class Request:
    """What a user asked to measure.

    Args:
        model: As for `load_model`.
        weights: As for `load_model`.
        pretrained: As for `load_model`.
        data: As for `load_data`; None takes that of a saved network.
        split: Of data that have splits; None takes `usual_split`.
        norms_on: Data from which batch-norm statistics are estimated anew on each chip, `SET/SPLIT` or as for `data`:
            of a dictionary of splits, `train`.
        data_root: Where files of a data set by name are looked for.
        usual_split: The split of those that have any, where `split` says nothing.
    """

    model: str
    weights: Path | None = None
    pretrained: bool = False
    data: str | None = None
    split: str | None = None
    norms_on: str | None = None
    data_root: Path = Path("data")
    usual_split: str = "test"

    @property
    def data_name(self) -> str:
        """What the data are called.

        Raises:
            SetupError: If none were named, and the model does not know its own.
        """
        data = self.data or _data_of(self.model)
        alone = ":" in data or data.endswith(".safetensors")  # may have no splits
        return data if alone and self.split is None else f"{data}/{self.split or self.usual_split}"

    def load(self) -> tuple[nn.Module, Examples]:
        """The model and its data.

        Raises:
            SetupError: If either is not to be had.
        """
        choose("`split`", self.split or self.usual_split, SPLITS)
        found: Splits | Examples | None = None
        if ":" in self.model and self.data is not None:  # the data may say how many outputs it must have
            found = _found(self.data, self.data_root)
        outputs = found.outputs if isinstance(found, Splits) else None
        model = load_model(self.model, self.weights, pretrained=self.pretrained, outputs=outputs)
        data = self.data or _data_of(self.model)
        if found is None:
            found = _found(data, self.data_root)
        return model, _part(found, data, self.split, self.usual_split)

    def norm_data(self) -> Examples | None:
        """The data of `norms_on`.

        Raises:
            SetupError: If they are not to be had.
        """
        if self.norms_on is None:
            return None
        name, _, split = self.norms_on.partition("/")
        if name not in DATA:
            return load_data(self.norms_on, root=self.data_root, usual_split="train")
        rule = "SET/train or SET/validation"
        require(bool(split), "`norms_on`", rule, self.norms_on, f"Write {name}/train.")
        split = choose("`norms_on`", split, ("train", "validation"))  # the test split chooses nothing
        return load_data(name, split, self.data_root)


def load_data(spec: str, split: str | None = None, root: Path = Path("data"), usual_split: str = "test") -> Examples:
    """Examples with their targets.

    Args:
        spec: As for `load_splits`. `MODULE:FUNCTION` may also return a pair of tensors, a DataLoader or a list of
            batches; and there may be a `.safetensors` file with the tensors `inputs` and `targets`.
        split: Of data that have splits: "test", "validation" or "train". None takes `usual_split`, and is all that
            data without splits have.
        root: Where files of a data set by name are looked for.
        usual_split: The split where `split` says nothing.

    Raises:
        SetupError: If there are no such data.
    """
    return _part(_found(spec, root), spec, split, usual_split)


def _found(spec: str, root: Path) -> Splits | Examples:
    """What a user names, whole."""
    if ":" in spec:
        return _of_code(spec)
    return _of_file(spec) if spec.endswith(".safetensors") else load_splits(spec, root)


def _part(found: Splits | Examples, spec: str, split: str | None, usual_split: str) -> Examples:
    if isinstance(found, Splits):
        return found.examples(split or usual_split)
    mend = "Leave it out, or return a dictionary with train and test."
    require(split is None, "`split`", f"left out for {spec!r}, which has no splits", split, mend)
    return found


def find_metric(spec: str) -> ExampleMetric | DataSetMetric:
    """A metric by name, or one of one's own.

    Args:
        spec: A name of `METRICS`, or `MODULE:NAME`: a metric as `as_metric` takes it, or what makes one without
            arguments, a function or a class.

    Raises:
        SetupError: If there is no such metric.

    Example:
        >>> find_metric("accuracy").bounds
        (0.0, 1.0)
    """
    if ":" not in spec:
        return METRICS[choose("`metric`", spec, (*METRICS, "MODULE:NAME"))]
    found = find_factory(spec, "`metric`")
    if (inspect.isroutine(found) or inspect.isclass(found)) and takes(found, ()):
        found = call_factory(spec, "`metric`")
    try:
        return as_metric(found)
    except (TypeError, ValueError) as error:
        raise SetupError(f"`metric` {spec!r}: {error}") from error


def _data_of(model: str) -> str:
    """The data set of a saved network."""
    require(model.endswith(".safetensors"), "`data`", FORMS, None, "Only a saved network knows its data.")
    try:
        data = read_json(Path(model).with_suffix(".json"), Checkpoint).data
    except RecordError as error:
        raise SetupError(f"{error}\nA checkpoint needs its `.json` file beside it.") from error
    # A file never names code to run, and no other file: only the command line does.
    mend = f"Its file names no code to run, and no other file: name it yourself, `data` {data}."
    require(data in DATA, "`data`", "given for this network", data, mend)
    return data


def _of_code(spec: str) -> Splits | Examples:
    """What a user's function returns."""
    found = call_factory(spec, "`data`")
    if isinstance(found, Splits) or (isinstance(found, Mapping) and set(SPLITS) & set(found)):
        return splits_from(found)
    require(isinstance(found, Iterable), "`data`", "a function that returns batches", found, f"Change {spec!r}.")
    return repeatable(found)


def _of_file(path: str) -> Examples:
    """The tensors of a file."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SetupError(f"`data` {path!r} cannot be read: {error}.\nCheck the path.") from error
    missing = [name for name in ("inputs", "targets") if name not in tensors]
    require(not missing, "`data`", "a file with `inputs` and `targets`", sorted(tensors), f"Add {missing}.")
    return tensors["inputs"], tensors["targets"]
