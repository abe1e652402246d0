"""Buffers keep the state that the first pass left, whatever kind of layer they belong to and however it writes them."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from samson import SAM, Lookbehind, SharpnessAware, param_groups
from tests.conftest import equal


class Assigning(nn.BatchNorm1d):
    """Exchanges its running statistics instead of writing into them, as some implementations do."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean = 0.9 * self.running_mean + 0.1 * x.detach().mean(0)
            self.num_batches_tracked = self.num_batches_tracked + 1
        return x - self.running_mean


class Codebook(nn.Module):
    """Entries that follow the mean of what falls on them, as in VQ-VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(4, 6))
        self.register_buffer("counts", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), self.entries).argmin(1)
        if self.training:
            one_hot = nn.functional.one_hot(nearest, 4).float()
            self.counts.mul_(0.9).add_(one_hot.sum(0), alpha=0.1)
            self.entries.data.lerp_(one_hot.t() @ x.detach() / (one_hot.sum(0)[:, None] + 1), 0.1)
        return x + (self.entries[nearest] - x).detach()


class Observed(nn.Module):
    """Fake quantisation by observed ranges, which follow also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("max_val", torch.tensor(0.0))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.max_val.copy_(torch.maximum(self.max_val, x.detach().abs().max()))
        step = self.max_val / 7
        return x + ((x / step).round() * step - x).detach()


def spectral(old: bool) -> nn.Module:
    layer = nn.Linear(6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.spectral_norm(layer) if old else nn.utils.parametrizations.spectral_norm(layer)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(6),
    "frozen batch norm": lambda: nn.BatchNorm1d(6).eval(),
    "assigned": lambda: Assigning(6),
    "spectral norm": lambda: spectral(old=False),
    "spectral norm by hooks": lambda: spectral(old=True),
    "codebook": Codebook,
    "observer": Observed,
}


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), LAYERS[kind](), nn.Linear(6, 3))


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("wrap", [SharpnessAware, Lookbehind])
@pytest.mark.parametrize("kind", LAYERS)
def test_buffers_are_those_of_the_first_pass(kind: str, wrap: type) -> None:
    model = make(kind)
    x = torch.randn(16, 5)
    plain = copy.deepcopy(model)
    plain(x)
    optimizer = wrap(torch.optim.SGD(param_groups(model), lr=0.1), SAM(rho=2.0))
    objects = dict(model.named_buffers())
    passes: list[dict[str, Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        passes.append(buffers(model))
        return loss

    optimizer.step(closure)
    assert equal(buffers(model), buffers(plain))
    assert kind == "frozen batch norm" or not equal(passes[1], passes[0])  # a second pass would be noticed
    if kind != "assigned":
        assert all(objects[name] is buffer for name, buffer in model.named_buffers())


def test_a_pattern_says_which_buffers_are_held() -> None:
    for pattern, held in (("*", True), ("1.max_val", True), ("", False)):
        model, x = make("observer"), torch.randn(16, 5)
        base, wrapped = torch.optim.SGD(param_groups(model), lr=0.1), nn.DataParallel(model)
        optimizer = SharpnessAware(base, SAM(rho=20.0), hold=pattern, model=wrapped)
        model(x).square().mean().backward()
        before = buffers(model)
        with optimizer.perturbed():
            model(10 * x).square().mean().backward()
        assert equal(buffers(model), before) == held
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM(), hold="*running_*")
    model(x).square().mean().backward()
    with (
        pytest.raises(ValueError, match=r"`hold` must match .* got '\*running_\*', which none of 1 has.*'1.max_val'"),
        optimizer.perturbed(),
    ):
        pass


@pytest.mark.parametrize(("listed", "pattern"), [(False, "1.max_val"), (True, "?.1.max_val")])
def test_several_models_keep_their_names(listed: bool, pattern: str) -> None:
    """A list of the user's own is one model, with numbers before its names."""
    models, x = [make("observer"), make("observer")], torch.randn(16, 5)
    base = torch.optim.SGD([group for model in models for group in param_groups(model)], lr=0.1)
    optimizer = SharpnessAware(base, SAM(), hold=pattern, model=nn.ModuleList(models) if listed else None)
    sum(model(x).square().mean() for model in models).backward()
    before = [buffers(model) for model in models]
    with optimizer.perturbed():
        sum(model(10 * x).square().mean() for model in models).backward()
        assert not any(equal(buffers(model), held) for model, held in zip(models, before, strict=True))
    assert all(equal(buffers(model), held) for model, held in zip(models, before, strict=True))


def test_buffers_that_no_layer_can_write_are_left_alone() -> None:
    model = make("batch norm")
    model[1].register_buffer("expanded", torch.ones(1).expand(6))
    model[1].register_buffer("lazy", nn.parameter.UninitializedBuffer())
    with torch.inference_mode():
        model[1].register_buffer("inferred", torch.ones(6))
    before = dict(model.named_buffers())
    optimizer = SharpnessAware(torch.optim.SGD(param_groups(model), lr=0.1), SAM())
    model(torch.randn(16, 5)).square().mean().backward()
    with optimizer.perturbed():
        model[1].inferred = model[1].inferred + 1  # exchanged
        model(torch.randn(16, 5)).square().mean().backward()
    assert all(before[name] is buffer for name, buffer in model.named_buffers())
    assert int(model[1].num_batches_tracked) == 1
