"""Sharpness: how much the loss rises in a rule's ball around the weights, and under a noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor, nn

from samson._batches import Examples
from samson._checks import require_whole
from samson._shown import Shown
from samson.evaluation import (
    TRIALS,
    Evaluation,
    ExampleMetric,
    Setting,
    evaluate,
    takes_setting,
)
from samson.noise import WeightNoise
from samson.optim import Rule, scales
from samson.sharpness._surface import Surface, differentiable, loss_surface

SMALLEST = 1e-16
"""Added to a gradient norm, as in training."""


@dataclass(frozen=True, repr=False)
class WorstCase(Shown):
    """The loss along an ascent within a rule's ball.

    Args:
        rule: The rule, with the radius of its ball.
        clean: Loss at the weights.
        losses: Loss after each step; infinite where it is not a number.
    """

    rule: Rule
    clean: float
    losses: tuple[float, ...]

    @property
    def rise(self) -> float:
        """The largest loss on the way minus the clean loss: never less than the rise of one step."""
        return max(self.losses) - self.clean

    @property
    def one_step(self) -> float:
        """The loss at the rule's own w + ε minus the clean loss, which is what training by it sees."""
        return self.losses[0] - self.clean

    def __str__(self) -> str:
        return (
            f"the loss rises by {self.rise:.4g} from {self.clean:.4g} in {len(self.losses)} steps within the ball of "
            f"{type(self.rule).__name__}(rho={self.rule.rho:g})"
        )


def worst_case_rise(
    model: nn.Module,
    data: Examples,
    rule: Rule,
    *,
    loss: str | ExampleMetric = "cross-entropy",
    steps: int = 1,
) -> WorstCase:
    """How much the loss over all of the data rises within a rule's ball ‖T⁻¹ε‖₂ ≤ ρ around the weights.

    Projected ascent along the normalised gradient of the whole data, with T fixed at the weights:

        u_0 = 0,   u_{k+1} = Π(u_k + ρ·T∘g_k / (‖T∘g_k‖₂ + 1e-16)),   ε_k = T∘u_k,   g_k = ∇L(w + ε_k)
        Π(u) = u·min(1, ρ / ‖u‖₂),   rise = max_k L(w + ε_k) − L(w),   k ≥ 1

    The first step is the rule's own ε, so more steps never give less. It is a lower bound of the largest rise in the
    ball. The model runs in evaluation mode, with the running statistics of its norm layers; weights come back bitwise.

    Args:
        model: Any model that the loss can look at.
        data: As for `evaluate`; batches are summed up in float64, so the result does not depend on their size beyond
            the rounding of each example's loss and each batch's gradient.
        rule: SAM, ASAM, SAMSON or another rule, with its radius and policy.
        loss: A name in `METRICS` or an `ExampleMetric`.
        steps: Number of steps, ≥ 1.

    Raises:
        ValueError: If `steps` is below 1, the rule would scale no tensor, or the loss or its gradient is not finite.
        RuntimeError: Inside `parametrize.cached()`, where the model would go on with the cached weights.

    Example:
        >>> from samson import SAM
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> found = worst_case_rise(nn.Linear(4, 3), data, SAM(rho=0.1), steps=3)
        >>> 0 < found.one_step <= found.rise
        True

    Reference: Foret et al. 2021, arXiv 2010.01412, equation 1, for the sharpness; Madry et al. 2018, arXiv 1706.06083,
    for projected ascent, there on inputs.
    """
    require_whole(1, steps=steps)
    with loss_surface(model, data, loss) as surface:
        ball = Ball.around(surface, rule)
        clean, gradient = surface.loss_and_gradient()
        position = [torch.zeros_like(w) for w in surface.weights]
        losses: list[float] = []
        while len(losses) < steps and length(gradient) < math.inf:
            position = ball.climbed(position, gradient)
            if len(losses) == steps - 1:
                value = surface.loss(ball.displacement(position))
            else:
                value, gradient = surface.loss_and_gradient(ball.displacement(position))
            losses.append(math.inf if math.isnan(value) else value)
    if not losses or not math.isfinite(clean):
        raise ValueError(f"`model` must have a finite loss and gradient on `data`, got a loss of {clean}.")
    return WorstCase(rule, clean, tuple(losses))


@takes_setting
def average_rise(
    model: nn.Module, data: Examples, noise: WeightNoise, *, trials: int = TRIALS, **setting: Unpack[Setting]
) -> Evaluation:
    """How much the loss rises on average over chips: each chip's loss minus the loss without noise.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        noise: What the hardware does to a weight.
        trials: Number of chips, at least 2.
        setting: As for `evaluate` (see `Setting`); the metric is "cross-entropy" unless another is named.

    Returns:
        An evaluation whose trials are rises, one a chip; its interval is about other chips on these examples. It holds
        no scores of examples, which need not come in the same order for every chip.

    Raises:
        ValueError: If the metric has no value for each example, or as for `evaluate`.

    Example:
        >>> from samson.noise import Gaussian
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> rise = average_rise(nn.Linear(4, 3), data, Gaussian(0.1), trials=5)
        >>> len(rise.trials), rise.metric.name
        (5, 'rise of cross-entropy')
    """
    metric = setting["metric"] = differentiable(setting.get("metric", "cross-entropy"))
    found = evaluate(model, data, noise, trials=trials, **setting)
    assert found.clean is not None
    rises = tuple(value - found.clean for value in found.trials)
    named = replace(metric, name=f"rise of {metric.name}", bounds=None)
    return replace(found, trials=rises, scores=None, metric=named, clean=None, clean_scores=None)


@dataclass(frozen=True, eq=False)
class Ball:
    """The ball ‖T⁻¹ε‖₂ ≤ ρ of a rule around weights, in the coordinates u = T⁻¹ε.

    Args:
        rho: Radius.
        scales: T for each weight, in float64, taken at the centre.
    """

    rho: float
    scales: list[Tensor]

    @classmethod
    def around(cls, surface: Surface, rule: Rule) -> Ball:
        """The ball around the weights of a surface.

        Raises:
            TypeError: If it is no rule.
            ValueError: If the rule scales, and would scale no tensor.
        """
        found = scales(rule, zip(surface.names, surface.weights, strict=True), surface.model)
        return cls(rule.rho, found)

    def climbed(self, position: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        """The position after a step of length ρ along the gradient, brought back into the ball."""
        step = self.direction(gradient)
        there = [u + self.rho * d for u, d in zip(position, step, strict=True)]
        beyond = length(there)
        return [u * (self.rho / beyond) for u in there] if beyond > self.rho else there

    def direction(self, gradient: Sequence[Tensor]) -> list[Tensor]:
        """T∘g / (‖T∘g‖₂ + 1e-16)."""
        scaled = [t * g for t, g in zip(self.scales, gradient, strict=True)]
        norm = length(scaled) + SMALLEST
        return [g / norm for g in scaled]

    def displacement(self, position: Sequence[Tensor]) -> list[Tensor]:
        """ε = T∘u."""
        return [t * u for t, u in zip(self.scales, position, strict=True)]


def length(tensors: Sequence[Tensor]) -> float:
    """The 2-norm of all entries of all tensors."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors])))
