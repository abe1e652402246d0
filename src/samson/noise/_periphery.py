"""What surrounds the weights on a chip: converters, noise of inputs and outputs, IR drop, tiles with partial sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import cast

import torch
from torch import Generator, Tensor

from samson._checks import require, require_non_negative, require_one_of, require_positive
from samson.noise._operations import Operation
from samson.noise._random import standard_normal, working_dtype
from samson.noise._rounding import convert
from samson.noise._types import require_types

WIRES = 1 / (0.35 * 5e-6)
"""The largest conductance of a wire segment over that of a device: 0.35 Ω and 5 µS, 5.7143e5."""


@dataclass(frozen=True)
class Periphery:
    """How a chip computes a product of an input vector x and a weight matrix w; by default exactly.

    A product with more inputs than a tile is cut into tiles, whose outputs are added digitally. In each tile, columns
    are scaled to max_j |w_ij| = 1 of the weights that were to be programmed (a column of zeros has the layer's largest
    |w|) and inputs to [-1, 1] by their range r, beyond which they saturate. The scale of a column is fixed when the
    chip is programmed: weights that drift use less of it. Then

    1. x ← DAC(x) + input_noise·ξ
    2. y_i = Σ_j w_ij x_j
    3. y_i ← y_i - ir_drop·c_i·Σ_j w_ij x_j (1 - (1 - j/n)²), c = a(a(0.05a - 0.2) + 0.5),
       a_i = n/wire_ratio·Σ_j |w_ij x_j|, j = 0 … n - 1
    4. y_i ← y_i + weight_noise·‖x‖₂·ξ, or weight_noise·sqrt(Σ_j |w_ij| x_j²)·ξ if it depends on the weights
    5. y_i ← y_i + output_noise·ξ
    6. y_i ← ADC(y_i), saturated at ± adc_bound or the layer's own bound, then scaled back, and multiplied by the
       noise's drift compensation α.

    With `adc_per`, slices or devices of a weight lie on arrays of their own. Each goes through all steps, with a device
    at its largest conductance as 1, and the results are added digitally with the slices' significance. With
    `input_slice_bits`, the digits of the inputs enter one after the other, the lowest first. Each goes through steps 1
    to 6 with its largest value as 1, and the results are added likewise. A tile is as wide as the layer has outputs.

    A converter with k steps has k + 1 levels from one bound to the other. All ξ ~ N(0, 1) are drawn for each product.

    Args:
        dac_steps: Even number ≥ 2; None does not round.
        adc_steps: Even number ≥ 2; None does not round.
        input_slice_bits: Bits of |x| that enter at a time, from 1 to those of `dac_steps`, which it needs (8 of 254,
            where 7 and 8 are all); None lets all enter at once.
        adc_per: What has ADCs of its own: "weight" for the product with the weight as it is read from all its devices,
            "slice" for each cell of a `Mapping`, "device" for each device of its pairs too. The last two need a
            `DeviceNoise`; on single devices the offset is taken off before the ADC.
        adc_bound: Largest output, > 0, of a tile's column whose largest weight and inputs are 1; inf does not saturate.
        input_noise: Standard deviation ≥ 0, relative to the range of the inputs.
        output_noise: Standard deviation ≥ 0, on the scale of `adc_bound`.
        weight_noise: Standard deviation ≥ 0 of a weight, relative to the largest of its column.
        weight_noise_grows: Whether the weight noise has the variance |w|, as phase-change devices have about, or 1.
        ir_drop: Factor ≥ 0 on the voltage drop along the wires; 1 is the physical size.
        wire_ratio: Conductance of a wire segment over the largest of a device, > 0; 1.14e5 for devices of 25 µS.
        tile_inputs: Inputs of a tile, ≥ 1; None lays a whole product on one tile.
        input_ranges: The range r by the name of the layer, from `calibrate`; empty scales each input vector of a
            tile by its own largest |x|.
        adc_bounds: The bound by the name of the layer, on the scale of `adc_bound`, which it replaces, from
            `calibrate_adc`; a number for each array where `adc_per` makes several, the lowest slice first, g⁺ before
            g⁻. Empty leaves `adc_bound` to all.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> x, w = torch.ones(1, 4), torch.eye(4)
        >>> STANDARD_HWA(Operation(), x, w, torch.Generator().manual_seed(0)).shape
        torch.Size([1, 4])

    Reference: Rasch et al. 2023, Nature Communications 14, 5282 (the standard model; its input range is learned and its
    bound 10 everywhere, ours are calibrated, one a layer, not a tile); aihwkit's `rpu_base` for the IR drop; Shafiee et
    al. 2016, ISCA (ISAAC) for slices of inputs and weights.
    """

    dac_steps: int | None = None
    adc_steps: int | None = None
    adc_bound: float = math.inf
    input_noise: float = 0.0
    output_noise: float = 0.0
    weight_noise: float = 0.0
    weight_noise_grows: bool = True
    ir_drop: float = 0.0
    wire_ratio: float = WIRES
    tile_inputs: int | None = None
    input_ranges: Mapping[str, float] = field(default_factory=dict)
    adc_bounds: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    input_slice_bits: int | None = None
    adc_per: str = "weight"

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("dac_steps", "adc_steps"):
            steps = getattr(self, name)
            even = steps is None or (steps >= 2 and steps % 2 == 0)
            require(even, name, "be even and ≥ 2, so that zero is a level, or None", steps)
        require_non_negative(input_noise=self.input_noise, output_noise=self.output_noise)
        require_non_negative(weight_noise=self.weight_noise, ir_drop=self.ir_drop)
        require(self.adc_bound > 0, "adc_bound", "be > 0", self.adc_bound)
        bits = self.input_slice_bits
        sliced = bits is None or (bits >= 1 and self.dac_steps is not None)
        require(sliced, "input_slice_bits", "be ≥ 1 with `dac_steps`, or None for all bits at once", bits)
        if bits is not None and self.dac_steps is not None:
            most = self.dac_steps.bit_length()
            rule = f"be at most {most}, the bits of `dac_steps` = {self.dac_steps}, or None for all at once"
            require(bits <= most, "input_slice_bits", rule, bits)
        require_one_of(("weight", "slice", "device"), adc_per=self.adc_per)
        require_positive(wire_ratio=self.wire_ratio)
        sized = self.tile_inputs is None or self.tile_inputs >= 1
        require(sized, "tile_inputs", "be ≥ 1, or None for one tile", self.tile_inputs)
        for name in ("input_ranges", "adc_bounds"):
            for layer, values in getattr(self, name).items():
                every = values if isinstance(values, tuple) else (values,)
                if not every or not all(0 < value < math.inf for value in every):
                    raise ValueError(f"`{name}` must be > 0 and finite, got {values!r} for `{layer}`.")

    @property
    def is_random(self) -> bool:
        """Whether passes may differ; those of a type derived from it may."""
        return type(self) is not Periphery or any((self.input_noise, self.output_noise, self.weight_noise))

    def __call__(
        self, operation: Operation, inputs: Tensor, weight: Tensor, generator: Generator, column: Tensor | None = None
    ) -> Tensor:
        """The output of a layer without its bias, as the chip computes it.

        Args:
            operation: What the layer computes.
            inputs: The layer's input.
            weight: The weight as the chip reads it, in the layer's layout.
            generator: On the input's device.
            column: What outputs of 1 stand for, at inputs of 1: α·max_j |w_ij| of each column of each tile, (groups,
                tiles, outputs). None takes the weight as it was to be programmed (see `columns`).

        Returns:
            The layer's output without bias, of the input's dtype; computed in at least float32. Gradients
            pass roundings straight through and stop where a converter saturates.
        """
        column = self.columns(operation, weight) if column is None else column
        bound = self.bound_of(operation)
        found = (
            (convert(y, bound, self.adc_steps) * column * scale).sum(dim=-2)
            for y, scale in self.conversions(operation, inputs, weight, generator, column)
        )
        return operation.outputs(reduce(torch.add, found)).to(inputs.dtype)

    def conversions(
        self, operation: Operation, inputs: Tensor, weight: Tensor, generator: Generator, column: Tensor
    ) -> Iterator[tuple[Tensor, Tensor | float]]:
        """What the ADCs convert, steps 1 to 5, from the arguments of a call, for each slice of the inputs.

        Yields:
            The outputs of each tile, (…, groups, tiles, outputs), on the scale of `adc_bound`, and the input range that
            scales them back beside the columns.
        """
        dtype = working_dtype(inputs)
        w, sizes = self._scaled(operation, weight, dtype, column)
        limit = operation.input_range
        scale: Tensor | float
        product: Callable[[Tensor, Tensor], Tensor]
        if limit is None or self.input_noise:
            x = self._tiles(operation.vectors(inputs.to(dtype)))
            scale = limit or _or_one(x.abs().amax(dim=-1, keepdim=True))
            product = _of_vectors
        else:
            x, scale, product = inputs.to(dtype), limit, operation.products
        present = torch.arange(w.shape[-1], device=w.device) < sizes
        for digits, size in self._slices(convert(x / scale, 1.0, self.dac_steps)):
            noise = self.input_noise * standard_normal(digits, generator) * present if self.input_noise else None
            part = digits if noise is None else digits + noise
            yield self._outputs(product, part, w, sizes, generator), scale * size

    def analog(self, operation: Operation, inputs: Tensor, weight: Tensor, column: Tensor) -> Tensor:
        """Steps 2 to 5 for inputs that are converted already, with noise from global state (see `conversions`)."""
        w, sizes = self._scaled(operation, weight, working_dtype(inputs), column)
        return self._outputs(operation.products, inputs.to(w.dtype), w, sizes, None)

    def _scaled(
        self, operation: Operation, weight: Tensor, dtype: torch.dtype, column: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weights of each tile, (groups, tiles, outputs, inputs), by columns' scales; the inputs on each."""
        matrices = operation.matrices(weight.to(dtype))
        w = self._tiles(matrices).transpose(1, 2) / column.unsqueeze(-1)
        return w, self._tiles(w.new_ones(matrices.shape[-1])).sum(dim=-1, keepdim=True)

    def _slices(self, x: Tensor) -> Iterator[tuple[Tensor, float]]:
        """The digits of converted inputs, the lowest first, each within [-1, 1], and what 1 stands for."""
        if self.input_slice_bits is None or self.dac_steps is None:
            yield x, 1.0
            return
        half, base = self.dac_steps // 2, 2**self.input_slice_bits
        count, exact = -(-half.bit_length() // self.input_slice_bits), x.detach()
        left = (exact.abs() * half).round_()
        for position in range(count):
            higher, size = (left / base).floor_(), (base - 1) * base**position / half
            digits = (left - base * higher).div_(base - 1).mul_(exact.sign())
            yield digits + (x - exact) / (count * size) if x.requires_grad else digits, size
            left = higher

    def _outputs(
        self,
        product: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        w: Tensor,
        sizes: Tensor,
        generator: Generator | None,
    ) -> Tensor:
        """Steps 2 to 5; no generator draws from global state."""
        if self.ir_drop:
            place = 1 - (1 - torch.arange(w.shape[-1], device=w.device) / sizes) ** 2
            y, slanted = product(x, torch.cat([w, w * place.unsqueeze(-2)], dim=-2)).chunk(2, dim=-1)
            a = product(x.abs(), w.abs()) * sizes / self.wire_ratio
            y = y - self.ir_drop * a * (a * (0.05 * a - 0.2) + 0.5) * slanted
        else:
            y = product(x, w)
        if self.weight_noise:
            w = w.detach()  # noise is what a gradient takes as given
            power = product(x.detach() ** 2, w.abs() if self.weight_noise_grows else torch.ones_like(w))
            y = y + self.weight_noise * power.sqrt() * standard_normal(y, generator)
        if self.output_noise:
            y = y + self.output_noise * standard_normal(y, generator)
        return y

    def bound_of(self, operation: Operation) -> float:
        """The bound of a layer's ADCs: its own, or that of all.

        Raises:
            ValueError: If there is none, and ADCs round.
        """
        self.require_bounds()
        return self.adc_bound if operation.adc_bound is None else cast("float", operation.adc_bound)

    @property
    def lacks_bounds(self) -> bool:
        """Whether ADCs round, but in steps of nothing: their bounds are yet to be calibrated."""
        return self.adc_steps is not None and self.adc_bound == math.inf and not self.adc_bounds

    def require_bounds(self) -> None:
        """Refuse ADCs that round in steps of nothing: a chip may be described before `calibrate_adc` finds its bounds.

        Raises:
            ValueError: If there is no bound, and ADCs round.
        """
        if self.lacks_bounds:
            raise ValueError(
                f"`adc_bound` must be finite where ADCs round ({self.adc_steps} steps), or give `adc_bounds`, got inf. "
                "`calibrate_adc` finds them, and `samson calibrate` does."
            )

    def columns(self, operation: Operation, weight: Tensor) -> Tensor:
        """The largest |w| of each column of each tile, (groups, tiles, outputs)."""
        column = self._tiles(operation.matrices(weight.to(working_dtype(weight)))).transpose(1, 2).abs().amax(dim=-1)
        return column.where(column > 0, _or_one(column.amax()))

    def factors(self, operation: Operation, factor: Tensor) -> Tensor:
        """A drift compensation, in the shape of the weight, as one number a column of each tile.

        Raises:
            ValueError: If it differs within a tile, whose outputs it is to scale.
        """
        matrices = operation.matrices(factor)
        each = self._tiles(matrices).transpose(1, 2)
        present = self._tiles(torch.ones_like(matrices[:1, :1])).transpose(1, 2)
        if ((each - each[..., :1]) * present).any():
            raise ValueError(
                f"`tile_inputs` of the periphery must divide that of the mapping, whose drift compensation is one "
                f"factor a tile, got {self.tile_inputs!r}. Give both the same."
            )
        return each[..., 0]

    def _tiles(self, vectors: Tensor) -> Tensor:
        """Cut the last axis into tiles; the last of several is filled up with zeros, which add nothing to a sum."""
        inputs = vectors.shape[-1]
        size = min(self.tile_inputs or inputs, inputs)  # one tile that is not full is not filled up: it would take time
        padded = torch.nn.functional.pad(vectors, (0, -inputs % size))
        return padded.view(*padded.shape[:-1], padded.shape[-1] // size, size)  # there may be no vector


STANDARD_HWA = Periphery(
    dac_steps=254, adc_steps=254, adc_bound=10.0, output_noise=0.04, weight_noise=0.0175, ir_drop=1.0, tile_inputs=512
)
"""The standard model for hardware-aware training of Rasch et al. 2023, without its weights' programming and drift."""


def _of_vectors(x: Tensor, w: Tensor) -> Tensor:
    """What each tile adds up, as `Operation.products` does, for input vectors."""
    return torch.einsum("...gtn,gton->...gto", x, w)


def _or_one(largest: Tensor) -> Tensor:
    return largest.where(largest > 0, 1.0)
