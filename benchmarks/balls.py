"""Draw `docs/balls.svg`: where each rule moves a layer of two weights, over all directions of the gradient.

Every point is a perturbation that the library made: the gradient is set, the optimizer climbs, the weights are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from samson import ASAM, SAM, SAMSON, RangeSAM, SharpnessAware, param_groups
from samson.optim import Rule

FILE = Path(__file__).parent.parent / "docs" / "balls.svg"
LAYERS = ((2.0, 0.6), (1.0, 0.3))
"""Two weights, and half of them."""
RULES = {
    "SAM, ρ = 0.4": (SAM(rho=0.4), "#6b7280"),
    "ASAM, ρ = 0.4": (ASAM(rho=0.4), "#0072b2"),
    "SAMSON, ρ = 0.7": (SAMSON(rho=0.7), "#d55e00"),
    "range ball, ρ = 0.25": (RangeSAM(rho=0.25), "#009e73"),
}
DIRECTIONS = 72
SCALE, WIDTH, HEIGHT, LEFT, BOTTOM = 110, 360, 220, 30, 180
"""Pixels: of a unit, of a panel, and where its origin is."""


def ball(rule: Rule, weights: tuple[float, float]) -> list[tuple[float, float]]:
    """The perturbed weights w + ε for gradients in all directions."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.0), rule)
    points = []
    for number in range(DIRECTIONS):
        angle = 2 * math.pi * number / DIRECTIONS
        model.weight.grad = torch.tensor([[math.cos(angle), math.sin(angle)]])
        with optimizer.perturbed(model):
            points.append((model.weight[0, 0].item(), model.weight[0, 1].item()))
            model.weight.grad = torch.zeros(1, 2)
        optimizer.step()
    return points


def place(point: tuple[float, float]) -> tuple[float, float]:
    """Pixels of a point of a panel."""
    return LEFT + SCALE * point[0], BOTTOM - SCALE * point[1]


def panel(weights: tuple[float, float]) -> Iterator[str]:
    """The balls around a layer."""
    x, y = place((0, 0))
    yield f'<path d="M{x} 20V{y}H{WIDTH - 10}" fill="none" stroke="#374151"/>'
    yield f'<text x="{WIDTH - 90}" y="{y + 18}">first weight</text>'
    yield f'<text x="{x + 6}" y="30">second weight</text>'
    for rule, colour in RULES.values():
        points = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in ball(rule, weights))
        yield f'<polygon points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    x, y = place(weights)
    yield f'<path d="M{x:g} {y:g}m-5 0h10m-5 -5v10" stroke="#111827"/>'


def picture() -> str:
    """The picture as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT + 30}" font-family="sans-serif" '
        'font-size="13" fill="#111827">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, weights in enumerate(LAYERS):
        lines += [f'<g transform="translate({number * WIDTH} 0)">', *panel(weights), "</g>"]
    for number, (name, (_, colour)) in enumerate(RULES.items()):
        x = 30 + number * 170
        lines.append(f'<path d="M{x} {HEIGHT + 8}h20" stroke="{colour}" stroke-width="3"/>')
        lines.append(f'<text x="{x + 26}" y="{HEIGHT + 13}">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
