"""Which weight matrices of a model lie on a chip: one notion for chips, rules, injected noise and clipping."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from samson._layers import DIGITAL, LayerWeight, unknown_weights_of, weights_of
from samson._names import suggestion

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
    for layer, module in layer_names(model).items():
        known = weights_of(module)
        for matrix in known or unknown_weights_of(module):
            name = f"{layer}.{matrix.name}".lstrip(".")
            yield Candidate(name, layer, module, parents.get(id(module)), matrix, bool(known))


def selected(select: Select, every: Sequence[Candidate]) -> list[Candidate]:
    """The weight matrices that a selection picks: one of its entries does, and none with a "!" leaves it out.

    Raises:
        TypeError: If the selection is no `Select`.
    """
    found = entries(select)
    out = [entry for entry in found if leaves_out(entry)]
    into = [entry for entry in found if not leaves_out(entry)] or [DEFAULT] * bool(found)
    wanted = {id(one) for entry in into for one in picks(entry, every)}
    wanted -= {id(one) for entry in out for one in picks(entry, every)}
    return [one for one in every if id(one) in wanted]


def require_met(select: Select, every: Sequence[Candidate]) -> None:
    """Refuse an entry that meets no weight: what it was to pick, or to leave out, has another name.

    Raises:
        ValueError: Names the entry, and a near name.
    """
    for entry in entries(select):
        if entry != DEFAULT and not picks(entry, every):
            raise ValueError(
                f"`select` must have entries that each meet a weight, but {entry!r} meets none. "
                f"{suggestion(str(entry).removeprefix('!'), [c.name for c in every if c.name][:20])}"
            )


def entries(select: Select) -> list[Any]:
    """What a selection consists of."""
    return list(select) if isinstance(select, Sequence) and not isinstance(select, str) else [select]


def leaves_out(entry: object) -> bool:
    """Whether an entry of a selection is a pattern for what is left out."""
    return isinstance(entry, str) and entry.startswith("!")


def picks(entry: Any, every: Sequence[Candidate]) -> list[Candidate]:
    """The weight matrices that one entry of a selection is about.

    The default is every one of a known layer that is no look-up. One of an unknown layer is meant by its layer's very
    type, its very name, a pattern that ends in the parameter's own name, or a pattern with a letter that meets no
    weight of a known layer.
    """
    if leaves_out(entry):
        return [one for one in every if _matches(entry[1:], one)]
    found = [one for one in every if one.known and _is_about(entry, one)]
    if isinstance(entry, str) and entry != DEFAULT:
        free = not found and bool(entry.strip("*?."))
        ends = entry.rpartition(".")[2]
        found += [c for c in every if not c.known and _matches(entry, c) and (free or ends == c.matrix.name)]
    found += [one for one in every if not one.known and is_named(entry, one.name, one.name, one.module)]
    return found


def _is_about(entry: Any, candidate: Candidate) -> bool:
    """Whether an entry is about a weight matrix of a known layer."""
    if entry is None or entry == DEFAULT:
        return not isinstance(candidate.module, DIGITAL)
    if isinstance(entry, type):
        return isinstance(candidate.module, entry) or isinstance(candidate.parent, entry)
    if isinstance(entry, str):
        return _matches(entry, candidate)
    if not callable(entry):
        raise TypeError(f"`select` must be a type, a pattern, a list of these or a function, got {entry!r}.")
    return bool(entry(candidate.layer, candidate.module))


def _matches(pattern: str, candidate: Candidate) -> bool:
    """Whether a pattern is one of a layer's name or the tensor's, or of a part's as a layer behind a periphery.

    "*.kernel" also is one of the model's own.
    """
    names = [candidate.layer, candidate.name, *([] if candidate.layer else [f".{candidate.name}"])]
    names.append(f"{candidate.layer}.{candidate.matrix.part_name}".lstrip("."))
    wild = any(letter in pattern for letter in "*?[")
    return any(name == pattern or (wild and fnmatchcase(name, pattern)) for name in names)  # a name may have brackets


def is_named(select: Select, name: str, layer: str, module: nn.Module) -> bool:
    """Whether an entry is the very name of the tensor or its layer, or the layer's very type."""
    own = name, layer, type(module), parametrize.type_before_parametrizations(module)
    return any(entry in own for entry in entries(select))


def layer_names(model: nn.Module) -> dict[str, nn.Module]:
    """Every module that holds tensors, by its name without prefixes of wrappers; in full if one has that already."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if module._parameters or module._buffers or weights_of(module):
            name = plain_name(f"{path}.").rstrip(".")
            found[path if name in found else name] = module
    return found


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name.lstrip("."))
