"""Which tensors a rule scales, by its policy and the layers on the chip, and their scales T."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from samson.optim._ascent import norms
from samson.optim._chip import chip_weights, matrices_of
from samson.optim.rules import NAMELESS, POLICIES, Rule, ScalingRule, require_ascent


def check_policy(rule: Rule, groups: Iterable[dict[str, Any]], names: dict[Tensor, str]) -> int:
    """Refuse settings out of their range, and a scaling rule that would be SAM in silence.

    Returns:
        How many parameters have no name by which such a rule would know them, and so move as SAM's.

    Raises:
        ValueError: Names the parameter, the value, the rule and the mend.
    """
    groups = [group for group in groups if group.get("perturb", True)]
    for group in groups:
        rule.within(group)
    if not isinstance(rule, ScalingRule):
        return 0
    kind = type(rule).__name__
    active = [(own, p) for group in groups for own in [rule.within(group)] for p in group["params"]]
    by_name = [own.policy for own, p in active if own.policy not in NAMELESS and p not in names]
    if by_name and len(by_name) == len(active):
        raise ValueError(
            f"`{kind}` with policy={by_name[0]!r} picks tensors by name, and no parameter has a name. Make the base "
            "optimizer with `samson.param_groups(model)`, or pass `model=` to SharpnessAware: one that holds them."
        )
    if not any(own.scales_tensor(names.get(p, ""), p) for own, p in active):
        tried = dict.fromkeys(own.policy for own, _ in active)
        other = next(name for name, picks in POLICIES.items() if any(picks(names.get(p, ""), p) for _, p in active))
        raise ValueError(
            f"`policy` {' and '.join(map(repr, tried))} picks none of the {len(active)} perturbed tensors, frozen ones "
            f"aside, so {kind} would silently be SAM. Use another policy, such as {other!r}, or SAM."
        )
    return len(by_name)


def unscaled(
    rule: Rule, groups: Iterable[dict[str, Any]], names: dict[Tensor, str], model: nn.Module | None
) -> list[str]:
    """The names of what lies on a chip, but is moved as SAM's: packed experts, whose names hold no "weight"."""
    if not isinstance(rule, ScalingRule):
        return []
    matrices = matrices_of([model])
    return [
        names[p]
        for group in groups
        if group.get("perturb", True)
        for p in group["params"]
        if p in names and p in matrices and not rule.within(group).scales_tensor(names[p], p)
    ]


@torch.no_grad()
def scales(rule: Rule, named_weights: Iterable[tuple[str, Tensor]], model: nn.Module | None = None) -> list[Tensor]:
    """The elementwise scale T of a rule's ball ‖T⁻¹ε‖₂ ≤ ρ, for each weight; 1 where its policy leaves T alone.

    Args:
        rule: An ascent rule.
        named_weights: Whole weights with their names, as `model.named_parameters()` gives them.
        model: The model with parameters of these names, by whose layers a rule that moves what lies on a chip knows
            that; without it, by the weights' shapes.

    Returns:
        One real tensor for each weight, of its shape.

    Raises:
        TypeError: If the rule is no ascent rule.
        ValueError: If a rule that scales would scale none of the weights.

    Example:
        >>> from samson import ASAM
        >>> [scale] = scales(ASAM(eta=0.5), [("weight", torch.tensor([-1.0, 2.0]))])
        >>> scale
        tensor([1.5000, 2.5000])
    """
    ascent, named = require_ascent(rule), list(named_weights)
    check_policy(ascent, [{"params": [w for _, w in named]}], {w: name for name, w in named})
    if not ascent.on_chip:
        return [
            ascent.scale([w], norms)[0] if ascent.scales_tensor(name, w) else torch.ones_like(w.abs())
            for name, w in named
        ]
    owned = {} if model is None else dict(model.named_parameters())
    at = {owned.get(name, w): number for number, (name, w) in enumerate(named)}
    found = [torch.zeros_like(w) for _, w in named]
    for weight in chip_weights(at, [model], type(rule).__name__, getattr(rule, "select", None)):
        number, matrix = at[weight.parameter], weight.matrix
        own = matrix.output_first(matrix.within(named[number][1]))
        matrix.within(found[number]).copy_(matrix.stored(ascent.scale([own], norms)[0]))
    return found
