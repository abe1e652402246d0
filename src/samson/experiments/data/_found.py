"""Data from a user's own code or files: put into the common form, and checked before any compute starts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from samson._batches import is_pair
from samson._errors import SetupError, choose, require
from samson.experiments.data._augment import AUGMENTATIONS
from samson.experiments.data._files import channels_first
from samson.experiments.data._loading import Pair, first_example
from samson.experiments.data._splits import SPLITS, TASKS, Split, Splits, length, split_off

FORM = "a dictionary with train and test, or a Splits"
MEND = "Return {'train': (inputs, targets), 'test': (inputs, targets)}."
KEYS = (*SPLITS, "outputs", "classes", "task", "mean", "std", "augment")
IGNORED = -100
"""A token's target that does not count, by torch's convention."""


def splits_from(found: object) -> Splits:
    """Splits from what a user's function returns.

    Args:
        found: A `Splits`; or a dictionary with `train`, `test` and possibly `validation`, each a pair of tensors or
            arrays, or a data set of torch with a length. Possible further keys are those of `Splits`, and `classes` for
            `outputs`. If no `task` says so, float targets mean regression, an integer for each token or step language,
            and any other row or map of integers a task of one's own, for which `outputs` must be given. Images may
            have their channels last, or none. A `validation` that is not given is a tenth of `train`.

    Raises:
        SetupError: If it is nothing of this, or breaks a rule of `Splits`.
    """
    if isinstance(found, Splits):
        return checked(found)
    if not isinstance(found, Mapping):
        raise SetupError(f"`data` must be {FORM}, got {type(found).__name__}.\n{MEND}")
    require({"train", "test"} <= set(found), "`data`", FORM, list(found), MEND)
    given = {choose("`data`: in the dictionary", str(key), KEYS): value for key, value in found.items()}
    parts = {name: _split(given[name], name) for name in SPLITS if given.get(name) is not None}
    task = choose("`data`: the task", given.get("task") or _task(parts["train"]), TASKS)
    said = next((given[name] for name in ("outputs", "classes") if given.get(name) is not None), None)
    outputs = _outputs(parts["train"], task) if said is None else int(said) if isinstance(said, Integral) else said
    if "validation" not in parts:
        parts["train"], parts["validation"] = split_off(parts["train"])
    mean, std = (_numbers(given.get(name), name) for name in ("mean", "std"))
    augment = tuple(given.get("augment") or ())
    return checked(Splits(**parts, outputs=outputs, task=task, mean=mean, std=std, augment=augment))


def checked(splits: Splits) -> Splits:
    """The splits themselves, if they keep to every rule; what their targets may be, the task decides (`check_targets`).

    Raises:
        SetupError: Otherwise.
    """
    for name in splits.augment:
        choose("`data`: the augmentation", name, AUGMENTATIONS)
    counted = isinstance(splits.outputs, int) and splits.outputs > 0
    _require(counted, "outputs", "be a whole number, at least 1", splits.outputs)
    for name in SPLITS:
        split = getattr(splits, name)
        _require(is_pair(split) or isinstance(split, Dataset), name, "be a pair or a data set", type(split).__name__)
        if isinstance(split, Dataset):
            _require(length(split) > 0, name, "hold one example at least", 0)
        else:
            _check_counts(split[0], split[1], name)
            _check_inputs(split[0], name, splits)
    whole = len(splits.mean) == len(splits.std) and all(value > 0 for value in splits.std)
    _require(whole, "mean and std", "be as long as each other, with std > 0", (splits.mean, splits.std))
    fits = len(splits.mean) in (0, splits.shape[0] if splits.shape else 0)
    _require(fits, "mean and std", f"be one for each channel of inputs {splits.shape}", splits.mean)
    return splits


def _check_counts(inputs: Tensor, targets: Tensor, name: str) -> None:
    axes = min(inputs.ndim, targets.ndim)
    _require(axes > 0, name, "have an axis of examples", f"shapes {tuple(inputs.shape)} and {tuple(targets.shape)}")
    _require(len(inputs) == len(targets), name, f"have a target for each of {len(inputs)} inputs", len(targets))
    _require(len(inputs) > 0, name, "hold one example at least", 0)


def _check_inputs(inputs: Tensor, name: str, splits: Splits) -> None:
    dtype, axes = inputs.dtype, inputs.ndim
    known = (dtype, axes) in ((torch.uint8, 4), (torch.int64, 2)) or (dtype == torch.float32 and axes > 1)
    rule = "have inputs that are uint8 (n, channels, height, width), int64 (n, length) or float32"
    _require(known, name, rule, f"{dtype} {tuple(inputs.shape)}")
    same = tuple(inputs.shape[1:]) == splits.shape
    _require(same, name, f"have inputs of shape {splits.shape}, as the training split", tuple(inputs.shape[1:]))
    if dtype == torch.float32:
        _require(bool(inputs.isfinite().all()), name, "have finite inputs", "inf or nan")
    elif dtype == torch.int64:
        _require(int(inputs.min()) >= 0, name, "have tokens from 0", int(inputs.min()))


def check_tokens(splits: Splits) -> None:
    """Check that tokens in memory are of as many kinds as there are outputs, which our networks for text go by.

    Raises:
        SetupError: If they are not.
    """
    for name, (inputs, _) in _in_memory(splits):
        if inputs.dtype == torch.int64 and splits.task == "language":
            _check_numbers(inputs, name, "tokens", splits.outputs)


def check_targets(splits: Splits) -> None:
    """Check that targets in memory are such as the task of the data takes; of one's own, any are.

    Raises:
        SetupError: If they are not.
    """
    for name, split in _in_memory(splits):
        if splits.task != "own":
            _check_targets(split, name, splits)


def _in_memory(splits: Splits) -> list[tuple[str, Pair]]:
    """The splits that are pairs of tensors, with their names."""
    return [(name, split) for name in SPLITS if isinstance(split := getattr(splits, name), tuple)]


def _check_targets(split: Pair, name: str, splits: Splits) -> None:
    inputs, targets = split
    if splits.task == "regression":
        known = targets.is_floating_point() and targets.numel() == len(targets) * splits.outputs
        rule = f"have {splits.outputs} float targets an input"
        _require(known, name, rule, f"{targets.dtype} {tuple(targets.shape)}")
        _require(bool(targets.isfinite().all()), name, "have finite targets", "inf or nan")
    else:
        shape = inputs.shape[:2] if splits.task == "language" else inputs.shape[:1]
        known = targets.dtype == torch.int64 and targets.shape == shape
        rule = f"have integer targets of shape {tuple(shape)}"
        _require(known, name, rule, f"{targets.dtype} {tuple(targets.shape)}")
        measured = splits.task == "language" and name != "train"  # a mean over tokens, but batches weigh by examples
        counted = targets.where(targets != IGNORED, 0) if measured else targets
        _check_numbers(counted, name, "targets", splits.outputs)


def _check_numbers(numbers: Tensor, name: str, what: str, top: int) -> None:
    low, high = int(numbers.min()), int(numbers.max())
    _require(low >= 0 and high < top, name, f"have {what} from 0 to {top - 1}", f"{low} to {high}")


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise SetupError(f"`data`: `{name}` must {rule}, got {value}.\nMend the data, or what is said of them.")


def _split(part: Any, name: str) -> Split:
    """A pair of tensors in the types of `Splits`, or a data set with a length whose examples are tensors."""
    if isinstance(part, TensorDataset):
        part = part.tensors
    if isinstance(part, Dataset):
        sized = hasattr(part, "__len__") and not isinstance(part, IterableDataset)
        _require(sized, name, "be a data set with a length", type(part).__name__)
        _require(len(part) > 0, name, "hold one example at least", 0)  # type: ignore[arg-type]
        first = first_example(part)
        pair = isinstance(first, tuple | list) and len(first) == 2 and isinstance(first[0], Tensor)
        _require(pair, name, "give pairs of a tensor (several inputs in one) and a target", type(first).__name__)
        one = isinstance(first[1], Tensor | np.ndarray | np.generic | int | float)
        rule = "give as target a number or a tensor (several in one, which the loss cuts)"
        _require(one, name, rule, type(first[1]).__name__)
        return part
    known = isinstance(part, tuple | list) and len(part) == 2
    _require(known, name, "be a pair of tensors or arrays, or a data set of torch", type(part).__name__)
    try:
        inputs, targets = (_plain(torch.as_tensor(each).detach().cpu()) for each in part)
    except (TypeError, ValueError, RuntimeError) as error:
        mend = "Give tensors or arrays; several inputs as one tensor, which the network cuts, and so targets."
        raise SetupError(f"`data`: `{name}` cannot become tensors: {error}.\n{mend}") from error
    _check_counts(inputs, targets, name)
    if not targets.is_floating_point() and targets.shape[1:] == (1,):
        targets = targets.flatten()
    if targets.dtype == torch.uint8:
        targets = targets.to(torch.int64)
    return channels_first(inputs) if inputs.dtype == torch.uint8 or inputs.ndim == 4 else inputs, targets


def _numbers(given: Any, name: str) -> tuple[float, ...]:
    """A number, or several in whatever holds them; none for None."""
    try:
        return () if given is None else tuple(torch.as_tensor(given, dtype=torch.float64).flatten().tolist())
    except (TypeError, ValueError, RuntimeError) as error:
        raise SetupError(f"`data`: `{name}` cannot become numbers: {error}.\nGive one for each channel.") from error


def _plain(tensor: Tensor) -> Tensor:
    """In float32, int64 or uint8."""
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    return tensor if tensor.dtype in (torch.uint8, torch.bool) else tensor.to(torch.int64)


def _task(train: Split) -> str:
    inputs, targets = (train[0][0], train[1][0]) if isinstance(train, tuple) else first_example(train)
    first = torch.as_tensor(targets)
    if first.is_floating_point():
        return "regression"
    if not first.ndim:
        return "classification"
    tokens_or_steps = inputs.ndim == (2 if inputs.is_floating_point() else 1)
    return "language" if tokens_or_steps and first.shape == inputs.shape[:1] else "own"


def _outputs(train: Split, task: str) -> int:
    if isinstance(train, Dataset) or task == "own":
        what = "of torch" if isinstance(train, Dataset) else f"with targets of shape {tuple(train[1].shape)}"
        mend = "Add 'outputs': NUMBER to the dictionary; a file is then read by a function of yours."
        raise SetupError(f"`data`: a data set {what} must come with its number of outputs.\n{mend}")
    inputs, targets = train
    if task == "regression":
        return targets[0].numel()
    tokens = task == "language" and not inputs.is_floating_point()
    return 1 + int(torch.cat([inputs.flatten(), targets.flatten()]).max() if tokens else targets.max())
