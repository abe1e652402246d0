"""Which parameters lie on a chip: the weight matrices of layers, known by the layers' types or selected."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from samson._layers import DIGITAL, LayerWeight
from samson._select import Candidate, Select, candidates, entries, require_met, selected
from samson.optim._matrices import ChipWeight

PLAIN = LayerWeight("weight")
"""A parameter of no known layer as one matrix."""


class Models(nn.ModuleList):
    """Models that one optimizer knows as one; in a selection each has its own names, without a number before them."""


def each(models: Iterable[nn.Module | None]) -> list[nn.Module]:
    """The models themselves; None is none."""
    known = (model for model in models if model is not None)
    return [one for model in known for one in (model if isinstance(model, Models) else [model])]


def chip_weights(
    parameters: Iterable[Tensor], models: Iterable[nn.Module | None], what: str, select: Select = None
) -> list[ChipWeight]:
    """Pick the weight matrices that lie on a chip, by the same notion as `samson.noise.on_chip`.

    By default that is the weights of linear, convolution, attention, recurrent and bilinear layers. Embeddings,
    scales and biases stay digital, and so does what a layer of another type owns. A parameter that none of the models
    owns is a matrix if it has two axes or more with more than one element.

    Args:
        parameters: Any parameters; those that are not real floating-point numbers lie on no chip.
        models: The models that own them; None is none. A layer of several has its name in the first of them.
        what: What is about to change the weights, for the error.
        select: Which layers, as for `on_chip`.

    Raises:
        ValueError: If the weight of a layer is computed from some of the parameters; if a selection finds no model, or
            has an entry that meets no weight of them.
    """
    real = [p for p in parameters if p.is_floating_point()]
    known = each(models)
    if select is not None and not known:
        raise ValueError(
            f"`select` needs the model, got {select!r} for parameters without one. Make the base optimizer with "
            "`samson.param_groups(model)`, or pass `model=` to the wrapper."
        )
    wanted, found = set(real), dict[tuple[Tensor, str], ChipWeight]()
    computed: dict[str, str] = {}  # names of weights, and what leaves them out
    for _, path, module, _, matrix, _ in _picked(select, known):
        weight = module._parameters.get(matrix.attribute)
        if weight is not None and weight in wanted:
            found.setdefault((weight, matrix.part), ChipWeight(weight, matrix, module))
        elif weight is None and not wanted.isdisjoint(_sources(module, matrix.attribute)):
            computed[f"{path}.{matrix.attribute}".lstrip(".")] = f"!{path or matrix.name}"
    if computed:
        rest = [*(["default"] if select is None else entries(select)), *computed.values()]
        mend = f"Leave its layer out with `select={rest}`" if found else "Make it one: remove what computes it"
        raise ValueError(
            f"`{next(iter(computed))}` must be a parameter for {what}, got a weight that a parametrization, weight "
            f"norm or pruning computes. {mend}. For quantisation-aware training take `NoiseInjection(Quantize(…))` on "
            "a plain layer, or select '*.original' too: the weight that a fake-quantiser rounds."
        )
    owned = {p for model in known for p in model.parameters()}
    order = {p: number for number, p in enumerate(real)}
    free = [p for p in real if p not in owned] if select is None else []
    loose = [ChipWeight(p, PLAIN, None) for p in free if _looks_like_a_matrix(p)]
    return sorted((*found.values(), *loose), key=lambda weight: order[weight.parameter])


def matrices_of(models: Iterable[nn.Module | None]) -> set[Tensor]:
    """The parameters of models that lie on a chip by default; a weight that is computed is none."""
    held = {one.module._parameters.get(one.matrix.attribute) for one in _picked(None, each(models))}
    return {parameter for parameter in held if parameter is not None}


def is_all_unknown(models: Iterable[nn.Module | None]) -> bool:
    """Whether the models have matrices, but in layers that are not known, so that none lies on a chip by default."""
    known = each(models)
    return not _picked(None, known) and any(not one.known for model in known for one in candidates(model))


def unknown_share(models: Iterable[nn.Module | None]) -> tuple[float, str]:
    """The share of weights in layers of unknown types that are not torch's, and the type that holds most of them."""
    sizes: Counter[str | None] = Counter()
    for one in _all_matrices(models):
        weight = one.module._parameters.get(one.matrix.attribute)
        if weight is None or nn.parameter.is_lazy(weight) or isinstance(one.module, DIGITAL):
            continue
        kind = None if one.known or type(one.module).__module__.startswith("torch.") else type(one.module).__name__
        shape = torch.empty(weight.shape, device="meta")  # of a sharded weight each part would be gathered
        sizes[kind] += one.matrix.within(shape).numel()
    unknown = Counter({kind: size for kind, size in sizes.items() if kind is not None})
    return (unknown.total() / sizes.total(), unknown.most_common(1)[0][0]) if unknown else (0.0, "")


def how_to_select(models: Iterable[nn.Module | None]) -> str:
    """What to say where nothing lies on a chip: the name of the largest weight that a selection may put there."""
    every = _all_matrices(models)
    every = [one for one in every if not one.known] or every
    sizes = {
        one.name: p.numel() for one in every if (p := one.module._parameters.get(one.matrix.attribute)) is not None
    }
    if not sizes:
        return "Give it a model with linear, convolution or recurrent layers"
    return f"Say by name what lies there, such as `select={max(sizes, key=sizes.__getitem__)!r}`"


def _all_matrices(models: Iterable[nn.Module | None]) -> list[Candidate]:
    """All matrices of the models, on a chip or not."""
    return [one for model in each(models) for one in candidates(model) if "bias" not in one.matrix.attribute]


def _picked(select: Select, models: Iterable[nn.Module]) -> list[Candidate]:
    """What a selection picks of several models, each layer by one name: else one that leaves it out would not count."""
    by_model, seen = [], set[int]()
    for model in models:
        by_model.append([one for one in candidates(model) if id(one.module) not in seen])
        seen |= {id(one.module) for one in by_model[-1]}
    found = [one for every in by_model for one in selected(select, every)]
    if found:
        require_met(select, [one for every in by_model for one in every])
    return found


class Finder:
    """Finds the weights that lie on a chip, and looks again only where something changed.

    Args:
        what: As for `chip_weights`.
        select: As for `chip_weights`.
    """

    def __init__(self, what: str, select: Select = None) -> None:
        self._what, self._select = what, select
        self._asked: list[object] = []
        self._found: list[ChipWeight] = []

    def __call__(self, parameters: Sequence[Tensor], models: Iterable[nn.Module | None]) -> list[ChipWeight]:
        """The weights on the chip among some parameters."""
        asked = [*parameters, *(model for model in models if model is not None)]
        same = len(asked) == len(self._asked) and all(map(operator.is_, asked, self._asked))
        if not same or not all(
            w.layer is None or w.layer._parameters.get(w.matrix.attribute) is w.parameter for w in self._found
        ):
            self._found = chip_weights(parameters, models, self._what, self._select)
            self._asked = asked
        return self._found


def _sources(layer: nn.Module, attribute: str) -> list[Tensor]:
    """The parameters from which a layer computes a weight."""
    found: list[Tensor] = [
        p for name, p in layer._parameters.items() if p is not None and name.startswith(f"{attribute}_")
    ]
    parametrizations = layer._modules.get("parametrizations")
    of_weight = None if parametrizations is None else parametrizations._modules.get(attribute)
    return found if of_weight is None else [*found, *of_weight.parameters()]


def _looks_like_a_matrix(p: Tensor) -> bool:
    return (p.ndim == 2 and p.shape[1] > 1) or sum(size > 1 for size in p.shape) >= 2
