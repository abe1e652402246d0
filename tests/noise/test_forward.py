"""Layers with a `forward` of their own: noise goes on the weight that they multiply by, or they are refused."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, parametrize, prune

from samson.noise import Gaussian, deploy, generator_for, on_chip
from tests.conftest import equal, snapshot


class SamePadding(nn.Conv2d):
    """As timm's Conv2dSame: other padding, the weight as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ScaledStandardised(nn.Conv2d):
    """As timm's ScaledStdConv2d: each filter normalised, with a gain."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 1.5))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, self.gain.view(-1), training=True, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias)


class Centred(nn.Conv1d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Transposed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T.to(x.dtype)


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.5, self.bias)


class Clipped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


class Deaf(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Hidden(nn.Linear):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x) * mask


class Attention(nn.MultiheadAttention):
    def forward(self, *args: Tensor, **keywords: bool) -> tuple[Tensor, Tensor | None]:
        return super().forward(*args, **keywords)


class Recurrent(nn.GRU):
    def forward(self, *args: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(*args)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "other padding": lambda: SamePadding(3, 4, 3),
    "grouped": lambda: SamePadding(4, 4, 3, groups=4),
    "twice": lambda: Twice(3, 4),
    "transposed": lambda: Transposed(3, 4, dtype=torch.bfloat16),
    "attention": lambda: Attention(8, 2, kdim=3, vdim=5),
    "recurrent": lambda: Recurrent(3, 4),
    "weight norm": lambda: parametrizations.weight_norm(SamePadding(3, 4, 3)),
    "pruned": lambda: prune.l1_unstructured(SamePadding(3, 4, 3), "weight", 0.5),
}
CHANGED: dict[str, Callable[[], nn.Module]] = {
    "scaled and standardised": lambda: ScaledStandardised(3, 4, 3),
    "centred": lambda: Centred(3, 4, 3),
    "halved": lambda: Halved(3, 4),
    "clipped": lambda: Clipped(3, 4),
    "deaf": lambda: Deaf(3, 4),
    "another input": lambda: Hidden(3, 4),
    "weight norm": lambda: parametrizations.weight_norm(ScaledStandardised(3, 4, 3)),
    "pruned": lambda: prune.l1_unstructured(ScaledStandardised(3, 4, 3), "weight", 0.5),
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_layers_that_multiply_by_their_weight_go_on_the_chip(make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(make(), nn.ReLU())
    before, state = snapshot(model), torch.get_rng_state()
    assert on_chip(model)
    assert equal({k: v.float() for k, v in snapshot(model).items()}, {k: v.float() for k, v in before.items()})
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


@pytest.mark.parametrize("make", CHANGED.values(), ids=CHANGED)
def test_layers_that_change_their_weight_are_refused_unless_they_are_named(make: Callable[[], nn.Module]) -> None:
    layer = make()
    model = nn.Sequential(nn.Linear(2, 2), layer)
    before = snapshot(model)
    message = "`select` must leave out layers that change their weight .* but `1`, a .*name it or its"
    for select in (None, "*", (nn.Module,), ["0", "1*"], lambda name, layer: True):
        with pytest.raises(ValueError, match=message):
            deploy(model, Gaussian(0.1), select=select)
    kind = parametrize.type_before_parametrizations(layer)
    for select in (kind, "1", "1.weight", ["0", kind]):
        assert "1.weight" in [t.name for t in on_chip(model, select)]
    assert [t.name for t in on_chip(model, "0")] == ["0.weight"]
    assert equal(snapshot(model), before)


class Standard(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 1.5 * (weight - weight.mean((1, 2, 3), keepdim=True))


def test_a_parametrised_layer_has_noise_on_the_weight_that_the_chip_holds() -> None:
    """The mend that the error names."""
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)
    parametrize.register_parametrization(layer, "weight", Standard())
    weight = layer.weight.detach()
    with deploy(layer, Gaussian(0.1)).at(), torch.no_grad():
        noisy = Gaussian(0.1)(weight, generator_for(0, 0, "program", "weight"))
        torch.testing.assert_close(layer(x), F.conv2d(x, noisy, layer.bias))


def test_layers_of_quantisation_aware_training_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: it will move
        from torch.ao.nn import qat
        from torch.ao.quantization import get_default_qat_qconfig

        layer = qat.Linear(3, 4, qconfig=get_default_qat_qconfig("fbgemm"))
    before = snapshot(layer)
    with pytest.raises(ValueError, match="standardises, quantises or scales `weight`"):
        on_chip(nn.Sequential(layer))
    assert equal(snapshot(layer), before)  # its observer saw nothing
