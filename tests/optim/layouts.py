"""Networks with one layer of each kind, and where in each weight the ranges of a chip lie, written out by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import with_transformers

Axes = tuple[int, ...]
Call = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Layout:
    """A weight, seen in a shape in which those entries that share a range lie along whole axes.

    Args:
        shape: The shape in which it is seen.
        layer: The axes over which one range of a layer goes.
        channel: The axes over which one range of an output channel goes.
    """

    shape: Axes
    layer: Axes
    channel: Axes

    def axes(self, per: str) -> Axes:
        return self.layer if per == "layer" else self.channel

    def ranges(self, w: Tensor, per: str) -> Tensor:
        """The largest |w| of each range, for every entry. Its derivative is shared evenly by ties."""
        seen = w.reshape(self.shape)
        return seen.abs().amax(self.axes(per), keepdim=True).expand(self.shape).reshape(w.shape)

    def rows(self, w: np.ndarray, per: str) -> np.ndarray:
        """The entries of each range as one row; ranges are in the order of the output channels."""
        axes = self.axes(per)
        size = int(np.prod([self.shape[axis] for axis in axes]))
        return np.moveaxis(w.reshape(self.shape), axes, range(-len(axes), 0)).reshape(-1, size)

    def stored(self, rows: np.ndarray, per: str) -> np.ndarray:
        """The inverse of `rows`, in the shape of the weight as it is seen."""
        axes = self.axes(per)
        others = [size for axis, size in enumerate(self.shape) if axis not in axes]
        seen = rows.reshape(*others, *(self.shape[axis] for axis in axes))
        return np.moveaxis(seen, range(-len(axes), 0), axes)

    def each(self, w: np.ndarray, per: str, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A weight of which the entries of each range were changed by themselves."""
        return self.stored(np.stack([change(row) for row in self.rows(w, per)]), per).reshape(w.shape)


def plain(*shape: int) -> Layout:
    """Outputs along the first axis, all else is inputs."""
    every = tuple(range(len(shape)))
    return Layout(shape, every, every[1:])


def transposed(inputs: int, outputs: int, groups: int, *kernel: int) -> Layout:
    """A transposed convolution, stored as (in, out / groups, …): outputs lie along the second axis in each group."""
    shape = (groups, inputs // groups, outputs // groups, *kernel)
    every = tuple(range(len(shape)))
    return Layout(shape, every, (1, *every[3:]))


class Experts(nn.Module):
    """Four experts in one parameter, of which one serves each example; the outputs of each before or behind."""

    num_experts = 4

    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        self.up = nn.Parameter(torch.randn(4, 4, 5) if is_transposed else torch.randn(4, 5, 4))
        self.bias = nn.Parameter(torch.randn(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        one = torch.arange(len(x)) % self.num_experts
        up = self.up if self.is_transposed else self.up.transpose(1, 2)
        return torch.einsum("bi,bio->bo", x, up[one]) + self.bias[one]


class Products(nn.Module):
    """Two matrices that are in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.second_bias = nn.Parameter(torch.randn(40, 1))
        self.first, self.second = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oh,bh->bo", self.second, torch.einsum("hi,bi->bh", self.first, x).tanh())


class Net(nn.Module):
    """A layer and a linear head."""

    def __init__(self, layer: nn.Module, call: Call, features: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(features, 3)
        self._call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._call(self.layer, x).tanh().flatten(1))


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Args:
        make: Makes one.
        x: Shape of an example.
        features: How many it gives for an example.
        layouts: Where the ranges of its weights lie.
        call: How it is called.
    """

    make: Callable[[], nn.Module]
    x: Axes
    features: int
    layouts: dict[str, Layout]
    call: Call = lambda layer, x: layer(x)

    def net(self) -> Net:
        torch.manual_seed(0)
        return Net(self.make(), self.call, self.features).double()

    def batch(self, seed: int = 1, size: int = 12) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, *self.x, generator=generator, dtype=torch.float64)
        return x, torch.randint(3, (size,), generator=generator)

    @property
    def on_chip(self) -> dict[str, Layout]:
        """The layouts by the names of the parameters of the network; all others are digital."""
        of_layer = {f"layer.{name}": layout for name, layout in self.layouts.items()}
        return of_layer | {"head.weight": plain(3, self.features)}


def conv1d_of_transformers() -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    return Conv1D(5, 4)


def attend(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x, x, x, need_weights=False)[0]


def two_axes(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x[..., :2], x[..., 2:])


class Scale(nn.Module):
    """A layer scale of shape (channels, 1, 1), and a weight in a layer of no known type."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.mix = nn.Parameter(torch.rand(4, 1, 1) + 0.5), nn.Parameter(torch.randn(4, 4))


def everything() -> nn.ModuleDict:
    """What lies on a chip, and much that does not: digital, frozen, quantised, complex, without entries."""
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 5),
            "narrow": nn.Linear(1, 5),
            "frozen": nn.Linear(4, 5),
            "attention": nn.MultiheadAttention(4, 2),
            "up": nn.ConvTranspose2d(4, 6, 2, groups=2),
            "embedding": nn.Embedding(6, 4),
            "norm": nn.LayerNorm([4, 5]),
            "batch": nn.BatchNorm1d(4),
            "scale": Scale(),
        }
    )
    with torch.no_grad():
        for name in ("norm", "batch"):
            model[name].weight.uniform_(0.5, 1.5)
            model[name].bias.uniform_(-0.5, 0.5)
    model["frozen"].requires_grad_(False)
    model["linear"].levels = nn.Parameter(torch.randint(0, 200, (8, 8), dtype=torch.uint8), requires_grad=False)
    model["linear"].waves = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))
    model["linear"].empty = nn.Parameter(torch.zeros(0, 4))
    return model


ON_CHIP = {
    *("linear.weight", "narrow.weight", "up.weight"),
    *("attention.in_proj_weight", "attention.out_proj.weight"),
}
"""What of `everything` is trained and lies on a chip, by the types of layers."""

BY_SHAPE = ON_CHIP - {"narrow.weight"} | {"embedding.weight", "norm.weight", "norm.bias", "scale.mix"}
"""The same where no model is known."""


KINDS = {
    "linear": Kind(lambda: nn.Linear(4, 5), (4,), 5, {"weight": plain(5, 4)}),
    "convolution": Kind(lambda: nn.Conv2d(2, 4, 2), (2, 3, 3), 16, {"weight": plain(4, 2, 2, 2)}),
    "grouped": Kind(lambda: nn.Conv2d(4, 6, 2, groups=2), (4, 3, 3), 24, {"weight": plain(6, 2, 2, 2)}),
    "transposed": Kind(lambda: nn.ConvTranspose2d(4, 6, 2), (4, 2, 2), 54, {"weight": transposed(4, 6, 1, 2, 2)}),
    "transposed-grouped": Kind(
        lambda: nn.ConvTranspose2d(4, 6, 2, groups=2), (4, 2, 2), 54, {"weight": transposed(4, 6, 2, 2, 2)}
    ),
    "transposed-depthwise": Kind(
        lambda: nn.ConvTranspose1d(4, 4, 3, groups=4), (4, 3), 20, {"weight": transposed(4, 4, 4, 3)}
    ),
    "attention": Kind(
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        (3, 4),
        12,
        {"in_proj_weight": Layout((3, 4, 4), (1, 2), (2,)), "out_proj.weight": plain(4, 4)},
        attend,
    ),
    "attention-unpacked": Kind(
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True),
        (3, 4),
        12,
        {
            "q_proj_weight": plain(4, 4),
            "k_proj_weight": plain(4, 3),
            "v_proj_weight": plain(4, 2),
            "out_proj.weight": plain(4, 4),
        },
        lambda layer, x: layer(x, x[..., :3], x[..., :2], need_weights=False)[0],
    ),
    "recurrent": Kind(
        lambda: nn.LSTM(4, 3, batch_first=True),
        (3, 4),
        9,
        {"weight_ih_l0": plain(12, 4), "weight_hh_l0": plain(12, 3)},
        lambda layer, x: layer(x)[0],
    ),
    "bilinear": Kind(lambda: nn.Bilinear(2, 3, 4), (5,), 4, {"weight": plain(4, 2, 3)}, two_axes),
    "experts": Kind(lambda: Experts(False), (4,), 5, {"up": Layout((4, 5, 4), (1, 2), (2,))}),
    "experts-transposed": Kind(lambda: Experts(True), (4,), 5, {"up": Layout((4, 4, 5), (1, 2), (1,))}),
    "conv1d-of-transformers": Kind(conv1d_of_transformers, (4,), 5, {"weight": Layout((4, 5), (0, 1), (0,))}),
}
"""Kinds of layers. Where axes of one size could be taken for each other, a test names the wrong reading."""

every_kind = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[with_transformers] if "transformers" in name else [])
        for name, kind in KINDS.items()
    ],
)
every_per = pytest.mark.parametrize("per", ["layer", "channel"])
