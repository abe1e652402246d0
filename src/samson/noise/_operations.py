"""Linear and convolution layers as products of matrices, which is how a crossbar computes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class Operation:
    """What a layer computes from its input and its weight, apart from the bias.

    Args:
        kernel: Size of the kernel along each spatial axis; empty for a linear layer.
        stride: Its stride along each axis.
        dilation: Its dilation along each axis.
        padding: Two numbers an axis, from the last axis to the first, as `torch.nn.functional.pad` takes them.
        padding_mode: "constant" or as `torch.nn.functional.pad` names it.
        groups: Number of groups of channels.
        input_range: The largest |input| that is passed on, > 0; None scales each input vector by its own.
        adc_bound: The largest |output| of a tile that is passed on, > 0, on the scale of `Periphery.adc_bound`; None is
            that one.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    padding_mode: str = "constant"
    groups: int = 1
    input_range: float | None = None
    adc_bound: float | None = None

    def vectors(self, inputs: Tensor) -> Tensor:
        """The input vectors of all products: (…, groups, inputs of a product)."""
        if not self.kernel:
            return inputs.unsqueeze(-2)
        axes = len(self.kernel)
        batched = inputs if inputs.ndim == axes + 2 else inputs.unsqueeze(0)
        windows = F.pad(batched, self.padding, self.padding_mode) if any(self.padding) else batched
        for axis, (size, step, gap) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True), start=2):
            windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
        windows = windows.reshape(len(windows), self.groups, -1, *windows.shape[2:])  # …, channels, positions, kernel
        order = (0, *range(3, 3 + axes), 1, 2, *range(3 + axes, 3 + 2 * axes))
        vectors: Tensor = windows.permute(order).flatten(2 + axes)
        return vectors if batched is inputs else vectors.squeeze(0)

    def matrices(self, weight: Tensor) -> Tensor:
        """The weight as (groups, outputs, inputs of a product)."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def outputs(self, products: Tensor) -> Tensor:
        """The layer's output from products of shape (…, groups, outputs)."""
        flat = products.flatten(-2)
        return flat if not self.kernel else flat.movedim(-1, -1 - len(self.kernel))


def operation_of(
    layer: nn.Module, input_range: float | None = None, adc_bound: float | None = None
) -> Operation | None:
    """The operation of a linear or convolution layer; None for any other, also for transposed convolutions."""
    if isinstance(layer, nn.Linear):
        return Operation(input_range=input_range, adc_bound=adc_bound)
    if not isinstance(layer, _ConvNd) or isinstance(layer, _ConvTransposeNd):
        return None
    return Operation(
        layer.kernel_size,
        layer.stride,
        layer.dilation,
        tuple(layer._reversed_padding_repeated_twice),
        "constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        layer.groups,
        input_range,
        adc_bound,
    )
