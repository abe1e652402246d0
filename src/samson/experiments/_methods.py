"""Methods by name: a core and additions joined by "+", or a function of one's own; and how their settings are read."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from samson._errors import SetupError, choose, require
from samson._factories import find_factory, is_plain, spec_of
from samson.experiments._defaults import BASES, TUNED
from samson.experiments._method import METHOD, Method, base_settings, part_of
from samson.experiments._parts import ADDITIONS, ALIASES, CLIPPINGS, PLAIN, cores
from samson.experiments._recipes import Recipe
from samson.optim import AscentRule

Given = Mapping[str, Any]
"""A method as a file has it: `method`, perhaps a `name`, and settings; a list of values is searched."""


def parse_methods(
    asked: Iterable[str | Given],
    overrides: Iterable[str] | Mapping[str, Any] = (),
    base: str = "SGD",
    data: str | None = None,
) -> list[Method]:
    """Read methods and their settings.

    Args:
        asked: Names such as "sgd" and "samson+clip", `MODULE:FUNCTION`, or tables with `method`, perhaps a `name`, and
            settings.
        overrides: For example `["samson.p=2", "samson+clip.alpha=1.5"]`, or the same as a table; the last of two equal
            ones counts. One without a method, such as `"lr=0.01"`, holds for every method that has it, unless something
            is said of that method.
        base: The base optimizer of all of them.
        data: The data set; settings that were tuned on it are the defaults (see `TUNED`). None takes the classes'.

    Raises:
        SetupError: For an unknown or repeated method, two cores in one name, an unknown or ill-formed setting, or a
            setting out of its range.
    """
    parsed: dict[str, Method] = {}
    pairs = [(target.strip(), value) for target, value in _pairs(overrides)]
    of_all = {target: value for target, value in pairs if "." not in target}
    for one in asked:
        method = _parse(one, base, data, of_all)
        said = one if isinstance(one, str) else method.name
        taken = map(str.casefold, parsed)  # files have these names, and on some systems case does not count
        require(method.name.casefold() not in taken, "`methods`", "without repetition", said, "Remove the second one.")
        parsed[method.name] = method
    for target, value in pairs:
        name, dot, parameter = target.rpartition(".")
        if dot:
            name = choose("`set`", name, parsed)
            parsed[name] = _set(parsed[name], parameter, value, f"`set` {target}")
        else:
            parts = (*cores().values(), *ADDITIONS.values())  # another problem may have a method with it
            known_to = (*(m.settings for m in parsed.values()), *(p.settings for p in parts), *BASES.values())
            choose("`set`", target, dict.fromkeys(key for settings in known_to for key in settings))
    known = ", ".join((*cores(), *ADDITIONS, *ALIASES))
    require(bool(parsed), "`methods`", "at least one method", "", f"Take some of: {known}.")
    for method in parsed.values():
        if ":" in method.made_of:
            continue  # one's own may look at the network that it is for
        for choice in method.grid():
            try:
                method.with_settings(choice).build(nn.Linear(2, 2, device="meta"))
            except SetupError:
                raise
            except (ValueError, TypeError) as error:
                raise SetupError(
                    f"`set` {method.name}: {error}\nChange it with `set` {method.name}.PARAM=VALUE."
                ) from error
    return list(parsed.values())


def _pairs(overrides: Iterable[str] | Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Settings by METHOD.PARAM, or PARAM alone; in a file a method's may stand in a table of its own."""
    if isinstance(overrides, str) or not isinstance(overrides, Iterable):
        raise SetupError(f"set must be a table, got {overrides!r}.\nWrite for example set = {{'samson.rho' = 0.5}}.")
    if not isinstance(overrides, Mapping):
        yield from map(_split, overrides)
        return
    for target, value in overrides.items():
        if isinstance(value, Mapping):
            yield from ((f"{target}.{parameter}", inner) for parameter, inner in value.items())
        else:
            yield target, value


def _parse(one: str | Given, base: str, data: str | None, of_all: Given) -> Method:
    if isinstance(one, str):
        made_of, name, settings = one, None, {}
    else:
        require(
            METHOD in one, "`methods`", "tables with a `method`", dict(one), 'Write {method = "samson", rho = 0.5}.'
        )
        settings = {key: value for key, value in one.items() if key not in (METHOD, "name")}
        made_of, name = one[METHOD], one.get("name")
        known = isinstance(made_of, str) or callable(made_of)
        require(known, "`method` of a method", "a text", made_of, 'Write {method = "samson", rho = 0.5}.')
        made_of = spec_of(made_of, "`methods`")
        mend = "It names files."
        require(name is None or is_plain(name), "`name` of a method", "letters, digits and any of -_.+", name, mend)
    if ":" in made_of:
        method = Method(name or made_of.partition(":")[2], made_of, base, _settings_of_own(made_of))
    else:
        called, made_of = _parse_name(made_of, base)
        method = Method(name or called, made_of, base, default_settings(called, base, data))
    for key in (key for key in of_all if key in method.settings):
        method = _set(method, key, of_all[key], f"`set` {key}")
    for key, value in settings.items():
        method = _set(method, key, value, f"`methods` {method.name}.{key}")
    return method


def _settings_of_own(spec: str) -> dict[str, float | str]:
    """The settings of a function of one's own: its arguments with a number or a text as default."""
    function = find_factory(spec, "`methods`")
    parameters = list(inspect.signature(function).parameters.values()) if callable(function) else []
    require(bool(parameters), "`methods`", "a function that takes a model", spec, "It returns an optimizer for it.")
    rule = isinstance(function, type) and issubclass(function, AscentRule)
    mend = "Write a function of a model, which returns `SharpnessAware(base, …)` with that rule."
    require(not rule, "`methods`", "a function that returns an optimizer, and no rule", spec, mend)
    return {
        p.name: float(p.default) if isinstance(p.default, (int, float)) else p.default
        for p in parameters[1:]
        if isinstance(p.default, (int, float, str)) and p.name not in ("seed", "steps")
    }


def _parse_name(asked: str, base: str) -> tuple[str, str]:
    """The name of a method as records have it, its core first, and its parts, which differ for a recipe."""
    known = cores()
    parts = [choose("`methods`", part, (*known, *ADDITIONS, *ALIASES)) for part in asked.strip().split("+")]
    own = [part for part in parts if part in known]
    recipe = next((part for part in parts if part in ALIASES), None)
    core, *more = ALIASES[recipe][0].split("+") if recipe else [""]
    every = [*parts, *more]
    require(
        len(own) <= 1 and len(every) == len(set(every)) and sum(part in CLIPPINGS for part in every) <= 1,
        "`methods`",
        f"one of {', '.join(known)}, alone or with {', '.join(f'`+{name}`' for name in (*ADDITIONS, *ALIASES))}, and "
        "one way to clip at most",
        asked,
        "Split it into several methods, separated by commas.",
    )
    require("sgd" not in own or base == "SGD", "`methods`", f"`plain` for the base {base} alone", asked, "Change it.")
    added = [name for name in ADDITIONS if name in parts]
    cored = [name for name in own if name not in PLAIN or recipe or not added]
    called = [*cored, *added, *([recipe] if recipe else [])]
    made_of = called if recipe is None else [*(own or [core]), *(name for name in ADDITIONS if name in every)]
    return "+".join(called), "+".join(made_of)


def default_settings(name: str, base: str = "SGD", data: str | None = None) -> dict[str, float | str]:
    """The base optimizer's settings and those of a method's parts: the classes' defaults, then those tuned on the data.

    Tuned ones are those of each part, then those of the whole method.
    """
    tuned = TUNED.get(data or "", {})
    _, made_of = _parse_name(name, base)
    parts = made_of.split("+")
    own = {key: value for part in parts for key, value in part_of(part).settings.items()}
    recipes = [ALIASES[part][1].settings for part in name.split("+") if part in ALIASES]
    for settings in (*(tuned.get(part, {}) for part in parts), tuned.get(made_of, {}), *recipes, tuned.get(name, {})):
        own |= {key: value for key, value in settings.items() if key in own}
    return {**base_settings(base), **own}


def _split(override: str) -> tuple[str, str]:
    target, equals, text = str(override).partition("=")
    require(
        bool(equals),
        "`set`",
        "METHOD.PARAM=VALUE, or PARAM=VALUE",
        override,
        "Write for example `set` samson.rho=0.5.",
    )
    return target, text


def _set(method: Method, parameter: str, value: Any, where: str) -> Method:
    """The method with a setting; a list of values is searched."""
    of_recipe = parameter not in method.settings and parameter in {f.name for f in dataclasses.fields(Recipe)}
    mend = "All methods of a problem share its recipe: give another one a problem with a `name`."
    require(not of_recipe, where, "a setting of the method, and none of `recipe`", value, mend)
    before = method.settings[choose(where.rpartition(".")[0], parameter, method.settings)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        require(len(value) > 0, where, "at least one value", value, "Write for example [0.1, 0.3, 1].")
        values = tuple(_value(one, before, where) for one in value)
        require(len(set(values)) == len(values), where, "without repetition", list(values), "Remove the repeated one.")
        return dataclasses.replace(method, candidates={**method.candidates, parameter: values})
    candidates = {key: values for key, values in method.candidates.items() if key != parameter}
    settings = {**method.settings, parameter: _value(value, before, where)}
    return dataclasses.replace(method, settings=settings, candidates=candidates)


def _value(value: Any, before: float | str, where: str) -> float | str:
    if isinstance(before, str):
        require(isinstance(value, str), where, "a text", value, f"Write for example {before!r}.")
        return str(value).strip()
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise SetupError(f"{where} must be a number, got {value!r}.\nWrite for example 0.5 or inf.")
    return number
