"""Linear and convolution layers as products of matrices, which is how a crossbar computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from samson._layers import exchanged, inputs_first
from samson.noise._parts import Part


@dataclass(frozen=True)
class Operation:
    """What a layer computes from its input and its weight, apart from the bias.

    A transposed convolution is a convolution of stride 1 with the kernel turned round, over inputs that are spread out
    by zeros between them.

    Args:
        kernel: Size of the kernel along each spatial axis; empty for a linear layer.
        stride: Its stride along each axis.
        dilation: Its dilation along each axis.
        padding: Two numbers an axis, from the last axis to the first, as `torch.nn.functional.pad` takes them.
        padding_mode: "constant" or as `torch.nn.functional.pad` names it.
        groups: Number of groups of channels.
        spread: For a transposed convolution the distance of its inputs along each axis; else empty.
        inputs_first: Whether the weight of each group is stored with its inputs before its outputs.
        input_range: The largest |input| that is passed on, > 0; None scales each input vector by its own.
        adc_bound: The largest |output| of a tile that is passed on, > 0, on the scale of `Periphery.adc_bound`; one for
            each array where weights lie on several; None is that one.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    padding_mode: str = "constant"
    groups: int = 1
    spread: tuple[int, ...] = ()
    inputs_first: bool = False
    input_range: float | None = None
    adc_bound: float | tuple[float, ...] | None = None

    def vectors(self, inputs: Tensor) -> Tensor:
        """The input vectors of all products: (…, groups, inputs of a product)."""
        if not self.kernel:
            return inputs.unsqueeze(-2)
        axes = len(self.kernel)
        batched = inputs if inputs.ndim == axes + 2 else inputs.unsqueeze(0)
        windows = self._padded(batched)
        for axis, (size, step, gap) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True), start=2):
            windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
        if self.spread:  # a kernel turned round, with the weight as it is stored
            windows = windows.flip(tuple(range(-axes, 0)))
        sizes = (self.groups, windows.shape[1] // self.groups, *windows.shape[2:])  # …, channels, positions, kernel
        windows = windows.reshape(len(windows), *sizes)
        order = (0, *range(3, 3 + axes), 1, 2, *range(3 + axes, 3 + 2 * axes))
        vectors: Tensor = windows.permute(order).flatten(2 + axes)
        return vectors if batched is inputs else vectors.squeeze(0)

    def products(self, inputs: Tensor, tiles: Tensor) -> Tensor:
        """What each tile adds up, (…, groups, tiles, outputs), by torch's own kernels; no input vector is built.

        Args:
            inputs: As the layer takes them.
            tiles: Any matrices (groups, tiles, outputs, inputs of a tile), the last one filled up with zeros.
        """
        if not self.kernel:
            vectors = F.pad(inputs, (0, tiles.shape[1] * tiles.shape[3] - inputs.shape[-1]))
            vectors = vectors.reshape(*vectors.shape[:-1], tiles.shape[1], tiles.shape[3])
            return torch.einsum("...tn,ton->...to", vectors, tiles[0]).unsqueeze(-3)
        axes, window, size = len(self.kernel), math.prod(self.kernel), tiles.shape[-1]
        batched = inputs if inputs.ndim == axes + 2 else inputs.unsqueeze(0)
        padded = self._padded(batched)
        channels = padded.reshape(len(padded), self.groups, -1, *padded.shape[2:])
        convolution = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        found = []
        for tile, matrices in enumerate(tiles.unbind(dim=1)):
            first, last = tile * size // window, min(-(-(tile + 1) * size // window), channels.shape[2])
            ends = tile * size - first * window, last * window - (tile + 1) * size  # channels that two tiles share
            kernel = F.pad(matrices, ends).reshape(-1, last - first, *self.kernel)
            kernel = kernel.flip(tuple(range(2, 2 + axes))) if self.spread else kernel
            part = channels[:, :, first:last].flatten(1, 2)
            found.append(convolution(part, kernel, None, self.stride, 0, self.dilation, self.groups))
        stacked = torch.stack(found, dim=1)  # …, tiles, groups x outputs, positions
        stacked = stacked.view(*stacked.shape[:2], self.groups, -1, *stacked.shape[3:])
        sums = stacked.permute(0, *range(4, 4 + axes), 2, 1, 3)
        return sums if batched is inputs else sums.squeeze(0)

    def _padded(self, inputs: Tensor) -> Tensor:
        windows = self._spread(inputs) if self.spread else inputs
        return F.pad(windows, self.padding, self.padding_mode) if any(self.padding) else windows

    def _spread(self, inputs: Tensor) -> Tensor:
        sizes = [(size - 1) * gap + 1 for size, gap in zip(inputs.shape[2:], self.spread, strict=True)]
        found = inputs.new_zeros(*inputs.shape[:2], *sizes)
        places: tuple[Any, ...] = (..., *[slice(None, None, gap) for gap in self.spread])
        found[places] = inputs
        return found

    def matrices(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, inputs of a product)."""
        own = exchanged(weight, self.groups) if self.inputs_first else weight
        return own.reshape(self.groups, own.shape[0] // self.groups, -1)

    def stored(self, matrices: Tensor, weight: Tensor) -> Tensor:
        """The inverse of `matrices`, in the shape of the weight."""
        if not self.inputs_first:
            return matrices.reshape(weight.shape)
        inputs = weight.shape[0] // self.groups
        return exchanged(matrices.reshape(-1, inputs, *weight.shape[2:]), self.groups)

    def outputs(self, products: Tensor) -> Tensor:
        """The layer's output from products of shape (…, groups, outputs)."""
        flat = products.flatten(-2)
        return flat if not self.kernel else flat.movedim(-1, -1 - len(self.kernel))

    def along_outputs(self, values: Tensor) -> Tensor:
        """One number for each of (groups, outputs), in a shape that goes with the layer's output."""
        return values.reshape(-1, *(1,) * len(self.kernel))


def operation_of(layer: nn.Module) -> Operation | None:
    """The operation of a linear or convolution layer, or of a part of another; None for any other."""
    if isinstance(layer, (nn.Linear, Part)):
        return Operation()
    if (first := inputs_first(layer)) is not None:
        return Operation(inputs_first=first)
    if not isinstance(layer, _ConvNd):
        return None
    if isinstance(layer, _ConvTransposeNd):
        cuts: Any = layer.padding  # never a word here
        sizes = zip(layer.kernel_size, layer.dilation, cuts, layer.output_padding, strict=True)
        ends = [(gap * (size - 1) - cut, gap * (size - 1) - cut + more) for size, gap, cut, more in sizes]
        return Operation(
            layer.kernel_size,
            (1,) * len(ends),
            layer.dilation,
            tuple(number for pair in reversed(ends) for number in pair),
            groups=layer.groups,
            spread=layer.stride,
            inputs_first=True,
        )
    return Operation(
        layer.kernel_size,
        layer.stride,
        layer.dilation,
        tuple(layer._reversed_padding_repeated_twice),
        "constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        layer.groups,
    )
