"""A problem of a comparison: its data set, network, task and methods, tried together before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from samson._errors import SetupError, choose, reason, require
from samson._factories import find_factory, guarded, is_plain, spec_of, takes
from samson.evaluation import Noise, as_metric
from samson.experiments._chips import Chips
from samson.experiments._defaults import TUNED_FOR
from samson.experiments._method import Method
from samson.experiments._methods import parse_methods
from samson.experiments._networks import make_network
from samson.experiments._recipes import FIELDS, RECIPES, Recipe
from samson.experiments._tasks import TASKS, Task
from samson.experiments.data import Splits, length, load_splits
from samson.noise import ChipModel, deploy, on_chip
from samson.records import Problem

METHODS = ("sgd", "noise", "clip", "sam", "asam", "samson", "samson+clip")
"""The methods of a comparison that names none."""

Table = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedProblem:
    """A problem, with the methods that are compared on it, and its number of test examples."""

    record: Problem
    recipe: Recipe
    methods: tuple[Method, ...]
    examples: int

    @property
    def select(self) -> tuple[str, ...] | None:
        """Which layers lie on the chips, as chips take it."""
        return self.record.select or None


def plan_problem(
    asked: Table, data: str, network: str, root: Path, families: Sequence[Chips], *, alone: bool
) -> PlannedProblem:
    """Check a problem as a file has it, and try its parts together.

    Args:
        asked: Its keys.
        data: The data set.
        network: The network.
        root: Where files of data are looked for.
        families: Families of chips that must carry the network.
        alone: Whether it is the only one of these keys, which may have a `name`.

    Raises:
        SetupError: Names the parameter, the value, the rule and the mend.
    """
    splits = load_data_set(data, root)
    task_name = spec_of(asked.get("task", splits.task), "task")
    metric = as_metric(make_task(task_name).metric)
    base = asked.get("base", "AdamW" if task_name == "language" else "SGD")
    trainer = spec_of(asked.get("train", "samson"), "`train`")
    if trainer != "samson":
        find_trainer(trainer)
    recipe = _recipe(asked.get("recipe", {}), data, splits)
    default = METHODS if base == "SGD" else ("plain", *METHODS[1:])
    given = [{"method": one} if callable(one) else one for one in listed(asked, "methods", default)]
    methods = parse_methods(given, asked.get("set", {}), base, data if network == TUNED_FOR else None)
    select = _select(asked)
    mend = "Give each a table of its own in `problems`."
    require(
        alone or "name" not in asked, "`name`", "left out with several data sets or networks", asked.get("name"), mend
    )
    name = asked.get("name", f"{_label(data)}-{_label(network)}")
    require(is_plain(name), "`name` of a problem", "letters, digits and any of -_.+", name, "It names a folder.")
    problem = PlannedProblem(
        Problem(
            name=name,
            data=data,
            network=network,
            task=task_name,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            is_fraction=metric.bounds == (0, 1),
            base=base,
            trainer=trainer,
            recipe=recipe.record(),
            select=select,
        ),
        recipe,
        tuple(dataclasses.replace(method, select=select) for method in methods),
        length(splits.test),
    )
    _try(problem, splits, families)
    return problem


def _try(problem: PlannedProblem, splits: Splits, families: Sequence[Chips]) -> None:
    """Put two examples through the network, and make every optimizer, as a training would."""
    record = problem.record
    model = make_network(record.network, splits.shape, splits.outputs, seed=0)
    inputs, targets = _two(splits)
    ours = record.trainer == "samson"
    lazy = any(map(is_lazy, model.state_dict(keep_vars=True).values()))
    mend = "Take layers that are not lazy, or put an example through it before it is returned."
    require(not (ours and lazy), "`network`", "of layers that know their sizes", record.network, mend)
    try:
        with torch.no_grad():
            outputs, task = model.eval()(inputs), make_task(record.task)
            if ours:
                task.loss(outputs.float(), targets, problem.recipe.label_smoothing)
            else:
                task.loss(outputs, targets)
    except Exception as error:  # whatever a network, or a task of one's own, may raise
        tokens = " Whole numbers are tokens: give measurements as floats." if inputs.dtype == torch.int64 else ""
        raise SetupError(
            f"`network` {record.network!r} cannot be trained on {record.data!r}, whose examples are of shape "
            f"{splits.shape}: {reason(error)}\n"
            f"Take a network, or a task, for such data.{tokens}"
        ) from error
    try:
        on_chip(model, problem.select)
    except ValueError as error:
        raise SetupError(f"`select` with the network {record.network!r}: {error}") from error
    _try_methods(problem, model, inputs)
    for family in families:
        for kind in family.kinds:
            try:
                with torch.no_grad(), deploy(model, _bounded(kind.noise), select=problem.select).at(kind.time_s):
                    model(inputs)
            except Exception as error:  # whatever a noise of one's own may raise
                raise SetupError(
                    f"chips: {kind.label} cannot carry the network {record.network!r}: {reason(error)}\n"
                    "Take other chips, or other times."
                ) from error


def _try_methods(problem: PlannedProblem, model: nn.Module, inputs: torch.Tensor) -> None:
    record = problem.record
    for method in problem.methods:
        if method.distils:
            suits = record.trainer == "samson" and record.task in ("classification", "language")
            mend = "Leave it out, or write a trainer of your own that distils."
            require(
                suits, "`methods`", "without distillation but for classes, in our own training loop", method.name, mend
            )
        for choice in method.grid():
            try:
                built = method.with_settings(choice).build(model, data=[(inputs,)])
                if built.through is not None:
                    built.through.remove()
            except SetupError:
                raise
            except Exception as error:  # whatever a method of one's own may raise
                raise SetupError(
                    f"`methods` {method.name} with the network {record.network!r} raised {reason(error)}\n"
                    "Mend it, or its settings."
                ) from error


def _select(asked: Table) -> tuple[str, ...]:
    """Patterns of the layers that lie on the chips; none for the default."""
    given = asked.get("select", ())
    patterns = (given,) if isinstance(given, str) else given
    known = isinstance(patterns, (list, tuple)) and all(isinstance(one, str) for one in patterns)
    require(known, "`select`", "a pattern of names, or a list of these", given, 'Write for example select = "!fc*".')
    return tuple(patterns)


def _bounded(noise: Noise) -> Noise:
    """The chip with any bound of its ADCs where theirs is yet to be calibrated."""
    if not isinstance(noise, ChipModel) or noise.periphery is None or not noise.periphery.lacks_bounds:
        return noise
    around = dataclasses.replace(noise.periphery, adc_bound=1.0)
    return dataclasses.replace(noise, periphery=around)


def _two(splits: Splits) -> tuple[torch.Tensor, torch.Tensor]:
    """A training example, twice: a network may want more than one."""
    (inputs, targets) = next(splits.batches(1, seed=0, epoch=0, device="cpu", augment=(), workers=0))
    return torch.cat([inputs, inputs]), torch.cat([targets, targets])


def _recipe(asked: Any, data: str, splits: Splits) -> Recipe:
    require(isinstance(asked, Mapping), "recipe", "a table", asked, "Write [recipe] and its keys below.")
    start = RECIPES.get(data, Recipe())
    values: dict[str, Any] = {}
    for key, value in asked.items():
        kind = FIELDS[choose("recipe", key, FIELDS)]
        fits = type(value) is kind or (kind is float and type(value) is int)
        require(fits, f"recipe.{key}", f"of type {kind.__name__}", value, f"The default is {getattr(start, key)!r}.")
        values[key] = value
    try:
        recipe = dataclasses.replace(start, **{key: FIELDS[key](value) for key, value in values.items()})
    except (ValueError, OverflowError) as error:
        raise SetupError(f"recipe: {error}") from error
    splits.steps(recipe.batch_size)
    if recipe.augment not in ("default", "none"):
        next(iter(splits.batches(1, seed=0, epoch=0, device="cpu", augment=tuple(recipe.augment.split("+")))))
    return recipe


@lru_cache(maxsize=4)
def load_data_set(data: str, root: Path) -> Splits:
    """A data set, kept for the next run of this process.

    Raises:
        SetupError: If it is not to be had.
    """
    return load_splits(data, root)


def make_task(name: str) -> Task:
    """A task by name, or a class of one's own.

    Raises:
        SetupError: If there is none.
    """
    if ":" not in name:
        return TASKS[choose("task", name, (*TASKS, "MODULE:CLASS"))]()
    made = find_factory(name, "task")
    task = guarded(made, name, "task")
    there = all(hasattr(task, part) for part in ("metric", "loss"))
    require(there, "task", "a class with a metric and a loss", name, "See samson.experiments.Task.")
    try:
        as_metric(task.metric)
    except (ValueError, TypeError) as error:
        raise SetupError(f"task {name!r}: {error}") from error
    return task  # type: ignore[no-any-return]


def find_trainer(name: str) -> Callable[[Any], torch.nn.Module]:
    """A trainer of one's own.

    Raises:
        SetupError: If there is no such function, or it does not take a run.
    """
    function = find_factory(name, "`train`")
    require(takes(function, (None,)), "`train`", "a function of one argument, the run", name, "It returns the network.")
    return function


def listed(table: Table, key: str, default: Any) -> list[Any]:
    """What stands under a key: one, or a list of several."""
    value = table.get(key, default)
    several = isinstance(value, Sequence) and not isinstance(value, str)
    found = list(value) if several else [value]
    require(bool(found), key, "at least one", value, "Leave it out for the default.")
    for one in found:
        known = isinstance(one, (str, Mapping)) or callable(one)
        require(known, key, "texts or tables", one, f'Write for example {key} = ["…"].')
    return found


def _label(spec: str) -> str:
    """A short name for something that was asked for, fit for a folder's name."""
    last = (
        spec.rpartition(":")[2]
        if ":" in spec
        else Path(spec).stem
        if "." in spec
        else spec.rstrip("/").rpartition("/")[2]
    )
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in last) or "data"
