"""What functions, classes and modules of Python are made of, as far as a computation with them depends on that."""

from __future__ import annotations

import functools
import os
import sys
import types
from functools import cache, cached_property
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket

_NOTES = "_torchdynamo", "_dynamo", "_original_object_hash"
"""What torch's compiler notes of an object, and transformers by Python's hash, which is another one each time."""
_BUILTIN = types.BuiltinFunctionType, types.MethodWrapperType
_NAMED = (
    *(OpOverload, OpOverloadPacket, HigherOrderOperator),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType),
)


def code_contents(value: Any) -> tuple[Any, ...] | None:
    """The parts by which code is told from other code; None for what is not code."""
    parts: tuple[Any, ...] | None = None
    match value:
        case type():
            parts = _class(value)
        case FunctionType():
            parts = _function(value)
        case CodeType():
            parts = "code", value.co_code, value.co_exceptiontable, value.co_consts, value.co_names, value.co_freevars
        case MethodType():
            parts = "method", value.__func__, value.__self__
        case staticmethod() | classmethod():
            parts = type(value).__name__, value.__func__
        case property():
            parts = "property", value.fget, value.fset, value.fdel
        case functools._lru_cache_wrapper():
            parts = "cached", value.__wrapped__
        case ModuleType():
            inside = {name: part for name, part in vars(value).items() if not name.startswith("__")}
            parts = "module", value.__name__, None if is_library(value.__name__) else inside
        case _ if isinstance(value, _BUILTIN):
            parts = "builtin", _name(value), _owner(value)
        case _ if isinstance(value, _NAMED):
            parts = "name", _name(value), str(value) if isinstance(value, _NAMED[:3]) else ""
    return parts


def own(value: object) -> dict[str, Any]:
    """The attributes of a value."""
    return without_caches(value, getattr(value, "__dict__", {}))


def without_caches(value: object, attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a value, but for those that are computed from others and for notes of libraries."""

    def is_cache(name: Any) -> bool:
        return isinstance(getattr(type(value), name, None), cached_property)

    return {
        name: one
        for name, one in attributes.items()
        if not (isinstance(name, str) and (name.startswith(_NOTES) or is_cache(name)))
    }


@cache
def is_library(module: object) -> bool:
    """Whether a module is of a package whose code counts by name: torch, numpy, samson and the standard library."""
    package = str(module or "").partition(".")[0]
    if package not in sys.stdlib_module_names:
        return package in ("torch", "numpy", "samson")
    if package not in sys.modules:
        return False
    file = getattr(sys.modules[package], "__file__", None)  # a user's code.py is not the standard library's
    library = Path(os.__file__).parent
    return file is None or library in (Path(file).parent, Path(file).parent.parent)


def _is_found(value: Any) -> bool:
    """Whether a library has it under its name, and not as something made at run time."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _class(kind: type) -> tuple[Any, ...]:
    if is_library(kind.__module__) and _is_found(kind):
        return "name", _name(kind)
    members = {name: one for name, one in vars(kind).items() if _is_member(name, one)}
    return "class", _name(kind), None if type(kind) is type else type(kind), kind.__bases__, members


def _is_member(name: str, member: object) -> bool:
    """Not what Python itself notes of a class."""
    if name.startswith("__"):
        return isinstance(member, staticmethod | classmethod) or (callable(member) and not isinstance(member, type))
    return name != "_abc_impl"


def _function(function: FunctionType) -> tuple[Any, ...]:
    if "_torchdynamo_orig_callable" in vars(function):
        return "compiled", vars(function)["_torchdynamo_orig_callable"]
    closed = {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        if not _is_empty(cell)
    }
    module = function.__globals__.get("__name__")  # `functools.wraps` says another one
    if not is_library(module):
        given = function.__defaults__, function.__kwdefaults__
        return "function", _name(function), function.__code__, *given, closed, own(function)
    if _is_found(function):
        return "name", _name(function)
    return "made", f"{module}.{function.__code__.co_qualname}", closed, own(function)


def _owner(function: Any) -> Any:
    """What a built-in function is bound to, if that is more than where it is defined."""
    owner = getattr(function, "__self__", None)
    is_place = isinstance(owner, ModuleType) or type(owner).__name__.startswith(("PyCapsule", "pybind11_detail"))
    return None if is_place else owner


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (it raises where there is none)
    except ValueError:
        return True
    return False
