"""Small layers of every kind that goes on a chip, with their inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import with_transformers
from tests.noise.products import Products


class Bypass(nn.Module):
    """Takes the weight of its second layer without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.taken = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.called(self.called(x)), self.taken.weight)


def data(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_transformers() -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(3, 11)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(11, 3), (2, 4, 11)),
    "linear-alone": (lambda: nn.Linear(11, 3, bias=False), (11,)),
    "conv1d-grouped": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (2, 4, 11)),
    "conv1d-same": (lambda: nn.Conv1d(2, 3, 4, padding="same", bias=False), (3, 2, 7)),
    "conv2d-circular": (
        lambda: nn.Conv2d(3, 4, (3, 2), padding=(1, 2), padding_mode="circular", stride=(1, 2)),
        (2, 3, 5, 6),
    ),
    "conv2d-reflect": (lambda: nn.Conv2d(4, 4, 3, groups=2, padding_mode="reflect", padding=1), (2, 4, 5, 5)),
    "conv2d-replicate": (lambda: nn.Conv2d(2, 2, 2, padding_mode="replicate", padding=1), (2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, dilation=(1, 2, 1)), (1, 2, 3, 4, 3)),
    "transposed1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, dilation=2, groups=2),
        (2, 4, 5),
    ),
    "transposed2d": (lambda: nn.ConvTranspose2d(3, 2, (3, 2), stride=(1, 2), padding=(2, 0), bias=False), (2, 3, 3, 4)),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2, dilation=(1, 2, 1)), (1, 2, 2, 3, 2)),
    "transposed-cut": (lambda: nn.ConvTranspose1d(2, 3, 2, padding=2), (4, 2, 9)),  # more than the kernel reaches
    "transposed2d-alone": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 3, 2)),
    "conv1d-of-transformers": (of_transformers, (2, 4, 11)),
}
KINDS = [pytest.param(k, marks=[with_transformers] if "transformers" in k else []) for k in LAYERS]
every_layer = pytest.mark.parametrize("kind", KINDS)
even_kernels = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def made(kind: str) -> tuple[nn.Module, Tensor]:
    """A layer in float64 of which one output has no weights, and its inputs."""
    make, shape = LAYERS[kind]
    layer, x = make().double(), data(*shape)
    with torch.no_grad():
        layer.weight.copy_(data(*layer.weight.shape, seed=3) / 3)
        axis = int(getattr(layer, "transposed", "transformers" in kind))
        layer.weight.select(axis, 1).zero_()
    return layer, x


def products_of(layer: nn.Module, x: Tensor) -> Products:
    axes = len(layer.kernel_size) + 1 if hasattr(layer, "kernel_size") else 1
    return Products(layer, tuple(x.shape[-axes:]))


def unbatched(x: Tensor, y: Tensor) -> Tensor:
    """The output of one example in the shape of the layer's own."""
    return y.squeeze(0) if y.ndim > x.ndim else y
