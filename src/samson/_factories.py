"""Models and data from a user's own code: a function named as `MODULE:FUNCTION`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from samson._errors import SetupError, choose, require

OURS = str(Path(__file__).parent)
"""The package, whose lines are not the user's."""


def call_factory(spec: str, parameter: str = "MODEL") -> Any:
    """Import a module, from the current folder first, and call a function of it without arguments.

    Args:
        spec: `MODULE:FUNCTION`; a class will do as well.
        parameter: What errors call it.

    Raises:
        SetupError: If there is no such module or function, it is none, takes arguments, or raises.

    Example:
        >>> call_factory("torch.nn:Identity")
        Identity()
    """
    function = find_factory(spec, parameter)
    require(callable(function), parameter, "the name of a function or a class", spec, "Write a function that gives it.")
    if not takes(function, ()):
        raise SetupError(
            f"{parameter} must name a function or a class without arguments, got {spec!r}, which has "
            f"{inspect.signature(function)}.\nWrite a function that passes them."
        )
    return guarded(function, spec, parameter)


def find_factory(spec: str, parameter: str = "MODEL") -> Callable[..., Any]:
    """A function, or a class, of a module that is importable from the current folder.

    Raises:
        SetupError: If there is no such module or function.
    """
    module_name, colon, name = spec.partition(":")
    named = bool(colon) and all(map(str.isidentifier, (*module_name.split("."), name)))
    require(named, parameter, "MODULE:FUNCTION", spec, "For the function `resnet` of networks.py: networks:resnet.")
    module = guarded(lambda: _imported(module_name, parameter), spec, parameter)
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if name not in vars(module):
        choose(f"{parameter}: in {module_name!r}", name, public)
    function: Callable[..., Any] = getattr(module, name)
    return function


def own_modules() -> list[str]:
    """The modules that were imported from the current folder."""
    here = Path.cwd()
    return [
        name
        for name, module in list(sys.modules.items())
        if getattr(module, "__file__", None) in (str(here / f"{name}.py"), str(here / name / "__init__.py"))
    ]


def import_own(names: Iterable[str]) -> None:
    """Import another process's `own_modules` as `find_factory` did; what else lies here comes after what is installed.

    One that raises is passed over: what uses it will tell.
    """
    for name in names:
        with suppress(Exception):
            _imported(name, name)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def is_plain(name: Any) -> bool:
    """Whether a name is fit for files and folders."""
    return isinstance(name, str) and bool(name) and all(c.isalnum() or c in "-_.+" for c in name) and name[0] != "."


def takes(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    """Whether a function can be called with so many arguments; true where that cannot be seen, as for a class of C."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def spec_of(thing: str | Callable[..., Any], parameter: str) -> str:
    """What names a function in a file: `MODULE:FUNCTION`, by its public module; a text is such a name already.

    Raises:
        SetupError: If another process could not import it.
    """
    if isinstance(thing, str):
        return thing
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    there = name.isidentifier() and getattr(sys.modules.get(module), name, None) is thing
    require(
        there, parameter, "a function at the top of a module", thing, "Give it a name there: no lambda, no closure."
    )
    public = module.partition("._")[0]  # where code is kept may change
    return f"{public if getattr(sys.modules.get(public), name, None) is thing else module}:{name}"


def _imported(name: str, parameter: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        near = get_close_matches(error.name, [path.stem for path in Path(here).glob("*.py")], n=1, cutoff=0.7)
        hint = f"Did you mean {near[0]!r}?" if near else "Go to the folder of the module, or install it."
        raise SetupError(
            f"{parameter}: there is no module {error.name!r}, neither installed nor in {here!r}.\n{hint}"
        ) from error
    finally:
        sys.path.remove(here)


def guarded(call: Callable[[], Any], spec: str, parameter: str) -> Any:
    """Call a user's code; what it raises becomes an error that says where."""
    try:
        return call()
    except SetupError:
        raise
    except Exception as error:
        frames = [f[:2] for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<", OURS))]
        places = [(error.filename, error.lineno)] if isinstance(error, SyntaxError) else frames
        mend = f"Mend {places[-1][0]}, line {places[-1][1]}." if places else f"Mend {spec}."
        raise SetupError(f"{parameter} {spec!r} raised {type(error).__name__}: {error}\n{mend}") from error
