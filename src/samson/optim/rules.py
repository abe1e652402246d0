"""Ascent rules: one formula each, for the elementwise scale T of the worst-case perturbation.

Every rule climbs to the first-order maximum of the loss in the ball ‖T⁻¹ε‖₂ ≤ ρ:

    ε = ρ · T² ∘ g / (‖T ∘ g‖₂ + 1e-16)

with one norm over every perturbed tensor. A rule only says what T is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor

from samson.optim.policies import POLICIES

Norms = Callable[[Sequence[Tensor], float], list[Tensor]]
"""`norms(tensors, p)` gives each tensor's p-norm as a tensor without axes, over all shards of the tensor."""


class Magnitude(NamedTuple):
    """The scale T = (|w| + eta) / ‖w_l‖_p, or |w| + eta where `p` is None: what the fast paths know."""

    eta: float
    p: float | None


@dataclass(frozen=True)
class Rule:
    """What every ascent rule has: the radius of its ball, and a scale.

    Args:
        rho: Radius ρ ≥ 0 of the ball ‖T⁻¹ε‖₂ ≤ ρ. A parameter group's own `rho` takes its place.

    Raises:
        ValueError: If `rho` is negative or not finite.
    """

    rho: float

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "scale" in cls.__dict__ and "magnitude" not in cls.__dict__:
            cls.magnitude = Rule.magnitude  # type: ignore[method-assign] # a new formula is not the inherited one

    def __post_init__(self) -> None:
        _require(0 <= self.rho < math.inf, "rho", "≥ 0 and finite", self.rho)

    def group_settings(self) -> dict[str, Any]:
        """What every parameter group holds for itself, with this rule's values."""
        return {"rho": self.rho}

    def within(self, group: dict[str, Any]) -> Self:
        """This rule with the settings that a parameter group brings, under the names of the rule's own.

        A `rho` that is a tensor (so that compiled code need not be compiled again when it changes) is left in the
        group, unchecked: looking at it would wait for the device.

        Raises:
            ValueError: If a setting is out of its range.
        """
        own = tuple(
            (f.name, group[f.name]) for f in fields(self) if not isinstance(group.get(f.name), (Tensor, type(None)))
        )
        return cast("Self", _with(self, own))

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        """Whether T differs from 1 for this parameter."""
        return False

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """Give T for each of the tensors that `scales_tensor` picks; never changes `weights`.

        Args:
            weights: Parameters of any shapes.
            norms: Gives a p-norm for each tensor.

        Returns:
            One new real tensor for each weight, of its shape, ≥ 0.
        """
        raise NotImplementedError(f"{type(self).__name__} scales no tensor")

    def magnitude(self) -> Magnitude | None:
        """T as a formula that the fast paths know, or None: then `scale` alone says what it is."""
        return None


@dataclass(frozen=True)
class SAM(Rule):
    """Sharpness-aware minimisation: T = 1, a round ball.

    Args:
        rho: Radius ρ ≥ 0.

    Example:
        >>> SAM(rho=0.1)
        SAM(rho=0.1)

    Reference: Foret et al. 2021, arXiv 2010.01412, equation 2.
    """

    rho: float = 0.05


@dataclass(frozen=True)
class ScalingRule(Rule):
    """A rule whose T depends on the weight, for the tensors that a policy picks; T = 1 for the others.

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0, added to |w| so that weights at zero can move.
        policy: Which tensors are scaled: "authors" (name contains "weight"), "matrices" (two axes or more), "all".

    Raises:
        ValueError: If a setting is out of its range or the policy is unknown.
    """

    eta: float = 0.01
    policy: str = "authors"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.eta < math.inf, "eta", "≥ 0 and finite", self.eta)
        _require(self.policy in POLICIES, "policy", f"one of {', '.join(POLICIES)}", self.policy)

    def scales_tensor(self, name: str, tensor: Tensor) -> bool:
        """Whether the policy picks this parameter."""
        return POLICIES[self.policy](name, tensor)


@dataclass(frozen=True)
class ASAM(ScalingRule):
    """Adaptive SAM: T = |w| + η, so that sharpness does not change when a layer is rescaled (η = 0).

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0.
        policy: Which tensors are scaled.

    Example:
        >>> ASAM(rho=0.5).eta
        0.01

    Reference: Kwon et al. 2021, arXiv 2102.11600, section 3. Its text scales every weight but no bias; here, as in
    the SAMSON authors' code, the policy decides.
    """

    rho: float = 0.5

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """T = |w| + η; for a complex weight |w| is the modulus."""
        scales = list(torch._foreach_abs(list(weights)))
        torch._foreach_add_(scales, self.eta)
        return scales

    def magnitude(self) -> Magnitude:
        """T as the fast paths take it."""
        return Magnitude(self.eta, None)


@dataclass(frozen=True)
class SAMSON(ScalingRule):
    """SAMSON: T = (|w| + η) / ‖w_l‖_p, a weight's magnitude over the range of its own layer.

    The norm is taken per tensor, of w without η. With η = 0, T does not change when a layer is rescaled. A tensor of
    zeros has no range: its T is 0 and it is left where it is.

    Args:
        rho: Radius ρ ≥ 0.
        eta: η ≥ 0.
        policy: Which tensors are scaled.
        p: Order of the norm, a real number ≥ 1 or infinity (the default: the layer's largest weight).

    Raises:
        ValueError: If a setting is out of its range or the policy is unknown.

    Example:
        >>> SAMSON(rho=0.5, p=2).policy
        'authors'

    Reference: Mordido, Henwood, Chandar, Leduc-Primeau 2022, arXiv 2211.11561, with T as in the public code of an
    author (github.com/sebastienwood/SamsonViT, 2023-11).
    """

    rho: float = 0.5
    p: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.p >= 1, "p", "≥ 1 (or infinity)", self.p)

    def scale(self, weights: Sequence[Tensor], norms: Norms) -> list[Tensor]:
        """T = (|w| + η) / ‖w_l‖_p, and 0 for a tensor of zeros."""
        scales = list(torch._foreach_abs(list(weights)))
        torch._foreach_add_(scales, self.eta)
        ranges = torch.stack(norms(weights, self.p))
        factors = torch.where(ranges > 0, ranges.reciprocal(), torch.zeros_like(ranges))
        torch._foreach_mul_(scales, list(factors.unbind()))
        return scales

    def magnitude(self) -> Magnitude:
        """T as the fast paths take it."""
        return Magnitude(self.eta, self.p)


RULES: dict[str, type[Rule]] = {"sam": SAM, "asam": ASAM, "samson": SAMSON}
"""The catalogue: a rule that joins it joins the contract tests and the command line."""


@lru_cache(maxsize=256)
def _with(rule: Any, settings: tuple[tuple[str, Any], ...]) -> Any:
    return replace(rule, **dict(settings))


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
