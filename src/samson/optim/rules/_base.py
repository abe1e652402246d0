"""What rules have in common, and the two kinds of ascent: a round ball, and one that is scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from samson._checks import require_non_negative, require_one_of
from samson.optim.rules._policies import POLICIES

Norms = Callable[[Sequence[Tensor], float], list[Tensor]]
"""`norms(tensors, p)` gives each tensor's p-norm as a tensor without axes, over all shards of the tensor."""


@dataclass(frozen=True)
class Rule:
    """How weights are perturbed before the gradient of a step is taken: by an ascent, or by a random draw.

    Args:
        rho: Size ρ ≥ 0 of the perturbation, with which each parameter group starts. A group's own `rho` is the one
            that counts: set it in the group, or let `RhoSchedule` do so.

    Raises:
        ValueError: If `rho` is negative or not finite.
    """

    on_chip: ClassVar[bool] = False
    """Whether only what lies on a chip is perturbed, which the rule's `select` says; the rest is not counted either."""

    rho: float = field(kw_only=True)

    def __post_init__(self) -> None:
        self.radius({})

    def group_settings(self) -> dict[str, Any]:
        """What a parameter group holds for itself, with this rule's values; a tensor is the group's own."""
        return {"rho": self.rho.detach().clone() if isinstance(self.rho, Tensor) else float(self.rho)}

    def radius(self, group: Mapping[str, Any]) -> float | Tensor:
        """A parameter group's ρ, this rule's own where it has none: read nowhere else.

        A tensor (with which compiled code is not compiled again when ρ changes) is not checked: that would wait for
        the device.

        Raises:
            ValueError: If ρ is out of its range.
        """
        rho: float | Tensor = group.get("rho", self.rho)
        if not isinstance(rho, Tensor):
            require_non_negative(rho=rho)
        return rho

    def within(self, group: Mapping[str, Any]) -> Self:
        """This rule with a parameter group's own settings, ρ excepted.

        Raises:
            ValueError: If a setting or ρ is out of its range.
        """
        self.radius(group)
        return self


@dataclass(frozen=True)
class AscentRule(Rule):
    """A rule that climbs to the first-order maximum of the loss in the ball ‖T⁻¹ε‖₂ ≤ ρ.

        ε = ρ · T² ∘ g / (‖T ∘ g‖₂ + 1e-16)

    with one norm over every perturbed tensor. A rule only says what the elementwise scale T is.

    Args:
        rho: Radius ρ ≥ 0.

    Raises:
        ValueError: If `rho` is negative or not finite.
    """

    rho: float

    def within(self, group: Mapping[str, Any]) -> Self:
        """This rule with a parameter group's own settings (under the names of its fields), ρ excepted."""
        super().within(group)
        own = {f.name: group[f.name] for f in fields(self) if f.name != "rho" and group.get(f.name) is not None}
        return replace(self, **own) if own else self

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        """Whether T differs from 1 for this parameter."""
        return False

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """Give T for each of the tensors that `scales_tensor` picks; never changes `weights`.

        Args:
            weights: Parameters of any shapes, or this process's parts of sharded ones, perhaps empty. So take every
                number about a whole tensor from `norms`, also how many elements it has:
                `norms([torch.ones_like(w) for w in weights], 1)`.
            norms: Gives a p-norm for each whole tensor. All processes must call it equally often.

        Returns:
            One new real tensor for each weight, of its shape, ≥ 0.
        """
        raise NotImplementedError(f"{type(self).__name__} scales no tensor")

    def fast(self) -> FastScale | None:
        """T once more, in the form that the fast paths take; None where `scale` alone says what it is.

        It is for an elementwise function of |w| times a factor that is a function of the whole tensor's p-norm alone.
        """
        return None


@dataclass(frozen=True)
class ScalingRule(AscentRule):
    """A rule whose T depends on the weight, for the tensors that a policy picks; T = 1 for the others.

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0, added to |w| so that weights at zero can move.
        policy: Which tensors are scaled: "authors" (name contains "weight"), "matrices" (two axes or more), "all".

    Raises:
        ValueError: If a setting is out of its range or the policy is unknown.
    """

    rho: float = 0.5
    eta: float = 0.01
    policy: str = "authors"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_non_negative(eta=self.eta)
        require_one_of(POLICIES, policy=self.policy)

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        """Whether the policy picks this parameter."""
        return POLICIES[self.policy](name, tensor)


class FastScale(NamedTuple):
    """T = factor(‖w_l‖_p) · numerator(|w|, eta), for many weights at once and for the compiler.

    Args:
        numerator: Changes |w| in place, elementwise, and returns it.
        eta: Second argument of `numerator`.
        p: Order of the norm of each whole weight; None if T needs no norm.
        factor: One factor for each weight, from a tensor of norms; 1 if T needs no norm.
    """

    numerator: Callable[[Tensor, float], Tensor]
    eta: float
    p: float | None = None
    factor: Callable[[Tensor], Tensor] = torch.ones_like


def fast_scale(rule: AscentRule) -> FastScale | None:
    """A rule's fast form, unless a subclass has given it another `scale`: then the inherited one is not its own."""
    scale, fast = (next(c for c in type(rule).__mro__ if name in vars(c)) for name in ("scale", "fast"))
    return rule.fast() if scale is fast else None


def require_ascent(rule: Rule) -> AscentRule:
    """The rule, if it is one that climbs.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(rule, AscentRule):
        raise TypeError(f"`rule` must be an ascent rule such as SAMSON(rho=0.5), got {rule!r:.80}.")
    return rule
