"""Which weight matrices of a model lie on a chip: one notion for chips, rules, injected noise and clipping."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from samson._layers import DIGITAL, LayerWeight, unknown_weights_of, weights_of

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")

Select = type[nn.Module] | str | Callable[[str, nn.Module], bool] | Sequence[type[nn.Module] | str] | None
"""Which layers lie on the chip: a type, a pattern for names, several of these, or a function of name and layer.

A pattern after a "!" leaves layers out, and "default" stands for what lies there without any selection.
"""

DEFAULT = "default"


class Candidate(NamedTuple):
    """A weight matrix that may lie on a chip.

    Args:
        name: The tensor's name without the prefixes of wrappers.
        layer: The layer's name.
        module: The layer.
        parent: The attention layer whose projection it is.
        matrix: The matrix.
        known: Whether the type of the layer is known.
    """

    name: str
    layer: str
    module: nn.Module
    parent: nn.Module | None
    matrix: LayerWeight
    known: bool


def candidates(model: nn.Module) -> Iterator[Candidate]:
    """Every weight matrix of a model, also those of unknown layers, in the order of its modules."""
    parents = {id(m.out_proj): m for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    taken: set[str] = set()
    for path, module in model.named_modules():
        known = weights_of(module)
        for matrix in known or unknown_weights_of(module):
            full = f"{path}.{matrix.name}".lstrip(".")
            name = plain_name(full)
            name = full if name in taken else name
            taken.add(name)
            layer = name.removesuffix(matrix.name).rstrip(".")
            yield Candidate(name, layer, module, parents.get(id(module)), matrix, bool(known))


def selected(select: Select, candidate: Candidate) -> bool:
    """Whether a selection picks a weight matrix: one of its entries does, and none with a "!" leaves it out.

    Raises:
        TypeError: If the selection is no `Select`.
    """
    found = entries(select)
    into = [entry for entry in found if not leaves_out(entry)] or [DEFAULT] * bool(found)
    return any(picks(entry, candidate) for entry in into) and not any(
        picks(entry, candidate) for entry in found if leaves_out(entry)
    )


def entries(select: Select) -> list[Any]:
    """What a selection consists of."""
    return list(select) if isinstance(select, Sequence) and not isinstance(select, str) else [select]


def leaves_out(entry: object) -> bool:
    """Whether an entry of a selection is a pattern for what is left out."""
    return isinstance(entry, str) and entry.startswith("!")


def picks(entry: Any, candidate: Candidate) -> bool:
    """Whether one entry of a selection is about a weight matrix.

    The default is every one of a known layer that is no look-up. One of an unknown layer is meant by its layer's very
    type, its very name, or a pattern that ends in the parameter's own name.
    """
    name, layer, module, parent, matrix, known = candidate
    if entry is None or entry == DEFAULT:
        return known and not isinstance(module, DIGITAL)
    if leaves_out(entry):
        return fnmatchcase(layer, entry[1:]) or fnmatchcase(name, entry[1:])
    if not known:
        ends = isinstance(entry, str) and entry.rpartition(".")[2] == matrix.name and fnmatchcase(name, entry)
        return ends or is_named(entry, name, name, module)
    if isinstance(entry, type):
        return isinstance(module, entry) or isinstance(parent, entry)
    if isinstance(entry, str):
        return fnmatchcase(layer, entry) or fnmatchcase(name, entry)
    if not callable(entry):
        raise TypeError(f"`select` must be a type, a pattern, a list of these or a function, got {entry!r}.")
    return bool(entry(layer, module))


def is_named(select: Select, name: str, layer: str, module: nn.Module) -> bool:
    """Whether an entry is the very name of the tensor or its layer, or the layer's very type."""
    if isinstance(select, (list, tuple)):
        return any(is_named(one, name, layer, module) for one in select)
    return select in (name, layer, type(module), parametrize.type_before_parametrizations(module))


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name.lstrip("."))
