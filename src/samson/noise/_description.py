"""What happens to each tensor of a model: on the chip or digital, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samson._checks import require
from samson._layers import DIGITAL, unknown_weights_of, weights_of
from samson._select import Select, plain_name
from samson._shown import coverage_text
from samson.noise._base import WeightNoise
from samson.noise._placing import computed_place, require_shape
from samson.noise._presets import ChipModel
from samson.noise._selection import on_chip
from samson.noise._types import require_type


@dataclass(frozen=True)
class TensorDescription:
    """One tensor of a model.

    Args:
        name: The tensor's name without the prefixes of wrappers.
        layer_type: Class of its layer.
        shape: Its shape.
        elements: Number of its elements.
        on_chip: Whether it lies on the chip.
        reason: What happens to it, and why.
        tiles: Number of tiles that it takes, if it lies on the chip and tiles have a size; else None.
        devices: Number of devices that hold it, if it lies on the chip and the noise has a mapping; else None.
    """

    name: str
    layer_type: str
    shape: tuple[int, ...]
    elements: int
    on_chip: bool
    reason: str
    tiles: int | None = None
    devices: int | None = None


def describe(
    model: nn.Module,
    noise: WeightNoise | ChipModel | None = None,
    select: Select = None,
    *,
    tile_inputs: int | None = None,
) -> list[TensorDescription]:
    """List each tensor of a model, with what happens to it on a chip.

    First come the weights on the chip, then every parameter that stays digital, each in the order of the model. A
    weight computed by a parametrisation or by pruning is listed with the parameters that it is computed from. Where a
    part of a parameter lies on the chip (queries, an expert), its other parts are listed one by one. Buffers are not
    listed: they are all digital.

    Args:
        model: Any model; nothing is run or changed.
        noise: A noise or a kind of chip whose tiles are counted, if it has a `tile_inputs`, and devices, if it has a
            `mapping`, also as part of others.
        select: Which layers lie on the chip (see `on_chip`).
        tile_inputs: Inputs of a tile, ≥ 1; None takes the noise's.

    Returns:
        One row a tensor. A weight with n inputs (an output's weights) takes ⌈n / tile_inputs⌉ tiles, each as wide as
        the weight has outputs; the groups of a convolution lie side by side.

    Raises:
        ValueError: If nothing would lie on the chip (see `on_chip`), `tile_inputs` is below 1, or a parameter has no
            shape yet.

    Example:
        >>> for row in describe(nn.Sequential(nn.Linear(600, 4), nn.BatchNorm1d(4)), tile_inputs=512):
        ...     print(row.name, row.shape, row.tiles, row.reason)
        0.weight (4, 600) 2 on the chip
        0.bias (4,) None digital: a bias
        1.weight (4,) None digital: no weight matrix of a BatchNorm1d
        1.bias (4,) None digital: a bias
    """
    require_type("tile_inputs", tile_inputs, int | None)
    require_type("noise", noise, WeightNoise | ChipModel | None)
    sized = tile_inputs is None or tile_inputs >= 1
    require(sized, "tile_inputs", "be ≥ 1, or None for the noise's own", tile_inputs)
    tensors = on_chip(model, select)
    size = _first("tile_inputs", noise) if tile_inputs is None else int(tile_inputs)
    mapping = _first("mapping", noise)
    rows = []
    for t in tensors:
        weight = t.weight
        tiles = -(-math.prod(t.output_first(weight).shape[1:]) // size) if size else None
        devices = weight.numel() * mapping.devices if mapping else None
        reason = f"on the chip; {t.place.note}" if t.place.note else "on the chip"
        rows.append(_row(t.name, t.layer, weight, reason, tiles, devices))
    names = {(id(module), t.matrix.attribute): t.name for t in tensors for module in t.place.modules}
    listed = {(id(t.layer), t.matrix.attribute): t.place for t in tensors}
    held = {(id(module), t.matrix.name) for t in tensors for module in t.place.modules}
    for path, module in model.named_modules():
        for matrix in weights_of(module):
            name = matrix.attribute
            place = listed.get((id(module), name)) or computed_place(module, name)
            if place is not None and (id(module), matrix.name) not in held:
                weight, reason = matrix.within(place.weight), f"digital: {_why(module, name)}"
                rows.append(_row(plain_name(f"{path}.{matrix.name}"), module, weight, reason))
        for name, parameter in module._parameters.items():
            key = (id(module), name)
            if parameter is not None and key not in listed:
                require_shape(path, name, parameter)
                twin = names.get(key)
                reason = f"on the chip: {_SAME} `{twin}`" if twin else f"digital: {_why(module, name)}"
                rows.append(_row(plain_name(f"{path}.{name}"), module, parameter, reason))
    return rows


def _row(
    name: str, layer: nn.Module, tensor: Tensor, reason: str, tiles: int | None = None, devices: int | None = None
) -> TensorDescription:
    kind, lies = type(layer).__name__.removeprefix("Parametrized"), reason.startswith("on the chip")
    return TensorDescription(name, kind, tuple(tensor.shape), tensor.numel(), lies, reason, tiles, devices)


@dataclass(frozen=True)
class Coverage:
    """How much of a model lies on a chip.

    Args:
        on_chip: Number of weights on the chip.
        weights: Number of weights in matrices, on the chip or digital.
        multiply_adds: The share of products with weights on the chip (see `multiply_adds`); None if unknown.
    """

    on_chip: int
    weights: int
    multiply_adds: float | None = None

    @property
    def share(self) -> float:
        """The fraction on the chip, from 0 to 1."""
        return self.on_chip / self.weights if self.weights else 0.0

    def __str__(self) -> str:
        return coverage_text(self.share, self.multiply_adds)


def coverage(model: nn.Module, select: Select = None) -> Coverage:
    """Count the weights on the chip, and all weights in matrices: what is digital does not suffer from its noise.

    Matrices are the parameters with two or more axes but for biases and for tables of embeddings, which are looked up,
    not multiplied, unless they lie on the chip; of one computed by a parametrisation or by pruning
    it is the computed weight that counts. A weight that layers on the chip share counts once; one that a digital layer
    uses as well counts once more, as digital.

    Args:
        model: Any model; nothing is run or changed.
        select: Which layers lie on the chip (see `on_chip`).

    Raises:
        ValueError: If nothing would lie on the chip (see `on_chip`), or a parameter has no shape yet.

    Example:
        >>> coverage(nn.Sequential(nn.Embedding(10, 3), nn.Linear(3, 30)))
        Coverage(on_chip=90, weights=90, multiply_adds=None)
    """
    rows = [
        row for row in describe(model, select=select) if len(row.shape) > 1 and not row.reason.startswith(_NO_MATRIX)
    ]
    return Coverage(sum(row.elements for row in rows if row.on_chip), sum(row.elements for row in rows))


_SAME, _COMPUTED, _BIAS, _TABLE = "the same weight as", "a weight is computed from it", "a bias", "an embedding"
_NO_MATRIX = (f"on the chip: {_SAME}", *(f"digital: {reason}" for reason in (_COMPUTED, _BIAS, _TABLE)))


def _why(module: nn.Module, name: str) -> str:
    """Why a parameter is not on the chip."""
    if name.startswith("original") or name.endswith("_orig"):
        return _COMPUTED
    if "bias" in name:
        return _BIAS
    if isinstance(module, DIGITAL):
        return _TABLE
    matrices = {matrix.attribute for matrix in weights_of(module)}
    if name in matrices:
        return "not selected"
    unknown = {matrix.attribute for matrix in unknown_weights_of(module)}
    return f"no {'known ' * (name in unknown)}weight matrix of a {type(module).__name__}"


def _first(name: str, noise: object) -> Any:
    """What a noise, or the first of its parts, has by a name; None if none has."""
    parts = (getattr(noise, part, None) for part in ("mapping", "periphery", "noise"))
    inner = (part for part in (*parts, *getattr(noise, "noises", ())) if part)
    return getattr(noise, name, None) or next((found for part in inner if (found := _first(name, part))), None)
