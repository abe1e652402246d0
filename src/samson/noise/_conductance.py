"""From weights to the conductances of devices and back: differential pairs, single devices, levels, bit slices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from samson._checks import require, require_non_negative
from samson.noise._base import State
from samson.noise._types import require_types
from samson.noise._units import reduce_by, require_granularity


@dataclass(frozen=True)
class Mapping:
    """How weights are laid out on devices whose largest conductance is `g_max_us`.

    A differential pair holds g± = clamp(±s·w, 0) + g_min and is read as (g⁺ − g⁻)/s, with s = (g_max − g_min)/max|w| of
    each part. A single device (`pair=False`) holds [min w, max w] of each part on [g_min, g_max]. A part without a
    range of its own (all zero; equal weights, on single devices) has the whole tensor's, and if the tensor has none
    either, its max|w|. Only an all-zero tensor has s = 1 µS.

    A tile is counted along the weight's own axes: the groups of a grouped convolution count as sharing their rows.

    A weight may be held by several such cells, N = `len(factors)`, and is read as Σ f_i w_i / Σ f_i. With
    `significance` all N hold the same target, so their errors average. With `slices` they hold the digits of the weight
    in base `levels`, least significant first, and the factors are the powers of `levels`. What has ADCs of its own is
    a question of the `Periphery`.

    Args:
        g_min_us: Smallest programmed conductance, in µS, ≥ 0 and below g_max.
        on_off_ratio: g_max/g_min > 1, in place of `g_min_us`.
        per: What has one scale: "layer", "channel" (output channel) or "tile".
        tile_inputs: Inputs of a tile.
        pair: Whether a weight is the difference of two devices.
        levels: Number of evenly spaced conductances that can be programmed, ≥ 2; None is any.
        significance: Factors f_i > 0 of N cells with the same target.
        slices: Number of digits, ≥ 1; more than one needs `levels`.

    Raises:
        ValueError: If an argument is out of range or two contradict each other.

    Example:
        >>> held = Mapping(g_min_us=5.0).conductances(torch.tensor([[1.0, -0.5]]), g_max_us=25.0)
        >>> held["conductance_us"].squeeze()
        tensor([[25.,  5.],
                [ 5., 15.]])
        >>> Mapping(g_min_us=5.0).weights(held["conductance_us"], held, g_max_us=25.0)
        tensor([[ 1.0000, -0.5000]])

    Reference: the mapping of aihwkit and CrossSim, both devices of a pair drawn; no constants.
    """

    g_min_us: float = 0.0
    on_off_ratio: float | None = None
    per: str = "layer"
    tile_inputs: int | None = None
    pair: bool = True
    levels: int | None = None
    significance: tuple[float, ...] = (1.0,)
    slices: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        require_granularity(self.per, self.tile_inputs)
        require_non_negative(g_min_us=self.g_min_us)
        if self.on_off_ratio is not None and (self.g_min_us or not 1 < self.on_off_ratio < math.inf):
            raise ValueError(
                f"`on_off_ratio` must be > 1 and finite, and replaces `g_min_us`, got {self.on_off_ratio!r} with "
                f"g_min_us={self.g_min_us!r}. Give one of the two."
            )
        require(self.levels is None or self.levels >= 2, "levels", "be ≥ 2, or None for any conductance", self.levels)
        weighed = bool(self.significance) and all(0 < f < math.inf for f in self.significance)
        require(weighed, "significance", "hold factors > 0", self.significance)
        if self.slices < 1 or (self.slices > 1 and (self.levels is None or len(self.significance) > 1)):
            raise ValueError(
                f"`slices` must be ≥ 1, and above 1 it needs `levels` and sets the significance itself, got "
                f"{self.slices!r} with levels={self.levels!r} and significance={self.significance!r}."
            )
        digits = self.slices * math.log2(self.levels or 1)
        rule = f"give at most 24 bits with levels={self.levels!r}, as many as float32 tells apart"
        require(digits <= 24, "slices", rule, self.slices)

    @property
    def factors(self) -> tuple[float, ...]:
        """Significance of each cell of a weight."""
        if self.slices > 1 and self.levels:
            return tuple(float(self.levels**i) for i in range(self.slices))
        return self.significance

    @property
    def devices(self) -> int:
        """Number of devices that hold a weight."""
        return len(self.factors) * (2 if self.pair else 1)

    def smallest_us(self, g_max_us: float) -> float:
        """The smallest programmed conductance g_min, in µS.

        Raises:
            ValueError: If it is not below g_max.
        """
        g_min = self.g_min_us if self.on_off_ratio is None else g_max_us / self.on_off_ratio
        require(g_min < g_max_us, "g_min_us", f"be below g_max = {g_max_us!r} µS", g_min)
        return g_min

    def conductances(self, weight: Tensor, g_max_us: float) -> State:
        """Find the target of each device.

        Args:
            weight: In at least float32, of any shape.
            g_max_us: Largest programmed conductance, in µS.

        Returns:
            `conductance_us` of shape (N, 2 or 1, *shape of the weight), contiguous; `scale` s in µS and `lowest` (what
            g_min stands for), one a part, in shapes that broadcast with the weight.
        """
        g_min = self.smallest_us(g_max_us)
        weight = weight.contiguous()
        if self.pair:
            lowest = weight.new_zeros(())
            extent = _extent(lowest, reduce_by(weight.abs(), self.per, "amax", self.tile_inputs))
            share = weight / extent.where(extent != 0, 1.0)
            shares = torch.stack([share, -share])
        else:
            lowest = reduce_by(weight, self.per, "amin", self.tile_inputs)
            extent = _extent(lowest, reduce_by(weight, self.per, "amax", self.tile_inputs))
            shares = ((weight - lowest) / extent.where(extent != 0, 1.0)).unsqueeze(0)
        cells = (self._programmable(shares.clamp_(0, 1)) * (g_max_us - g_min)).add_(g_min)
        scale = ((g_max_us - g_min) / extent).where(extent != 0, 1.0)
        return {"conductance_us": cells, "scale": scale, "lowest": lowest}

    def weights(self, conductance_us: Tensor, state: State, g_max_us: float) -> Tensor:
        """Read conductances of shape (N, 2 or 1, *shape) as weights, with the scales of `conductances`."""
        cells = self._cells(conductance_us, g_max_us)
        if len(self.factors) == 1:
            return cells[0].div_(state["scale"]).add_(state["lowest"])
        shares = cells.new_tensor(self.factors) / sum(self.factors)
        mean: Tensor = torch.tensordot(shares, cells, dims=1)
        return mean.div_(state["scale"]).add_(state["lowest"])

    def arrays(self, conductance_us: Tensor, state: State, g_max_us: float, per: str) -> tuple[Tensor, list[float]]:
        """What each array of devices holds, as weights, and its share in the weight, which is Σ share·array.

        Args:
            conductance_us: Of shape (N, 2 or 1, *shape).
            state: The scales of `conductances`.
            g_max_us: Largest programmed conductance, in µS.
            per: "slice" for an array a cell; "device" for two, which hold g⁺ and g⁻, where cells are pairs.

        Returns:
            The arrays, (N, *shape) or (2 N, *shape), and as many shares.
        """
        shares = [factor / sum(self.factors) for factor in self.factors]
        if per == "device" and self.pair:
            return conductance_us.flatten(0, 1) / state["scale"], [one for share in shares for one in (share, -share)]
        return self._cells(conductance_us, g_max_us).div_(state["scale"]).add_(state["lowest"]), shares

    def full(self, state: State, g_max_us: float, per: str) -> Tensor:
        """The largest |weight| that a cell of an array can hold (see `arrays`), in a shape that broadcasts."""
        if per == "device" and self.pair:
            return g_max_us / state["scale"]
        extent = (g_max_us - self.smallest_us(g_max_us)) / state["scale"]
        return torch.maximum(state["lowest"].abs(), (state["lowest"] + extent).abs())

    def _cells(self, conductance_us: Tensor, g_max_us: float) -> Tensor:
        lowest = conductance_us[:, 1] if self.pair else self.smallest_us(g_max_us)
        return conductance_us[:, 0] - lowest

    def _programmable(self, shares: Tensor) -> Tensor:
        """Shares of the range in [0, 1] of shape (2 or 1, …), as shares for each cell (N, 2 or 1, …); maybe a view."""
        if self.levels is None:
            return shares.expand(len(self.factors), *shares.shape)
        steps = self.levels**self.slices - 1
        whole = shares.mul_(steps).round_()
        if self.slices == 1:
            return whole.div_(steps).expand(len(self.factors), *shares.shape)
        powers = whole.new_tensor(self.factors).view(-1, *(1,) * whole.ndim)
        digits = whole.unsqueeze(0).div(powers, rounding_mode="floor").remainder_(self.levels)
        return digits.div_(self.levels - 1)


def _extent(lowest: Tensor, highest: Tensor) -> Tensor:
    """The range of each part; without one, that of all parts together; without that, the size of their one value."""
    own, top = highest - lowest, highest.amax()
    shared = top - lowest.amin()
    return own.where(own > 0, shared.where(shared > 0, top.abs()))


ONE_PAIR = Mapping()
"""A differential pair to a weight, one scale for the whole tensor, any conductance from 0 to g_max."""
