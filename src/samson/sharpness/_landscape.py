"""The loss along lines through the weights: random directions, and the direction in which a rule climbs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samson._batches import Examples
from samson._checks import require, require_one_of, require_whole
from samson._layers import DIGITAL, LayerWeight, weights_of
from samson._select import plain_name
from samson._shown import Shown
from samson.evaluation import ExampleMetric
from samson.noise import generator_for, standard_normal
from samson.optim import Rule
from samson.sharpness._sharpness import Ball
from samson.sharpness._surface import Surface, loss_surface

Unit = Literal["filter", "layer"]


@dataclass(frozen=True, eq=False, repr=False)
class Landscape(Shown):
    """The loss along lines through the weights.

    Args:
        direction: What the lines are.
        radii: Where the loss was taken, of shape (radii,); 0 is at the weights.
        losses: The losses, of shape (lines, radii); infinite where one is not a number.
        clean: The loss at the weights.
    """

    direction: str
    radii: NDArray[np.float64]
    losses: NDArray[np.float64]
    clean: float

    def __str__(self) -> str:
        return (
            f"{len(self.losses)} lines ({self.direction}), {len(self.radii)} radii from {self.radii.min():g} to "
            f"{self.radii.max():g}; loss {self.clean:.4g} at the weights, {self.losses.max():.4g} at most"
        )


def random_landscape(
    model: nn.Module,
    data: Examples,
    radii: Sequence[float],
    *,
    directions: int = 1,
    unit: Unit = "filter",
    seed: int = 0,
    loss: str | ExampleMetric = "cross-entropy",
) -> Landscape:
    """The loss along random directions that are normalised so that networks of other scale can be compared.

        w_f + r · ‖w_f‖₂ · ξ_f / ‖ξ_f‖₂,   ξ ~ N(0, 1)

    for each filter f (the weights of one output of a linear layer, of one output channel of a convolution; a row of any
    other tensor, also of what a pruned or parametrised weight is computed from) or each whole tensor: at radius r it is
    moved by r times its own norm. Tensors with fewer than two axes, such as biases and norm scales, stay.

    Args:
        model: As for `worst_case_rise`; weights come back bitwise.
        data: As for `evaluate`.
        radii: Signed radii, relative to the norm of the unit.
        directions: Number of directions, ≥ 1.
        unit: "filter" or "layer".
        seed: Seed of the directions, ≥ 0; direction 3 is the same whatever their number.
        loss: A name in `METRICS` or an `ExampleMetric`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> random_landscape(nn.Linear(4, 3), data, [-0.5, 0, 0.5], directions=2).losses.shape
        (2, 3)

    Reference: Li, Xu, Taylor, Studer, Goldstein 2018, arXiv 1712.09913, section 4 (filter normalisation).
    """
    require_whole(1, directions=directions)
    require_whole(0, seed=seed)
    require_one_of(get_args(Unit), unit=unit)
    with loss_surface(model, data, loss) as surface:
        lines = [_random(surface, unit, seed, number) for number in range(directions)]
        return _along(surface, f"random, {unit}-normalised", lines, radii)


def ascent_landscape(
    model: nn.Module,
    data: Examples,
    rule: Rule,
    radii: Sequence[float],
    *,
    loss: str | ExampleMetric = "cross-entropy",
) -> Landscape:
    """The loss along the direction in which a rule climbs, from the gradient of the whole data.

        w + r · T²∘g / (‖T∘g‖₂ + 1e-16)

    At r = ρ it is `worst_case_rise` with one step for a ball of that radius. The rule's own radius plays no part.

    Args:
        model: As for `worst_case_rise`; weights come back bitwise.
        data: As for `evaluate`.
        rule: A rule with its policy.
        radii: Signed radii, in the unit of ρ.
        loss: A name in `METRICS` or an `ExampleMetric`.

    Raises:
        ValueError: As for `worst_case_rise`.

    Example:
        >>> from samson import SAM
        >>> data = torch.randn(64, 4), torch.randint(3, (64,))
        >>> found = ascent_landscape(nn.Linear(4, 3), data, SAM(), [0, 0.1])
        >>> bool(found.losses[0, 1] > found.clean == found.losses[0, 0])
        True
    """
    with loss_surface(model, data, loss) as surface:
        ball = Ball.around(surface, rule)
        _, gradient = surface.loss_and_gradient()
        line = ball.displacement(ball.direction(gradient))
        return _along(surface, f"ascent of {type(rule).__name__}", [line], radii)


def _along(surface: Surface, name: str, lines: Sequence[list[Tensor]], radii: Sequence[float]) -> Landscape:
    try:
        at = np.asarray(radii, dtype=np.float64)
    except (TypeError, ValueError):
        at = np.empty(0)
    if at.ndim != 1 or not len(at) or not np.isfinite(at).all():
        raise ValueError(f"`radii` must be one or more finite numbers, got {radii!r}.")
    losses = [[surface.loss([r * step for step in line]) for r in at.tolist()] for line in lines]
    clean = surface.loss()
    require(math.isfinite(clean), "model", "have a finite loss on `data`", clean)
    return Landscape(name, at, np.array(losses), clean)


def _random(surface: Surface, unit: Unit, seed: int, number: int) -> list[Tensor]:
    matrices = _matrices(surface.model) if unit == "filter" else {}
    found = []
    for name, parameter, weight in zip(surface.names, surface.parameters, surface.weights, strict=True):
        generator = generator_for(seed, number, "direction", plain_name(name), device=weight.device)
        drawn = standard_normal(weight, generator)
        if weight.ndim < 2:
            drawn.zero_()
        elif unit == "layer":
            drawn.mul_(_norm(weight, 0) / _norm(drawn, 0))
        else:
            for matrix in matrices.get(parameter, [LayerWeight("")]):
                own, moved = (matrix.output_first(matrix.within(t)) for t in (weight, drawn))
                matrix.within(drawn).copy_(matrix.stored(moved * (_norm(own, 1) / _norm(moved, 1))))
        found.append(drawn)
    return found


def _norm(tensor: Tensor, first: int) -> Tensor:
    """The norm over the axes from the first one on."""
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=list(range(first, tensor.ndim)), keepdim=True)
    return norm


def _matrices(model: nn.Module) -> dict[Tensor | None, list[LayerWeight]]:
    """The matrices in each parameter, by the first layer that multiplies with it."""
    found: dict[Tensor | None, list[LayerWeight]] = {}
    for module in model.modules():
        if not isinstance(module, DIGITAL):
            for attribute, some in groupby(weights_of(module), key=attrgetter("attribute")):
                found.setdefault(module._parameters.get(attribute), list(some))
    return found
