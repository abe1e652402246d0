"""A problem of a comparison, from what a user asks for: its data set, network, task, recipe and methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samson._errors import SetupError, choose, require
from samson._factories import is_plain, spec_of
from samson.evaluation import as_metric
from samson.experiments._chips import Chips
from samson.experiments._defaults import TUNED_FOR
from samson.experiments._methods import parse_methods
from samson.experiments._plan import PlannedProblem
from samson.experiments._recipes import FIELDS, RECIPES, Recipe
from samson.experiments._tasks import make_task
from samson.experiments._training import find_trainer
from samson.experiments._trying import try_together
from samson.experiments.data import Splits, check_targets, check_tokens, length, load_data_set
from samson.records import Problem

METHODS = ("sgd", "noise", "clip", "sam", "asam", "samson", "samson+clip")
"""The methods of a comparison that names none."""

Table = Mapping[str, Any]


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
    mend = 'Write task = "mine:Task", with metric and loss, or "classification" where each place has a class.'
    require(task_name != "own", "task", f"named for {data!r}, whose targets may be any", asked.get("task"), mend)
    if ":" not in task_name:  # one's own decides what targets are
        check_targets(splits)
    if ":" not in network:
        check_tokens(splits)
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
    try_together(problem, splits, families)
    return problem


def _select(asked: Table) -> tuple[str, ...]:
    """Patterns of the layers that lie on the chips; none for the default."""
    given = asked.get("select", ())
    patterns = (given,) if isinstance(given, str) else given
    known = isinstance(patterns, (list, tuple)) and all(isinstance(one, str) for one in patterns)
    require(known, "`select`", "a pattern of names, or a list of these", given, 'Write for example select = "!fc*".')
    return tuple(patterns)


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
