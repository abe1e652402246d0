"""From what a user asks for to a plan, checked whole before any compute starts."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from samson._errors import SetupError, choose, require
from samson.evaluation import as_metric
from samson.experiments._chips import Chips, family_of
from samson.experiments._factories import find_factory, guarded, is_plain, spec_of, takes
from samson.experiments._methods import Method, parse_methods
from samson.experiments._networks import make_network
from samson.experiments._place import check_device
from samson.experiments._recipes import FIELDS, RECIPES, Recipe
from samson.experiments._tasks import TASKS, Task
from samson.experiments.data import Splits, load_splits
from samson.noise import deploy
from samson.records import Configuration, Planned, Problem, Search

METHODS = ("sgd", "noise", "clip", "sam", "asam", "samson", "samson+clip")
SAMPLERS = ("grid", "random", "tpe")
OF_A_PROBLEM = ("name", "data", "network", "methods", "base", "train", "task", "recipe", "set")
OF_ALL = ("chips", "seeds", "trials", "examples", "chip_seed", "device", "data_root", "search", "problems")
BLIND = "blind"

Table = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedProblem:
    """A problem, with the methods that are compared on it."""

    record: Problem
    recipe: Recipe
    methods: tuple[Method, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A comparison, ready to be run.

    Args:
        problems: Data sets with their networks and methods.
        families: Families of chips on which every network is put.
        trials: Chips of each kind.
        examples: Test examples that are put on the chips, drawn once for all; None takes all.
        seeds: Training seeds.
        chip_seed: Seed of the set of chips.
        device: Where networks are trained and put on chips, such as "cuda".
        data_root: Where files of data are looked for.
        search: How settings are chosen; None takes them as they are.
        command: The command that runs it again.
    """

    problems: tuple[PlannedProblem, ...]
    families: tuple[Chips, ...]
    trials: int = 20
    examples: int | None = None
    seeds: int = 3
    chip_seed: int = 0
    device: str = "cpu"
    data_root: Path = Path("data")
    search: Search | None = None
    command: str = ""

    def record(self) -> Configuration:
        """The plan as records hold it."""
        return Configuration(
            problems=tuple(
                Planned(
                    problem.record,
                    {method.name: method.record() for method in problem.methods},
                    {method.name: method.candidates_record() for method in problem.methods if method.candidates},
                )
                for problem in self.problems
            ),
            families=tuple(family.record() for family in self.families),
            trials=self.trials,
            examples=self.examples,
            seeds=self.seeds,
            chip_seed=self.chip_seed,
            device=self.device,
            search=self.search,
            command=self.command,
        )


def read_suite(path: Path) -> dict[str, Any]:
    """The tables of a suite's file, `….toml`; its folder of data is looked for beside it.

    Raises:
        SetupError: If it cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"SUITE must be a TOML file, got {str(path)!r}: {error.strerror}.\nCheck the path.") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"SUITE must be a TOML file, got {str(path)!r}: {error}.\nMend that line.") from error
    if isinstance(table.get("data_root"), str):
        table["data_root"] = str(path.parent / table["data_root"])
    return table


def plan_suite(table: Table, command: str = "") -> Plan:
    """Check a comparison and give its plan.

    Args:
        table: Keys of a problem (`data`, `network`, `methods`, `base`, `train`, `task`, `recipe`, `set`), each also in
            tables of `problems`, which go before those beside them; and `chips`, `seeds`, `trials`, `examples`,
            `chip_seed`, `device`, `data_root` and `search`. From Python, a function may stand where a file has
            `MODULE:FUNCTION`.
        command: The command that runs it again.

    Raises:
        SetupError: Names the parameter, the value, the rule and the mend.

    Example:
        >>> plan = plan_suite({"data": "digits", "methods": ["sgd", "samson"], "seeds": 2})
        >>> plan.problems[0].record.name, plan.record().runs
        ('digits-small-resnet', 4)
    """
    load_data_set.cache_clear()  # functions and files may be other ones since the last comparison of this process
    for key in table:
        choose("SUITE", key, (*OF_A_PROBLEM, *OF_ALL))
    chips = _listed(table, "chips", "gaussian")
    families = tuple(family_of(one) for one in chips)
    _once("chips", [family.name for family in families])
    search = table.get("search")
    asked = table.get("problems", [{}])
    known = isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) > 0
    require(known, "problems", "tables, one at least", asked, "Write [[problems]] and its keys below.")
    problems = tuple(
        problem for one in asked for problem in _problems({**_shared(table), **_own(one)}, table, families)
    )
    _once("problems", [problem.record.name for problem in problems])
    plan = Plan(
        problems=problems,
        families=families,
        trials=_whole(table, "trials", 20, 2),
        examples=_whole(table, "examples", 0, 1) if "examples" in table else None,
        seeds=_whole(table, "seeds", 3, 1),
        chip_seed=_whole(table, "chip_seed", 0, 0),
        device=_device(table),
        data_root=_root(table),
        search=None if search is None else _search(search, families),
        command=command,
    )
    return dataclasses.replace(plan, search=_checked_search(plan))


def _shared(table: Table) -> dict[str, Any]:
    return {key: table[key] for key in OF_A_PROBLEM if key in table}


def _own(table: Any) -> dict[str, Any]:
    require(isinstance(table, Mapping), "problems", "tables", table, "Write [[problems]] and its keys below.")
    for key in table:
        choose("problems", key, OF_A_PROBLEM)
    return dict(table)


def _problems(asked: Table, suite: Table, families: Sequence[Chips]) -> Iterable[PlannedProblem]:
    """The problems of a table: each of its data sets with each of its networks."""
    pairs = list(itertools.product(_listed(asked, "data", "digits"), _listed(asked, "network", "small-resnet")))
    for data, network in pairs:
        yield _problem(
            asked, spec_of(data, "--data"), spec_of(network, "--network"), _root(suite), families, alone=len(pairs) == 1
        )


def _problem(
    asked: Table, data: str, network: str, root: Path, families: Sequence[Chips], *, alone: bool
) -> PlannedProblem:
    splits = load_data_set(data, root)
    task_name = spec_of(asked.get("task", splits.task), "task")
    metric = as_metric(make_task(task_name).metric)
    base = asked.get("base", "AdamW" if task_name == "language" else "SGD")
    trainer = spec_of(asked.get("train", "samson"), "--train")
    if trainer != "samson":
        find_trainer(trainer)
    recipe = _recipe(asked.get("recipe", {}), data, splits)
    default = METHODS if base == "SGD" else ("plain", *METHODS[1:])
    given = [{"method": one} if callable(one) else one for one in _listed(asked, "methods", default)]
    methods = parse_methods(given, asked.get("set", {}), base)
    name = asked["name"] if alone and "name" in asked else f"{_label(data)}-{_label(network)}"
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
        ),
        recipe,
        tuple(methods),
    )
    _try(problem, splits, families)
    return problem


def _try(problem: PlannedProblem, splits: Splits, families: Sequence[Chips]) -> None:
    """Put two examples through the network, and make every optimizer, as a training would."""
    record = problem.record
    model = make_network(record.network, splits.shape, splits.outputs, seed=0)
    inputs, targets = _two(splits)
    try:
        with torch.no_grad():
            make_task(record.task).loss(model.eval()(inputs), targets)
    except Exception as error:
        raise SetupError(
            f"--network {record.network!r} cannot be trained on {record.data!r}, whose examples are of shape "
            f"{splits.shape}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n"
            "Take a network, or a task, for such data."
        ) from error
    for method in problem.methods:
        for choice in method.grid():
            try:
                method.with_settings(choice).build(model)
            except SetupError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                raise SetupError(
                    f"--methods {method.name} with the network {record.network!r} raised {reason}\n"
                    "Mend it, or its settings."
                ) from error
    for family in families:
        for kind in family.kinds:
            try:
                with torch.no_grad(), deploy(model, kind.noise).at(kind.time_s):
                    model(inputs)
            except (ValueError, RuntimeError) as error:
                raise SetupError(
                    f"chips: {kind.label} cannot carry the network {record.network!r}: {str(error).splitlines()[0]}\n"
                    "Take other chips, or other times."
                ) from error


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
        values[key] = kind(value)
    try:
        recipe = dataclasses.replace(start, **values)
    except ValueError as error:
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
    try:
        return load_splits(data, root)
    except ImportError as error:
        raise SetupError(f"--data: {data!r} cannot be loaded.\n{error}") from error


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
    require(there, "task", "a class with `metric` and `loss`", name, "See samson.experiments.Task.")
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
    function = find_factory(name, "--train")
    require(takes(function, (None,)), "--train", "a function of one argument, the run", name, "It returns the network.")
    return function


def _search(asked: Any, families: Sequence[Chips]) -> Search:
    require(isinstance(asked, Mapping), "search", "a table", asked, "Write [search] and its keys below.")
    for key in asked:
        choose("search", key, ("trials", "sampler", "chosen_by", "seeds"))
    return Search(
        trials=_whole(asked, "trials", 0, 0, "search.trials"),
        sampler=choose("search.sampler", asked.get("sampler", "grid"), SAMPLERS),
        chosen_by=choose("search.chosen_by", asked.get("chosen_by", BLIND), (BLIND, *(f.name for f in families))),
        seeds=_whole(asked, "seeds", 1, 1, "search.seeds"),
    )


def _checked_search(plan: Plan) -> Search | None:
    """The search with its number of trials; every method that is searched has the same effort."""
    sizes = {
        f"{problem.record.name}/{method.name}": len(method.grid())
        for problem in plan.problems
        for method in problem.methods
        if method.candidates
    }
    if not sizes:
        require(plan.search is None, "search", "left out where no setting has several values", plan.search, "Add some.")
        return None
    search = plan.search or Search(trials=0)
    least = min(sizes.values())
    if search.sampler == "grid":
        equal = len(set(sizes.values())) == 1
        mend = 'Give each as many values, or draw: [search] sampler = "random", trials = 8.'
        require(equal, "candidates", "of the same number for each method: equal effort", sizes, mend)
        given = search.trials in (0, least)
        require(given, "search.trials", f"left out for a grid, or {least}", search.trials, "A grid is tried whole.")
        return dataclasses.replace(search, trials=least)
    mend = "Tried settings are all different, so there must be enough of them."
    require(1 <= search.trials <= least, "search.trials", f"from 1 to {least}", search.trials, mend)
    return search


def _listed(table: Table, key: str, default: Any) -> list[Any]:
    """What stands under a key: one, or a list of several."""
    value = table.get(key, default)
    several = isinstance(value, Sequence) and not isinstance(value, str)
    found = list(value) if several else [value]
    require(bool(found), key, "at least one", value, "Leave it out for the default.")
    for one in found:
        known = isinstance(one, (str, Mapping)) or callable(one)
        require(known, key, "texts or tables", one, f'Write for example {key} = ["…"].')
    return found


def _whole(table: Table, key: str, default: int, least: int, said: str | None = None) -> int:
    value = table.get(key, default)
    known = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(known, said or f"--{key.replace('_', '-')}", f"at least {least}", value, f"The default is {default}.")
    return int(value)


def _root(table: Table) -> Path:
    root = table.get("data_root", "data")
    require(isinstance(root, (str, Path)), "data_root", "a folder", root, 'Write data_root = "…".')
    return Path(root)


def _device(table: Table) -> str:
    device = table.get("device", "cpu")
    check_device(device)
    return str(device)


def _once(key: str, names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    require(not twice, key, "without repetition", twice[:1], 'Give one of them another `name = "…"`.')


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
