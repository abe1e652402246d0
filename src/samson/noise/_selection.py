"""Which tensors of a model lie on the chip, under which name and in which layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.utils import parametrize

from samson._layers import DIGITAL, LayerWeight, unknown_weights_of, weights_of
from samson._names import suggestion
from samson.noise._places import Alone, Computed, Masked, Place, Stored

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")

Select = type[nn.Module] | str | Callable[[str, nn.Module], bool] | Sequence[type[nn.Module] | str] | None
"""Which layers lie on the chip: a type, a pattern for names, several of these, or a function of name and layer."""


@dataclass(frozen=True, eq=False)
class ChipTensor:
    """One weight matrix on the chip.

    Args:
        name: The tensor's name without the prefixes of wrappers (DDP, compiled models).
        layer: The layer that it belongs to, the first one if several share it.
        place: Where the layer takes it from.
        matrix: Its part of that place, and its layout.
    """

    name: str
    layer: nn.Module
    place: Place
    matrix: LayerWeight

    @property
    def weight(self) -> Tensor:
        """The weight as it is now, detached, in the layer's own layout."""
        weight = self.place.weight
        return weight if self.matrix.rows is None else weight[self.matrix.rows]

    def output_first(self, tensor: Tensor) -> Tensor:
        """The tensor with its output channels along the first axis, as noises expect it.

        Transposed convolutions are stored as (in, out / groups, …) and come as (out, in / groups, …).
        """
        if not self.matrix.groups:
            return tensor
        split = tensor.reshape(self.matrix.groups, -1, *tensor.shape[1:])
        return split.transpose(1, 2).flatten(0, 1)

    def stored(self, tensor: Tensor) -> Tensor:
        """The inverse of `output_first`."""
        return self.output_first(tensor)  # both swap the two axes within each group


def on_chip(model: nn.Module, select: Select = None) -> list[ChipTensor]:
    """List the weights that lie on the chip.

    By default these are the weights of linear, convolution (also transposed), recurrent and bilinear layers and the
    projections of attention. Embeddings stay digital unless they are selected, biases and norm layers always. A
    parameter of any other type of layer with two or more axes, its outputs along the first, goes on the chip where its
    full name or its layer's very type is given. A weight that several layers share is listed once, under the first
    one's name.

    Args:
        model: Any model.
        select: Layers by type (`nn.Linear`), by pattern (`"encoder.*"`, compared with the names of layers and of
            tensors, see `fnmatch`), by a list of types and patterns, or by a function of a layer's name and the layer.

    Raises:
        ValueError: If nothing is selected, or an entry of a list selects nothing; if a weight is computed by a hook of
            its layer or not yet there; or if weights that share memory do so in different layouts.
        TypeError: If `select` is none of these.

    Example:
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 3), nn.Linear(3, 2))
        >>> [tensor.name for tensor in on_chip(model)]
        ['1.weight_ih_l0', '1.weight_hh_l0', '2.weight']
        >>> [tensor.name for tensor in on_chip(model, "*_hh_*")]
        ['1.weight_hh_l0']
    """
    candidates = list(_candidates(model))
    wanted = [c for c in candidates if _selected(select, *c)]
    for entry in select if isinstance(select, Sequence) and not isinstance(select, str) else ():
        if wanted and not any(_selected(entry, *c) for c in candidates):
            raise ValueError(
                f"`select` must have entries that each select a weight, but {entry!r} selects none. "
                f"{suggestion(str(entry), [name for name, *_ in candidates if name][:20])}"
            )
    if not wanted:
        candidates = [candidate for candidate in candidates if candidate[-1]]
        names = ", ".join(f"`{name}`" for name, *_ in candidates[:5])
        raise ValueError(
            f"`select` must leave a weight for the chip, got {select!r} for a {type(model).__name__} with "
            f"{f'{len(candidates)} weights to choose from: {names}' if candidates else 'none'}"
            f"{', …' if len(candidates) > 5 else ''}. An evaluation would be without noise."
        )
    chosen = {(module, matrix.attribute) for _, _, module, _, matrix, _ in wanted}
    owners = _owners(model)
    places: dict[object, Place] = {}
    found: dict[tuple[int, str], ChipTensor] = {}
    for name, layer, module, _, matrix, _ in wanted:
        key = (module, matrix.attribute)
        memory = _memory(module._parameters.get(matrix.attribute)) or key
        if memory not in places:
            places[memory] = _place(layer, module, matrix.attribute, owners.get(memory, []), chosen)
        place = places[memory]
        found.setdefault((id(place), matrix.part), ChipTensor(name, module, place, matrix))
    return list(found.values())


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers."""
    return _WRAPPERS.sub("", name.lstrip("."))


_Candidate = tuple[str, str, nn.Module, nn.Module | None, LayerWeight, bool]
"""Names of a tensor and its layer, the layer, the attention layer whose projection it is, the matrix, and whether the
type of the layer is known."""


def _candidates(model: nn.Module) -> Iterator[_Candidate]:
    parents = {id(m.out_proj): m for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    taken: set[str] = set()
    for path, module in model.named_modules():
        known = weights_of(module)
        for matrix in known or unknown_weights_of(module):
            full = f"{path}.{matrix.name}".lstrip(".")
            name = plain_name(full)
            name = full if name in taken else name
            taken.add(name)
            yield name, name.removesuffix(matrix.name).rstrip("."), module, parents.get(id(module)), matrix, bool(known)


def _selected(
    select: Select, name: str, layer: str, module: nn.Module, parent: nn.Module | None, matrix: LayerWeight, known: bool
) -> bool:
    if not known and not isinstance(select, (list, tuple)):
        return select in (name, type(module))
    if select is None:
        return not isinstance(module, DIGITAL)
    if isinstance(select, type):
        return isinstance(module, select) or isinstance(parent, select)
    if isinstance(select, str):
        return fnmatchcase(layer, select) or fnmatchcase(name, select)
    if isinstance(select, Sequence):
        return any(_selected(one, name, layer, module, parent, matrix, known) for one in select)
    if not callable(select):
        raise TypeError(f"`select` must be a type, a pattern, a list of these or a function, got {select!r}.")
    return bool(select(layer, module))


def _memory(parameter: Tensor | None) -> object:
    """What two parameters have in common when a value written to one reaches the other."""
    if parameter is None:
        return None
    if type(parameter) is not nn.Parameter or parameter.is_meta or not parameter.numel():
        return id(parameter)
    return parameter.device, parameter.data_ptr()


_Owner = tuple[str, nn.Module, str]


def _owners(model: nn.Module) -> dict[object, list[_Owner]]:
    owners: dict[object, list[_Owner]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(_memory(parameter), []).append((path, module, name))
    return owners


def _place(layer: str, module: nn.Module, name: str, owners: list[_Owner], chosen: set[tuple[nn.Module, str]]) -> Place:
    parameter = module._parameters.get(name)
    if parametrize.is_parametrized(module, name):
        return Computed([(module, name)], "takes the place of the computed weight")
    if f"{name}_orig" in module._parameters and f"{name}_mask" in module._buffers:
        return Masked([(module, name)], "takes the place of the pruned weight")
    if parameter is None:
        raise ValueError(
            f"`{name}` of layer `{layer}` is computed by a hook, which cannot be replaced safely. Use "
            "torch.nn.utils.parametrizations (weight_norm, spectral_norm) instead of the old functions."
        )
    if nn.parameter.is_lazy(parameter):
        raise ValueError(f"`{name}` of layer `{layer}` has no shape yet. Run the model once, then put it on a chip.")
    if len({(m._parameters[n].shape, m._parameters[n].stride()) for _, m, n in owners}) > 1:  # type: ignore[union-attr]
        names = ", ".join(f"`{path}.{n}`" for path, _, n in owners)
        raise ValueError(f"{names} share memory in different layouts. Untie them: noise would leak.")
    users = [(m, n) for _, m, n in owners if (m, n) in chosen]
    if len(users) == len(owners):
        return Stored(users)
    digital = next(plain_name(f"{path}.{n}") for path, m, n in owners if (m, n) not in chosen)
    return Alone(users, f"on this layer alone: shared with `{digital}`, which stays digital")
