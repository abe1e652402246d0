"""Which weight matrices of a model lie on a chip: one notion for chips, rules, injected noise and clipping."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from samson._layers import DIGITAL, LayerWeight, unknown_weights_of, weights_of

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")

Select = type[nn.Module] | str | Callable[[str, nn.Module], bool] | Sequence[type[nn.Module] | str] | None
"""Which layers lie on the chip: a type, a pattern for names, several of these, or a function of name and layer."""


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
    """Whether a selection picks a weight matrix.

    By default that is every one of a known layer that is no look-up. One of an unknown layer is picked by its very
    name or type.

    Raises:
        TypeError: If the selection is no `Select`.
    """
    name, layer, module, parent, _, known = candidate
    if not known and not isinstance(select, (list, tuple)):
        return is_named(select, name, name, module)
    if select is None:
        return not isinstance(module, DIGITAL)
    if isinstance(select, type):
        return isinstance(module, select) or isinstance(parent, select)
    if isinstance(select, str):
        return fnmatchcase(layer, select) or fnmatchcase(name, select)
    if isinstance(select, Sequence):
        return any(selected(one, candidate) for one in select)
    if not callable(select):
        raise TypeError(f"`select` must be a type, a pattern, a list of these or a function, got {select!r}.")
    return bool(select(layer, module))


def is_named(select: Select, name: str, layer: str, module: nn.Module) -> bool:
    """Whether an entry is the very name of the tensor or its layer, or the layer's very type."""
    if isinstance(select, (list, tuple)):
        return any(is_named(one, name, layer, module) for one in select)
    return select in (name, layer, type(module), parametrize.type_before_parametrizations(module))


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name.lstrip("."))
