"""Which inputs and weights meet in the products of a layer, found by loops over indices, and chips written out by hand.

Along a product, inputs lie in the order of the weight's own axes: channels of a group, then positions of the kernel.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from samson.noise import Periphery

Index = tuple[int, ...]


class Products:
    """The products of a layer for one example of a shape.

    Args:
        layer: A linear layer of torch or Transformers, or any convolution.
        shape: The shape of one example: its features, or channels and positions.
    """

    def __init__(self, layer: nn.Module, shape: Index) -> None:
        self.layer, self.shape, self.groups = layer, shape, getattr(layer, "groups", 1)
        numbers = torch.arange(layer.weight.numel()).view(layer.weight.shape)
        if hasattr(layer, "kernel_size"):
            offsets = list(itertools.product(*map(range, layer.kernel_size)))
            groups, own = range(self.groups), shape[0] // self.groups  # and the channels of one
            turned = layer.transposed
            self.outputs = layer.out_channels // self.groups
            self.positions = self._positions()

            def number(group: int, output: int, channel: int, offset: Index) -> int:
                if turned:
                    return int(numbers[(group * own + channel, output, *offset)])
                return int(numbers[(group * self.outputs + output, channel, *offset)])

            meet = list(itertools.product(range(own), offsets))
            weights = [
                [[number(group, output, *term) for term in meet] for output in range(self.outputs)] for group in groups
            ]
            inputs = [
                [[self._source(group * own + channel, at, offset) for channel, offset in meet] for group in groups]
                for at in itertools.product(*map(range, self.positions))
            ]
        else:
            weights = [(numbers if isinstance(layer, nn.Linear) else numbers.T).tolist()]
            inputs, self.positions, self.outputs = [[list(range(shape[-1]))]], (), len(weights[0])
        self.inputs = torch.tensor(inputs)
        """(positions, groups, n): the number of each input in the flattened example; for padding that of all inputs."""
        self.weights = torch.tensor(weights)
        """(groups, outputs, n): the number of each weight in the flattened weight."""

    def _sides(self) -> list[tuple[int, int]]:
        """The padding before and behind along each axis."""
        layer = self.layer
        if layer.padding == "same":
            wholes = [gap * (size - 1) for gap, size in zip(layer.dilation, layer.kernel_size, strict=True)]
            return [(whole // 2, whole - whole // 2) for whole in wholes]
        if isinstance(layer.padding, str):
            return [(0, 0)] * len(layer.kernel_size)
        return [(size, size) for size in layer.padding]

    def _positions(self) -> Index:
        layer, found = self.layer, []
        for axis, (before, behind) in enumerate(self._sides()):
            n, reach = self.shape[1 + axis], layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            step = layer.stride[axis]
            if layer.transposed:
                found.append((n - 1) * step - before - behind + reach + layer.output_padding[axis] + 1)
            else:
                found.append((n + before + behind - reach - 1) // step + 1)
        return tuple(found)

    def _source(self, channel: int, at: Index, offset: Index) -> int:
        """The number of the input that a weight meets at a position of the output."""
        layer, place = self.layer, [channel]
        for axis, (before, _) in enumerate(self._sides()):
            n, step, gap = self.shape[1 + axis], layer.stride[axis], layer.dilation[axis]
            if layer.transposed:
                whole, rest = divmod(at[axis] + before - gap * offset[axis], step)
                inside = rest == 0 and 0 <= whole < n
            else:
                whole = at[axis] * step - before + gap * offset[axis]
                inside = 0 <= whole < n
                if not inside and layer.padding_mode != "zeros":
                    last = n - 1
                    folded = abs(whole) if whole < 0 else 2 * last - whole
                    whole = {"circular": whole % n, "reflect": folded, "replicate": min(max(whole, 0), last)}[
                        layer.padding_mode
                    ]
                    inside = True
            if not inside:
                return math.prod(self.shape)
            place.append(whole)
        number = 0
        for size, coordinate in zip(self.shape, place, strict=True):
            number = number * size + coordinate
        return number

    def vectors(self, x: Tensor) -> Tensor:
        """The inputs of each product: (examples, positions, groups, n); also of more axes of examples."""
        flat = x.reshape(-1, math.prod(self.shape))
        return torch.cat([flat, flat.new_zeros(len(flat), 1)], dim=1)[:, self.inputs]

    def matrices(self, weight: Tensor) -> Tensor:
        """The weights of each product: (groups, outputs, n)."""
        return weight.reshape(-1)[self.weights]

    def output(self, y: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output for products of shape (examples, positions, groups, outputs)."""
        flat = y.flatten(2) if bias is None else y.flatten(2) + bias
        if not self.positions:
            return flat.view(*x.shape[:-1], -1)
        return flat.transpose(1, 2).unflatten(2, self.positions)


def saturated(x: Tensor, bound: float, steps: int | None) -> Tensor:
    """Values within ± bound, rounded; gradients pass where nothing saturates."""
    inside = torch.where(x.abs() < bound, x, x.detach().clamp(-bound, bound))
    if steps is None:
        return inside
    step = 2 * bound / steps
    return inside + ((inside / step).round() * step - inside).detach()


def through(
    products: Products,
    x: Tensor,
    limit: float,
    p: Periphery,
    weight: Tensor,
    bias: Tensor | None,
    look: Callable[[Tensor], None] = lambda volts: None,
) -> Tensor:
    """A layer's output through a chip without random parts, by the published formulas; `look` sees converted inputs."""
    volts = saturated(x, limit, p.dac_steps)
    look(volts)
    vectors, matrices, total = products.vectors(volts), products.matrices(weight), 0.0
    size = p.tile_inputs or matrices.shape[-1]
    for start in range(0, matrices.shape[-1], size):
        v, w = vectors[..., start : start + size] / limit, matrices[..., start : start + size]
        column = w.detach().abs().amax(dim=-1)
        column = torch.where(column > 0, column, weight.detach().abs().max())
        terms = (w / column.unsqueeze(-1)) * v.unsqueeze(-2)
        y, n = terms.sum(dim=-1), terms.shape[-1]
        if p.ir_drop:
            a = n / p.wire_ratio * terms.abs().sum(dim=-1)
            share = 1 - (1 - torch.arange(n, dtype=x.dtype) / n) ** 2
            y = y - p.ir_drop * a * (a * (0.05 * a - 0.2) + 0.5) * (terms * share).sum(dim=-1)
        total = total + saturated(y, p.adc_bound, p.adc_steps) * column * limit
    return products.output(total, x, bias)


def range_gradient(x: Tensor, g: Tensor, limit: float, decay: float) -> float:
    """r·(Σ_{x ≥ r} min(g, 0) − Σ_{x ≤ −r} max(g, 0)) + decay·r, the last while more than 95 % of inputs lie inside."""
    total, inside = 0.0, 0
    for value, slope in zip(x.flatten().tolist(), g.flatten().tolist(), strict=True):
        if value >= limit:
            total += min(slope, 0.0)
        elif value <= -limit:
            total -= max(slope, 0.0)
        else:
            inside += 1
    return limit * total + (decay * limit if 20 * inside > 19 * x.numel() else 0.0)


Key = tuple[int, int, int]


def rows(products: Products, x: Tensor, weight: Tensor) -> Iterator[tuple[Key, list[float], list[list[float]]]]:
    """Of each product: the example, position and group, its inputs and its weights."""
    vectors, matrices = products.vectors(x), products.matrices(weight).tolist()
    for key in itertools.product(*map(range, vectors.shape[:3])):
        yield key, vectors[key].tolist(), matrices[key[2]]
