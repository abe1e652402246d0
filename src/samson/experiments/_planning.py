"""From what a user asks for to a plan, checked whole before any compute starts."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from samson._errors import SetupError, choose, require
from samson._factories import spec_of
from samson.experiments._chips import RESERVED, Chips, family_of
from samson.experiments._place import check_device
from samson.experiments._plan import Plan, PlannedProblem
from samson.experiments._problems import Table, listed, plan_problem
from samson.experiments.data import load_data_set
from samson.records import Search

SAMPLERS = ("grid", "random", "tpe")
OF_A_PROBLEM = ("name", "data", "network", "methods", "base", "train", "task", "select", "recipe", "set")
OF_ALL = ("chips", "seeds", "trials", "examples", "chip_seed", "device", "data_root", "search", "problems")
BLIND = "blind"


def read_suite(path: Path) -> dict[str, Any]:
    """The tables of a suite's file, `….toml`; its folder of data is looked for beside it.

    Raises:
        SetupError: If it cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
        table: Keys of a problem (`data`, `network`, `methods`, `base`, `train`, `task`, `select`, `recipe`, `set`),
            each also in tables of `problems`, which go before those beside them, in `recipe` key by key, and so in
            `set` if they have no `methods` or `base`; and `chips`, `seeds`, `trials`, `examples`, `chip_seed`,
            `device`, `data_root` and `search`. From Python, a function may stand where a file has `MODULE:FUNCTION`.
        command: The command that runs it again.

    Raises:
        SetupError: Names the parameter, the value, the rule and the mend.

    Example:
        >>> plan = plan_suite({"data": "digits", "methods": ["sgd", "samson"], "seeds": 2})
        >>> plan.problems[0].record.name, plan.record().runs
        ('digits-small-resnet', 4)
    """
    load_data_set.cache_clear()  # functions and files may be other ones since the last comparison of this process
    _known("keys", table, (*OF_A_PROBLEM, *OF_ALL))
    chips = listed(table, "chips", "gaussian")
    families = tuple(family_of(one) for one in chips)
    _once("chips", [family.name for family in families])
    for family in families:
        free = family.name not in RESERVED
        require(free, "name of chips", f"not one of {', '.join(RESERVED)}", family.name, "Give it another `name`.")
    asked = table.get("problems", [{}])
    known = isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) > 0
    require(known, "problems", "tables, one at least", asked, "Write [[problems]] and its keys below.")
    shared = {key: table[key] for key in OF_A_PROBLEM if key in table}
    problems = tuple(problem for one in asked for problem in _problems(_over(shared, _own(one)), table, families))
    _once("problems", [problem.record.name.casefold() for problem in problems])  # folders: case may not count
    plan = Plan(
        problems=problems,
        families=families,
        trials=_whole(table, "trials", 20, 2),
        examples=_whole(table, "examples", 0, 1, mend="Leave it out for all.") if "examples" in table else None,
        seeds=_whole(table, "seeds", 3, 1, mend="Their seeds are 0, 1, …; the default is 3."),
        chip_seed=_whole(table, "chip_seed", 0, 0),
        device=str(check_device(table.get("device", "cpu"))),
        data_root=_root(table),
        search=_search(table.get("search"), families, problems),
        command=command,
    )
    _check_examples(plan)
    return plan


def _check_examples(plan: Plan) -> None:
    """Refuse a number of examples for data that are not in memory, of which none can be drawn."""
    if plan.examples is None:
        return
    blind = plan.search is None or plan.search.chosen_by == BLIND
    for problem in plan.problems:
        splits = load_data_set(problem.record.data, plan.data_root)
        for split in ("test",) if blind else ("test", "validation"):
            splits.some(split, plan.examples)


def _own(table: Any) -> dict[str, Any]:
    require(isinstance(table, Mapping), "problems", "tables", table, "Write [[problems]] and its keys below.")
    for key in table:
        if key in OF_ALL:
            raise SetupError(
                f"problems: {key!r} stands at the top of the file, for all problems.\n"
                f"Move it there. Available: {', '.join(OF_A_PROBLEM)}."
            )
    _known("problems", table, OF_A_PROBLEM)
    return dict(table)


def _known(where: str, table: Table, keys: Sequence[str]) -> None:
    for key in table:
        if key == "metric":
            raise SetupError(
                f"{where}: 'metric' is a part of the task.\nWrite task = 'mine:Task', with metric and loss."
            )
        choose(where, key, keys)


def _over(shared: Table, own: Table) -> dict[str, Any]:
    """What a problem says over what stands at the top; a recipe, or settings, that both have are put together.

    With methods or a base of its own, its settings stand alone: those at the top may be of others.
    """
    keys = ("recipe",) if {"methods", "base"} & own.keys() else ("recipe", "set")
    joined = {key: _joined(shared[key], own[key]) for key in keys if key in shared and key in own}
    return {**shared, **own, **joined}


def _joined(shared: Any, own: Any) -> Any:
    """A table over another one, and the tables in it likewise; anything else stands for itself."""
    if not (isinstance(shared, Mapping) and isinstance(own, Mapping)):
        return own
    return {**shared, **{key: _joined(shared.get(key), value) for key, value in own.items()}}


def _problems(asked: Table, suite: Table, families: Sequence[Chips]) -> Iterable[PlannedProblem]:
    """The problems of a table: each of its data sets with each of its networks."""
    pairs = list(itertools.product(listed(asked, "data", "digits"), listed(asked, "network", "small-resnet")))
    for data, network in pairs:
        yield plan_problem(
            asked, spec_of(data, "`data`"), spec_of(network, "`network`"), _root(suite), families, alone=len(pairs) == 1
        )


def _search(asked: Any, families: Sequence[Chips], problems: Sequence[PlannedProblem]) -> Search | None:
    """The search with its number of trials; every method that is searched has the same effort."""
    table = {} if asked is None else asked
    require(isinstance(table, Mapping), "search", "a table", asked, "Write [search] and its keys below.")
    for key in table:
        choose("search", key, ("trials", "sampler", "chosen_by", "seeds"))
    search = Search(
        trials=_whole(table, "trials", 0, 0, "search.trials"),
        sampler=choose("search.sampler", table.get("sampler", "grid"), SAMPLERS),
        chosen_by=choose("search.chosen_by", table.get("chosen_by", BLIND), (BLIND, *(f.name for f in families))),
        seeds=_whole(table, "seeds", 1, 1, "search.seeds"),
    )
    sizes = {
        f"{problem.record.name}/{method.name}": len(method.grid())
        for problem in problems
        for method in problem.methods
        if method.candidates
    }
    if not sizes:
        require(asked is None, "search", "left out where no setting has several values", search, "Add some.")
        return None
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


def _whole(table: Table, key: str, default: int, least: int, said: str | None = None, mend: str = "") -> int:
    value = table.get(key, default)
    whole = isinstance(value, int) and not isinstance(value, bool)
    rule = f"at least {least}" if whole else f"a whole number of at least {least}"
    require(whole and value >= least, said or f"`{key}`", rule, value, mend or f"The default is {default}.")
    return int(value)


def _root(table: Table) -> Path:
    root = table.get("data_root", "data")
    require(isinstance(root, (str, Path)), "data_root", "a folder", root, 'Write data_root = "…".')
    return Path(root)


def _once(key: str, names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    require(not twice, key, "without repetition", twice[:1], 'Give one of them another `name = "…"`.')
