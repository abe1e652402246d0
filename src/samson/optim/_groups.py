"""Parameter groups with names, linked to the model that they come from."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from samson._layers import INPUT_RANGE, is_input_range

_MODELS = WeakTensorKeyDictionary()


def norm_layers(module: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to a norm layer: for `param_groups(model, perturb=norm_layers)` (SAM-ON).

    Norm layers are known by their class's name (BatchNorm, LayerNorm, RMSNorm, …).

    Reference: Müller et al. 2023, arXiv 2306.04226: perturbing norm layers alone is often enough.
    """
    return "norm" in type(module).__name__.lower()


def param_groups(model: nn.Module, *, perturb: Callable[[nn.Module, str], bool] | None = None) -> list[dict[str, Any]]:
    """Give a model's parameters as named groups, ready for any `torch.optim` optimizer.

    The names say which tensors a rule scales; the link to the model (outside the group, which stays plain)
    lets `SharpnessAware` hold norm statistics still while it perturbs.

    Args:
        model: The model to train. Shared parameters are listed once.
        perturb: Which parameters are perturbed, from the module that holds one and its name; by default all.
            The others form a second group with `perturb=False`.

    Returns:
        A list of one or two groups of `params` and `param_names`, and one of input ranges where the model is trained
        through a chip (`samson.noise.ThroughChip`): not perturbed, without weight decay.

    Raises:
        TypeError: If `model` is no module.
        ValueError: If the model has no parameter, or none is to be perturbed.

    Example:
        >>> [group] = param_groups(nn.Linear(3, 2))
        >>> group["param_names"]
        ['weight', 'bias']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a module, whose names are then known, got {type(model).__name__}.")
    modules = reversed([*model.modules()])  # a shared parameter is its first module's, whose name it has
    owners = {p: module for module in modules for p in module.parameters(recurse=False)}
    chosen: dict[bool | str, dict[str, Any]] = {True: {"params": [], "param_names": []}}
    for name, parameter in model.named_parameters():
        kind: bool | str = perturb is None or bool(perturb(owners[parameter], name))
        kind = INPUT_RANGE if is_input_range(name) else kind
        group = chosen.setdefault(kind, {"params": [], "param_names": [], "perturb": False})
        group["params"].append(parameter)
        group["param_names"].append(name)
        _MODELS[parameter] = weakref.ref(model)
    if not chosen[True]["params"]:
        rule = (
            "at least one parameter" if perturb is None or False not in chosen else "a parameter that `perturb` picks"
        )
        raise ValueError(f"`model` must have {rule}, got {type(model).__name__} with none.")
    if INPUT_RANGE in chosen:
        chosen[INPUT_RANGE]["weight_decay"] = 0.0
    return list(chosen.values())


def link(model: nn.Module) -> None:
    """Lead from parameters to their model, where `param_groups` did not take them: those of a copy."""
    for parameter in model.parameters():
        if parameter not in _MODELS:
            _MODELS[parameter] = weakref.ref(model)


def linked_models(groups: Iterable[dict[str, Any]], known: nn.Module | None = None) -> list[nn.Module]:
    """The models from which `param_groups` took the parameters of these groups, as far as they are still there.

    Raises:
        ValueError: If one of which a group has the names is gone, and no other model is known.
    """
    found: dict[int, nn.Module] = {}
    linked = [(_MODELS[p](), "param_names" in one) for one in groups for p in one["params"] if p in _MODELS]
    for model, has_names in linked:
        if model is not None:
            found[id(model)] = model
        elif known is None and has_names:
            raise ValueError(
                "The model that `param_groups` was given must still be there, but it is gone: layers, names and "
                "statistics are not known without it. Keep it in a variable, as in `both = nn.ModuleList([one, other])`"
                "; `param_groups(both)`."
            )
    return list(found.values())


def names_by_parameter(groups: Iterable[dict[str, Any]], model: nn.Module | None) -> dict[Tensor, str]:
    """Each parameter's name: from its group if the group has one for each, else from the model by identity."""
    of_model: dict[Tensor, str] = {} if model is None else {p: name for name, p in model.named_parameters()}
    names: dict[Tensor, str] = {}
    for group in groups:
        given = group.get("param_names", ())
        names |= dict(zip(group["params"], given, strict=False))
        if len(given) != len(group["params"]):  # some came later
            names |= {p: of_model[p] for p in group["params"] if p in of_model}
    return names


def rates_are_zero(optimizer: Optimizer) -> bool:
    """Whether a step is none to count: distributed checkpointing makes the state by one with learning rates of 0."""
    given = [group.get("lr") for group in optimizer.param_groups]
    rates = [1.0 if lr is None else lr for lr in given]  # one that finds its own rate has None
    waits = any(isinstance(lr, Tensor) and lr.device.type != "cpu" for lr in rates)  # to read one would
    return not waits and all(float(lr) == 0 for lr in rates)
